"""What the plane and the relay say to each other over the Unix socket.

A frame is four bytes of length and a msgpack array of commands; a command is an array whose first item is its
name. Commands are executed in order and, but for those with a token, not answered. All that describe state
(`open`, `remote`, `link`, `bridge`, `mix`, `fork`, `fence`) may be repeated: to take up what a relay already carries
and to build it anew are the same commands.

From the client:
    hello version                               first, once
    stock host count                            bind up to `count` lines for me, and tell me which (`spares`)
    open line                                   take a line into use; it is bound if it was not
    remote line host port rtcp_host rtcp_port opaque sends formats [suite own told]
                                                where its peer wants media; sends: audio will come from it;
                                                formats: what it takes (`media.rtp.formats`); SRTP: its suite, the key
                                                that it encrypts with, and the one with which it expects what it gets
    link line other                             what one receives the other sends; replaces earlier links
    bridge line other spoken other_spoken       the same for peers that did not negotiate with each other; `spoken`:
                                                the formats in which its peer sends (of whom it had before)
    mix [[line, spoken]…]                       they hear each other, until they are linked; G.711
    fork line standby                           what it receives goes to `standby`, too; 0 ends it
    fence line                                  count and drop what it receives
    watch line group timeout                    its peer belongs to `group`; timeout: see `silent`, 0 for never
    comfort group on                            who hears a peer of `group` hears comfort audio while nothing comes
    keep line session place seconds             so much of what its peer says is kept, under these names; 0: no more
    kept token session since {place: at}        a piece of what came later than `since`, or than is said of the place
    close line
    query token [line…]
    counters token
    sync token
    release token                               the lines of clients that are gone: nobody will open them again
    ping                                        is answered as soon as it is read, before commands that wait
From the relay:
    hello version instance [[family, address, lines]…] in_use [suite…]
                                                suite: of SRTP, that it can terminate
    spares host asked [line…]                   fewer than asked: the range is exhausted
    failed line reason                          an `open` or `remote` that could not be done
    flows group active silent silent_s last at  see `media.api.FlowsSilent`
    silent line seconds                         nothing came on a watched line for longer than its timeout
    stats token [[line, packets, octets, last, host, port, lost, first]…]
    kept token {place: [[at, packet]…]}         nothing: that was all
    counters token {name: count}
    sync token
    released token count
    pong

A line's number is `host << 16 | port`: host is an index into the relay's addresses, port that of RTP.
"""

from __future__ import annotations

from typing import Any

import msgpack

VERSION = 8
MAX_FRAME = 4 * 1024 * 1024

Command = list[Any]


class ProtocolError(Exception):
    """The other side does not speak our protocol; the connection is of no further use."""


def frame(commands: list[Any]) -> bytes:
    payload: bytes = msgpack.packb(commands)
    return len(payload).to_bytes(4, "big") + payload


class Frames:
    """Cuts a byte stream into commands."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[Command]:
        data = self._pending + data if self._pending else data
        commands: list[Command] = []
        at = 0
        while len(data) - at >= 4:
            length = int.from_bytes(data[at : at + 4], "big")
            if length > MAX_FRAME:
                raise ProtocolError(f"frame of {length} bytes")
            if len(data) - at - 4 < length:
                break
            commands += _commands(data[at + 4 : at + 4 + length])
            at += 4 + length
        self._pending = data[at:]
        return commands


def _commands(payload: bytes) -> list[Command]:
    try:
        commands = msgpack.unpackb(payload)
    except Exception as error:  # msgpack raises a dozen unrelated types on bad input
        raise ProtocolError(f"bad msgpack: {error!r}") from error
    if not isinstance(commands, list) or not all(
        isinstance(command, list) and command and isinstance(command[0], str) for command in commands
    ):
        raise ProtocolError("a frame must be an array of commands")
    return commands
