"""Rules that everything a host puts on the wire must keep, whatever happens around it.

A checker that reads datagrams with a parser of its own: it shares no code with what it judges. One rule is one
method; each names its RFC. What breaks a rule is collected in `violations`, with time and message.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from proxy.net.api import Address
from tests.sim.trace import is_probe

_TAG = re.compile(rb";\s*tag=([^;>\s]+)", re.IGNORECASE)
_BRANCH = re.compile(rb";\s*branch=([^;,\s]+)", re.IGNORECASE)
_COMPACT = {b"v": b"via", b"f": b"from", b"t": b"to", b"i": b"call-id", b"c": b"content-type"}

Dialog = tuple[bytes, bytes, bytes]  # Call-ID, tag of the sender, tag of its peer
Side = tuple[bytes, bytes]  # Call-ID, tag of the sender


class Message:
    """What the rules need of one SIP message. From and To are read as the sender's and its peer's."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.data = data
        self.start = lines[0]
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            key = name.strip().lower()
            headers.setdefault(_COMPACT.get(key, key), value.strip())
        self.headers = headers
        self.status = int(lines[0][8:11]) if lines[0].startswith(b"SIP/2.0 ") else 0
        number, _, self.method = headers[b"cseq"].partition(b" ")
        self.cseq = int(number)
        self.call_id = headers[b"call-id"]
        from_tag, to_tag = self._tag(b"from"), self._tag(b"to")
        self.from_tag = from_tag
        self.own_tag, self.peer_tag = (to_tag, from_tag) if self.status else (from_tag, to_tag)
        branch = _BRANCH.search(headers[b"via"])
        self.branch = branch[1] if branch else b""
        self.sdp = self.body if headers.get(b"content-type", b"").lower().startswith(b"application/sdp") else b""

    def _tag(self, header: bytes) -> bytes:
        tag = _TAG.search(self.headers[header].rpartition(b">")[2])
        return tag[1] if tag else b""

    @property
    def side(self) -> Side:
        return (self.call_id, self.own_tag)

    @property
    def dialog(self) -> Dialog:
        return (self.call_id, self.own_tag, self.peer_tag)

    def __str__(self) -> str:
        text = b"%b | %d %b | %b" % (self.start, self.cseq, self.method, self.call_id)
        return text.decode("utf-8", "replace")


class Wire:
    """Judges what the host at `address` sends."""

    def __init__(self, address: str, now: Callable[[], float]) -> None:
        self.address = address
        self.violations: list[str] = []
        self.sent: Counter[str] = Counter()  # new messages by kind
        self.repeated = 0
        self._now = now
        self._requests: dict[tuple[bytes, bytes], bytes] = {}  # (branch, method) -> the datagram
        self._cseq: dict[Side, int] = {}
        self._invites: dict[Side, set[int]] = {}
        self._byes: set[Dialog] = set()
        self._final: dict[tuple[bytes, bytes, bytes, int], Message] = {}  # transaction -> its answer
        self._told: dict[Side, tuple[bytes, int, bytes]] = {}  # o= id and version, what followed it

    def __call__(self, source: Address, target: Address, data: bytes) -> None:
        if source[0] != self.address or is_probe(data) or b"SIP/2.0" not in data[:4096]:
            return
        message = Message(data)
        if message.status:
            self._response(message)
        else:
            self._request(message)

    def _breaks(self, rule: str, message: Message) -> None:
        self.violations.append(f"t={self._now():.6f} {rule}: {message}")

    def _request(self, message: Message) -> None:
        method = message.method
        key = (message.branch, method)
        first = self._requests.get(key)
        if first is not None:
            self.repeated += 1
            if first != message.data:
                self._breaks("a retransmission differs from the first (RFC 3261 §17.1.1.2)", message)
            return
        self._requests[key] = message.data
        self.sent[method.decode()] += 1
        if method == b"ACK":
            self._ack(message)
        elif method == b"CANCEL":
            self._cancel(message)
        else:
            self._numbered(message)
            if message.dialog in self._byes:
                self._breaks("a request after our BYE (RFC 3261 §15)", message)
            if method == b"BYE":
                self._byes.add(message.dialog)
        if message.sdp:
            self._described(message)

    def _numbered(self, message: Message) -> None:
        last = self._cseq.get(message.side)
        if last is not None and message.cseq <= last:
            self._breaks(f"CSeq does not rise above {last} (RFC 3261 §12.2.1.1)", message)
        self._cseq[message.side] = max(last or 0, message.cseq)
        if message.method == b"INVITE":
            self._invites.setdefault(message.side, set()).add(message.cseq)

    def _ack(self, message: Message) -> None:
        if message.cseq not in self._invites.get(message.side, ()):
            self._breaks("an ACK whose CSeq is of no INVITE (RFC 3261 §13.2.2.4)", message)

    def _cancel(self, message: Message) -> None:
        if (message.branch, b"INVITE") not in self._requests:
            self._breaks("a CANCEL with the branch of no INVITE (RFC 3261 §9.1)", message)

    def _response(self, message: Message) -> None:
        key = (message.call_id, message.from_tag, message.method, message.cseq)
        final = self._final.get(key)
        if final is not None:
            if final.data == message.data:
                self.repeated += 1
            elif message.status < 200:
                self._breaks(f"a provisional response after {final.status} (RFC 3261 §13.3.1.4)", message)
            elif 482 not in (final.status, message.status):  # a copy that came another way is merged (§8.2.2.2)
                self._breaks(f"another final response after {final.status} (RFC 3261 §17.2)", message)
            return
        if message.status >= 200:
            self._final[key] = message
            self.sent[f"{message.method.decode()} {message.status}"] += 1
        if message.sdp:
            self._described(message)

    def _described(self, message: Message) -> None:
        """RFC 3264 §8: the id stays, the version rises by one when, and only when, the rest has changed."""
        lines = message.sdp.split(b"\r\n")
        origin, rest = lines[1].split(), b"\r\n".join(lines[2:])
        identity, version = origin[0] + b" " + origin[1], int(origin[2])
        told = self._told.get(message.side)
        self._told[message.side] = (identity, version, rest)
        if told is None:
            return
        old_identity, old_version, old_rest = told
        if identity != old_identity:
            self._breaks(f"o= was {old_identity!r}, is {identity!r} (RFC 3264 §8)", message)
        elif rest == old_rest and version != old_version:
            self._breaks(f"o= version {old_version} to {version}, nothing changed (RFC 3264 §8)", message)
        elif rest != old_rest and version != old_version + 1:
            self._breaks(f"o= version {old_version} to {version}, body changed (RFC 3264 §8)", message)
