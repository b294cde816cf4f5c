"""The exec driver: commands of this machine start and stop the backend. It is the one that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.backends.power.api import PowerError, Running
from proxy.backends.power.command import CommandError, Done, run
from proxy.config import ExecSettings

NOT_RUNNING = 3  # Linux Standard Base, exit codes of init scripts: "program is not running"


class ExecDriver:
    kind = "exec"

    def __init__(self, settings: ExecSettings, environment: Mapping[str, str]) -> None:
        """`environment`: what every command is told besides what the operator has set."""
        secrets = {name: value.get_secret_value() for name, value in settings.environment.items()}
        self._settings = settings
        self._environment = {**environment, **secrets}
        self._secrets = sorted((each for each in secrets.values() if each), key=len, reverse=True)

    async def start(self) -> str:
        return await self._order(self._settings.start)

    async def stop(self) -> str:
        return await self._order(self._settings.stop)

    async def restart(self) -> str:
        if self._settings.restart is not None:
            return await self._order(self._settings.restart)
        await self.stop()
        return await self.start()

    async def state(self) -> Running:
        if self._settings.state is None:
            return Running.UNKNOWN
        done = await self._run(self._settings.state)
        if done.code not in (0, NOT_RUNNING):
            raise PowerError(self._told(self._settings.state, done))
        return Running.STOPPED if done.code else Running.RUNNING

    async def close(self) -> None:
        return

    async def _order(self, argv: Sequence[str]) -> str:
        done = await self._run(argv)
        if done.code:
            raise PowerError(self._told(argv, done))
        return self._without_secrets(done.last_line)

    async def _run(self, argv: Sequence[str]) -> Done:
        try:
            return await run(argv, self._environment, self._settings.timeout_s)
        except CommandError as error:
            raise PowerError(self._without_secrets(str(error))) from None

    def _told(self, argv: Sequence[str], done: Done) -> str:
        how = f"ended with {done.code}" if done.code > 0 else f"was killed by signal {-done.code}"
        said = f": {done.last_line}" if done.output else ""
        return self._without_secrets(f"{argv[0]} {how}{said}")

    def _without_secrets(self, text: str) -> str:
        """A command may print what it was told."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text
