"""Settings of power: how a backend is started and stopped. One of four drivers, each with what it needs to know.

Secrets (of the environment of a command, in headers of a hook) are never printed; they come from the environment or
from files, as every scalar may (`${NAME}`, `${file:/run/secrets/name}`).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from proxy.config.section import Section
from proxy.config.values import CommandValue, ContainerValue, UnitValue, UrlValue


class ExecSettings(Section):
    """Commands on this machine. They do not go through a shell, and end when the order is carried out: what they leave
    running must have left their session. What everybody may read on a command line is no place for a secret."""

    start: CommandValue
    """Starts it. Must do no harm to one that runs already."""
    stop: CommandValue
    """Stops it. Must do no harm where nothing runs."""
    restart: CommandValue | None = None
    """null: stop, then start."""
    state: CommandValue | None = None
    """Ends with 0 when it runs and with 3 when it does not, as init scripts do; null: nobody knows."""
    environment: dict[str, SecretStr] = {}
    """Variables for the commands, besides PATH, HOME, LANG, TZ and AQUEDUCT_BACKEND."""
    timeout_s: float = Field(default=30, ge=0.1, le=600)
    """A command that takes longer is killed, with all that it has started."""


class SystemdSettings(Section):
    """A unit of systemd, over D-Bus."""

    unit: UnitValue
    """Name of the unit."""
    bus: str = "unix:path=/run/dbus/system_bus_socket"
    """D-Bus address of the bus that systemd is on."""
    timeout_s: float = Field(default=90, ge=0.1, le=600)
    """Within this a job must be done."""


class DockerSettings(Section):
    """A container of a Docker engine, which is there already; it is started and stopped, never made."""

    container: ContainerValue
    """Its name or id."""
    socket: Path = Path("/var/run/docker.sock")
    """The engine's socket."""
    stop_s: int = Field(default=10, ge=0, le=600)
    """So long it has to stop by itself."""
    timeout_s: float = Field(default=30, ge=0.1, le=600)
    """Within this, and stop_s, the engine must have answered."""


class HookSettings(Section):
    """Requests to somebody who can do it: a hypervisor, a cloud, an orchestrator. Each is a POST with a JSON object
    (`action`, `backend`, `node`), and a 2xx says that it is done."""

    start: UrlValue
    """URL that starts it."""
    stop: UrlValue
    """URL that stops it."""
    restart: UrlValue | None = None
    """null: stop, then start."""
    state: UrlValue | None = None
    """URL that tells, on GET, a JSON object with `state`: running, stopped, changing or unknown; null: nobody knows."""
    headers: dict[str, SecretStr] = {}
    """More headers of the requests, like Authorization."""
    timeout_s: float = Field(default=30, ge=0.1, le=600)
    """Within this it must have answered."""


class PowerSettings(Section):
    """How it is started and stopped: one of exec, systemd, docker and http."""

    exec: ExecSettings | None = None
    """By commands."""
    systemd: SystemdSettings | None = None
    """By systemd."""
    docker: DockerSettings | None = None
    """By a Docker engine."""
    http: HookSettings | None = None
    """By requests to somebody else."""
    ready_timeout_s: float = Field(default=25, ge=1, le=600)
    """From the order to start, within this it must be ready."""

    @property
    def kinds(self) -> list[str]:
        return [kind for kind in ("exec", "systemd", "docker", "http") if getattr(self, kind) is not None]
