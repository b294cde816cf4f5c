"""One Asterisk process: its configuration from the templates in `conf/`, its start, its command line, its end."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxy.demo.ping import options, wait_for_options
from proxy.demo.process import Process
from proxy.net.api import Address

TEMPLATES = Path(__file__).resolve().parent / "conf"
ROOT_FOLDER = Path(".cache/asterisk-root")  # where `make asterisk` puts it

SIP_PORT = 5060
AMI_PORT = 5038
ARI_PORT = 8088


class Asterisk(Process):
    """A running Asterisk called `name` on `host`, with everything it reads or writes in `folder`.

    `recordings` may be a folder that another instance shares. `sbc_net` is the network that its callers come from.
    `additions` are lines put at the end of a configuration file, by the file's name. `tone_hz` is what the number
    `tone` plays, so that a caller knows whom it hears.
    """

    def __init__(
        self,
        name: str,
        host: str,
        folder: Path,
        *,
        root: Path = ROOT_FOLDER,
        rtp_ports: tuple[int, int] = (10000, 11999),
        recordings: Path | None = None,
        sbc_net: str = "127.0.0.0/8",
        additions: Mapping[str, str] | None = None,
        tone_hz: int = 1000,
    ) -> None:
        root, folder = root.resolve(), folder.resolve()
        self.name = name
        self.address: Address = (host, SIP_PORT)
        self.folder = folder
        self.recordings = recordings or folder / "spool" / "monitor"
        self.command: Sequence[str | Path] = [root / "bin/asterisk", "-C", folder / "etc/asterisk.conf"]
        for part in ("etc", "run", "log", "spool/recording", "spool/tmp", "lib/moh", "key/keys"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self.recordings.mkdir(parents=True, exist_ok=True)
        values = {
            "NAME": name,
            "IP": host,
            "BASE": folder,
            "ROOT": root,
            "REC": self.recordings,
            "SIP_PORT": SIP_PORT,
            "AMI_PORT": AMI_PORT,
            "ARI_PORT": ARI_PORT,
            "RTP_START": rtp_ports[0],
            "RTP_END": rtp_ports[1],
            "SBC_NET": sbc_net,
            "TONE_HZ": tone_hz,
            # Must differ between instances, or ARI and metrics of two backends look like one.
            "EID": "02:00:" + ":".join(f"{int(part):02x}" for part in host.split(".")),
            "MODDIR": next(root.glob("usr/lib/*/asterisk/modules")),
        }
        for template in TEMPLATES.glob("*.conf"):
            text = template.read_text()
            for key, value in values.items():
                text = text.replace(f"@{key}@", str(value))
            (folder / "etc" / template.name).write_text(text + (additions or {}).get(template.name, ""))
        argv = [*self.command, "-f", "-n"]  # -f: in the foreground, as our child
        super().__init__(argv, folder / "log/console", cwd=folder)

    def start(self) -> None:
        with contextlib.suppress(OSError):
            options(self.address, timeout_s=0.05)
            raise RuntimeError(f"something answers on {self.address} already")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.folder / "run/asterisk.ctl")  # left behind by a killed one
        super().start()

    def wait_ready(self, timeout_s: float = 20.0) -> float:
        """Seconds until this very instance answers OPTIONS with 200."""
        try:
            return wait_for_options(
                self.address,
                timeout_s=timeout_s,
                alive=lambda: self.running,
                accept=lambda pong: pong.status == 200 and f"Server: {self.name}\r\n" in pong.text,
            )
        except TimeoutError as error:
            raise RuntimeError(f"{self.name} does not answer ({error}):\n{self.log_tail()}") from error

    def cli(self, command: str, timeout_s: float = 10.0) -> str:
        """What the console says to `command`."""
        argv = [str(part) for part in (*self.command, "-rx", command)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False).stdout

    def channels(self) -> list[str]:
        """The names of the SIP channels that are there."""
        lines = self.cli("core show channels concise").splitlines()
        return [line.split("!", 1)[0] for line in lines if line.startswith("PJSIP/")]


def pair(folder: Path, hosts: Sequence[str], *, names: Sequence[str] = ("as1", "as2")) -> list[Asterisk]:
    """Two instances (or as many as there are hosts) that share a folder of recordings, started and ready."""
    running: list[Asterisk] = []
    try:
        for place, (name, host) in enumerate(zip(names, hosts, strict=True)):
            ports = (12000 + 2000 * place, 13999 + 2000 * place)
            running.append(Asterisk(name, host, folder / name, rtp_ports=ports, recordings=folder / "recordings"))
        for asterisk in running:
            asterisk.wait_ready()
    except BaseException:
        for asterisk in running:
            asterisk.stop()
        raise
    return running
