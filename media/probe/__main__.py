"""The probe process: `python -m media.probe --host … --media-host … --ports 29980-29999`. Orders come in at stdin,
outcomes go out at stdout, msgpack maps one after the other; it ends with its stdin."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import msgpack

from media.probe.call import Outcome, SyntheticCall

READ_BYTES = 65536


def _orders(unpacker: Any) -> Iterator[tuple[int, SyntheticCall]]:
    for order in unpacker:
        yield order.pop("number"), SyntheticCall(**order)


def _serve(place: Any, out: int) -> None:
    import pjsua2 as pj  # not installed everywhere

    from media.probe.phone import Phone

    def tell(number: int, outcome: Outcome) -> None:
        os.write(out, msgpack.packb({"number": number, **asdict(outcome)}))

    def refuse(number: int, error: str) -> None:
        os.write(out, msgpack.packb({"number": number, "failed": error}))

    try:
        phone = Phone(place)
    except pj.Error as error:
        sys.exit(f"media.probe: {error.reason}")
    os.write(out, msgpack.packb({"ready": os.getpid()}))
    unpacker = msgpack.Unpacker()
    os.set_blocking(0, False)
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                data = os.read(0, READ_BYTES)
                if not data:
                    return
                unpacker.feed(data)
            for number, order in _orders(unpacker):
                try:
                    phone.place(order, partial(tell, number))
                except pj.Error as error:
                    refuse(number, error.info())
            phone.turn()
    finally:
        phone.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m media.probe", description=__doc__)
    parser.add_argument("--host", action="append", required=True, help="local address of SIP, once per family")
    parser.add_argument("--media-host", required=True, help="local address of RTP")
    parser.add_argument("--ports", required=True, metavar="LOW-HIGH", help="of RTP")
    parser.add_argument("--agent", default="aqueduct", help="User-Agent")
    options = parser.parse_args()
    low, _, high = options.ports.partition("-")
    out = os.dup(1)
    os.dup2(2, 1)  # what PJSIP prints must not get between the messages
    try:
        from media.probe.endpoint import Place
    except ImportError as error:
        sys.exit(f"media.probe: {error}")
    place = Place(tuple(options.host), options.media_host, range(int(low), int(high) + 1), agent=options.agent)
    try:
        _serve(place, out)
    except (BrokenPipeError, KeyboardInterrupt):  # whom to tell is gone
        sys.exit(1)


if __name__ == "__main__":
    main()
