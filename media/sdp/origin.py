"""The o= line that we send on a leg: ours, with an id that never changes while the leg lives.

RFC 3264 §8: the origin of a modified description is that of the one before, but for the version, which grows by
one when, and only when, the description changed. A peer that sees the same version may ignore what follows, so
what was last sent is remembered, as a digest that is the same in every process (a leg may be restored elsewhere).
"""

from __future__ import annotations

from hashlib import blake2b


class Origin:
    __slots__ = ("digest", "id", "version")

    def __init__(self, id: int, version: int = 0, digest: bytes = b"") -> None:
        self.id = id
        self.version = version
        self.digest = digest

    def stamp(self, rest: bytes, address: bytes, record: bool = True) -> bytes:
        """The whole description whose lines after o= are `rest`. `address` is "IN IP4 192.0.2.1".

        Without `record` this is what would be sent: the next description may bear the same version.
        """
        version = self.version
        digest = blake2b(rest, digest_size=8).digest()
        if digest != self.digest:
            version += 1
            if record:
                self.version = version
                self.digest = digest
        return b"v=0\r\no=- %d %d %b\r\n%b" % (self.id, version, address, rest)
