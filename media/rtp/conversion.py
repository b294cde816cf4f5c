"""Payload types of one peer as another takes them: the same codec under another number, PCMU and PCMA by table.

Two peers that never negotiated with each other are connected when the backend between them is dead. Each speaks the
payload types that its backend had described (`spoken`) and takes those that it described itself (`taken`).
"""

from __future__ import annotations

from media.rtp.formats import COMFORT_NOISE, G711, TELEPHONE_EVENT, Formats
from media.rtp.laws import transcoding
from media.rtp.packet import HEADER_SIZE

_NOT_AUDIO = (TELEPHONE_EVENT, COMFORT_NOISE)
_MARKER = 0x80


class Conversion:
    __slots__ = ("_types", "dropped", "needed")

    def __init__(self, spoken: Formats, taken: Formats) -> None:
        self.dropped = 0  # packets that the other cannot take
        self._types: dict[int, tuple[int, bytes | None]] = {}
        known = {(encoding, taken.clocks[number]): number for number, encoding in reversed(taken.encodings.items())}
        for number, encoding in spoken.encodings.items():
            clock = spoken.clocks[number]
            same = known.get((encoding, clock))
            other = next((law for law in G711 if law != encoding and (law, clock) in known), None)
            if same is not None:
                self._types[number] = (same, None)
            elif encoding in G711 and other is not None:
                self._types[number] = (known[other, clock], transcoding(encoding, other))
        self.needed = any(self._types.get(number) != (number, None) for number in spoken.encodings)

    def apply(self, packet: memoryview, length: int) -> bool:
        """Convert a packet in place. False: the other cannot take it."""
        if length < HEADER_SIZE or packet[0] >> 6 != 2:
            return True
        second = packet[1]
        to = self._types.get(second & 0x7F)
        if to is None:
            self.dropped += 1
            return False
        number, table = to
        packet[1] = second & _MARKER | number
        if table is not None:
            start = HEADER_SIZE + 4 * (packet[0] & 0x0F)
            if packet[0] & 0x10 and length >= start + 4:
                start += 4 + 4 * (packet[start + 2] << 8 | packet[start + 3])
            packet[start:] = packet[start:].tobytes().translate(table)
        return True


def first_audio(spoken: Formats, own: Formats) -> tuple[str, int] | None:
    """Encoding and clock rate of what a peer most likely sends: the first that its backend wanted and it knows."""
    known = {(encoding, own.clocks[number]) for number, encoding in own.encodings.items()}
    for number, encoding in spoken.encodings.items():
        if encoding not in _NOT_AUDIO and (encoding, spoken.clocks[number]) in known:
            return encoding, spoken.clocks[number]
    return None


def can_hear(audio: tuple[str, int], taken: Formats) -> bool:
    known = {(encoding, taken.clocks[number]) for number, encoding in taken.encodings.items()}
    return audio in known or (audio[0] in G711 and any((law, audio[1]) in known for law in G711))
