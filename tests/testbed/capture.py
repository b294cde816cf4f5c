"""What a listener received, as a capture file for readers that are not ours, and what tshark says of it.

Nothing is captured on a wire, which would need a permission: the packets are written with headers of IP and UDP around
them (libpcap's format, raw IPv4).
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_MAGIC_NS = 0xA1B23C4D
_RAW_IP = 101
RTP_PORT, RTCP_PORT = 40000, 40001
_SOURCE, _LISTENER = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")


@dataclass(frozen=True)
class Received:
    at: float
    data: bytes
    port: int = RTP_PORT


def write(file: Path, packets: Iterable[Received]) -> Path:
    with file.open("wb") as capture:
        capture.write(struct.pack("=IHHiIII", _MAGIC_NS, 2, 4, 0, 0, 65535, _RAW_IP))
        for packet in sorted(packets, key=lambda packet: packet.at):
            length = 28 + len(packet.data)
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, 17, 0, _SOURCE, _LISTENER)
            head += struct.pack("!HHHH", packet.port, packet.port, 8 + len(packet.data), 0)
            seconds, fraction = divmod(packet.at, 1.0)
            capture.write(struct.pack("=IIII", int(seconds), int(fraction * 1e9), length, length))
            capture.write(head + packet.data)
    return file


def tshark(file: Path, *arguments: str) -> list[str]:
    """Lines of its output."""
    if shutil.which("tshark") is None:
        raise RuntimeError("no tshark; `make test-integration` installs it")
    command = ["tshark", "-r", str(file), "-d", f"udp.port=={RTP_PORT},rtp", "-d", f"udp.port=={RTCP_PORT},rtcp"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def fields(file: Path, what: str, *names: str) -> list[list[str]]:
    """These fields of every packet that matches the display filter `what`."""
    wanted = [argument for name in names for argument in ("-e", name)]
    return [line.split("\t") for line in tshark(file, "-Y", what, "-T", "fields", *wanted)]


@dataclass(frozen=True)
class RtpStream:
    """A row of tshark's RTP analysis (`-z rtp,streams`)."""

    ssrc: int
    packets: int
    lost: int
    problems: bool


def rtp_streams(file: Path) -> list[RtpStream]:
    streams = []
    for line in tshark(file, "-q", "-z", "rtp,streams"):
        words = line.split()
        ssrc = next((place for place, word in enumerate(words) if word.startswith("0x")), None)
        if ssrc is not None:
            # … SSRC Payload Packets Lost (share) times… and an X where something is wrong
            percent = next(place for place, word in enumerate(words) if word.startswith("("))
            streams.append(
                RtpStream(int(words[ssrc], 16), int(words[percent - 2]), int(words[percent - 1]), words[-1] == "X")
            )
    return streams
