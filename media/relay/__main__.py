"""The relay process: `python -m media.relay --socket PATH --host 192.0.2.1 --ports 30000-39999`."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import random
import resource
import signal
import socket
import sys
from pathlib import Path

from media.relay.latch import LatchPolicy
from media.relay.relay import Host, Relay
from media.rtp.filling import prompt


def _port_range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high)


def _listen(path: str) -> socket.socket:
    """A Unix socket at `path`, for its owner alone; a stale one of a relay that died is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.path.exists(path):
        try:
            listener.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            sys.exit(f"a relay is running at {path}")
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(16)
    return listener


def _hosts(texts: list[str], low: int, high: int) -> list[Host]:
    hosts = []
    for text in texts:
        bind, _, advertised = text.partition("=")
        hosts.append(Host(bind, advertised or bind, low, high))
    return hosts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m media.relay", description=__doc__)
    parser.add_argument("--socket", required=True, metavar="PATH", help="control socket (Unix)")
    parser.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="BIND[=ADVERTISED]",
        help="local address of media, and what SDP says instead of it; once per address family",
    )
    parser.add_argument("--ports", type=_port_range, default=(30000, 39999), metavar="LOW-HIGH")
    parser.add_argument("--latch", type=LatchPolicy, default=LatchPolicy.ADDRESS, choices=list(LatchPolicy))
    parser.add_argument("--orphan-s", type=float, default=60.0, help="life of lines whose client is gone")
    parser.add_argument("--exit-when-idle", action="store_true", help="end when no client and no line is left")
    parser.add_argument(
        "--prompt", type=Path, metavar="WAV", help="heard instead of comfort noise: 8 kHz, mono, 16 bits"
    )
    parser.add_argument("--prepare-mixing", action="store_true", help="load numpy now instead of at the first mix")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        heard = prompt(options.prompt) if options.prompt else None
        hosts = _hosts(options.host, *options.ports)
        listener = _listen(options.socket)
    except (OSError, ValueError) as error:
        sys.exit(f"relay: {error}")
    if options.prepare_mixing:
        importlib.import_module("media.relay.mixer")
    relay = Relay(
        hosts,
        listener,
        random.SystemRandom(),
        policy=options.latch,
        orphan_s=options.orphan_s,
        exit_when_idle=options.exit_when_idle,
        prompt=heard,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with contextlib.suppress(PermissionError):
        # Media goes before signalling, where we may say so: a packet that waits is heard.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        relay.run()
    finally:
        os.unlink(options.socket)


if __name__ == "__main__":
    main()
