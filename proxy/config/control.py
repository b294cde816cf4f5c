"""Settings of the control session with a backend."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from proxy.config.section import Section
from proxy.config.values import HostValue


class ControlSettings(Section):
    """Over what a backend says what it is doing (docs/control.md)."""

    protocol: Literal["ami", "ari", "esl"]
    """AMI or ARI of Asterisk, or the event socket of FreeSWITCH."""
    host: HostValue | None = None
    """null: that of its SIP address."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """null: 5038 (AMI), 8088 (ARI) or 8021 (ESL)."""
    user: str = ""
    """Name to log in with; of ESL only where a user of its directory is to be."""
    secret: SecretStr = Field(min_length=1)
    """Its secret or password; `${NAME}` and `${file:/run/secrets/name}` keep it out of this file."""
