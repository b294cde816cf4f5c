"""Settings of what a backend is given, and of what must be the same on all of a pool."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from proxy.config.section import Section
from proxy.config.values import CommandValue, UrlValue

PLACE_NAME = r"[A-Z][A-Z0-9_]*"


class ProvisionSettings(Section):
    """What is written before it is started by us (docs/power.md). Files of this machine, or of one mounted here."""

    templates: dict[str, Path] = {}
    """Files to write, each with the template that it is made of: `@NAME@` in it stands for the value of that name."""
    values: dict[str, SecretStr] = {}
    """The values. `${NAME}` and `${file:/run/secrets/name}` keep secrets out of this file."""
    status_file: Path | None = None
    """A JSON file with the calls that live at that moment; the command of an exec driver gets its path as
    AQUEDUCT_STATUS."""


class ParitySettings(Section):
    """What is compared with the primary, and must be there. Names are those by which both call the same thing."""

    files: dict[str, Path] = {}
    """Files of this machine, or of one mounted here, by name."""
    command: CommandValue | None = None
    """A command that prints lines as sha256sum does: a checksum, two spaces, a name."""
    url: UrlValue | None = None
    """A URL where such lines are."""
    required: tuple[Path, ...] = ()
    """Files that must be there, readable and not empty: licences, keys, secrets. They are not compared."""
    interval_s: float = Field(default=60, ge=0.1, le=86400)
    """Time between two looks."""
    timeout_s: float = Field(default=10, ge=0.1, le=600)
    """Within this the command, or the URL, must have answered."""

    @property
    def sources(self) -> list[str]:
        return [key for key in ("files", "command", "url", "required") if getattr(self, key)]
