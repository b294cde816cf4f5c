"""Bencoding, as the ng protocol speaks it: integers, byte strings, lists, dictionaries.

What comes in is bytes that anybody may have sent: every fault is a `BencodeError` that says where, nesting is bounded,
and nothing is looked at twice. Keys become text (Latin-1, which loses no byte), strings stay bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Encodable: TypeAlias = "int | str | bytes | Sequence[Encodable] | Mapping[str, Encodable]"
Value: TypeAlias = "int | bytes | list[Value] | dict[str, Value]"

DEPTH_MAX = 32
_INTEGER = re.compile(rb"i(-?\d{1,20})e")
_LENGTH = re.compile(rb"(\d{1,8}):")


class BencodeError(ValueError):
    """Not bencoded; the text says what is wrong at which byte."""


def encode(value: Encodable) -> bytes:
    parts: list[bytes] = []
    _encode(value, parts)
    return b"".join(parts)


def _encode(value: Encodable, parts: list[bytes]) -> None:
    if isinstance(value, int):
        parts.append(b"i%de" % value)
    elif isinstance(value, (str, bytes)):
        data = value if isinstance(value, bytes) else value.encode()
        parts += (b"%d:" % len(data), data)
    elif isinstance(value, Mapping):
        parts.append(b"d")
        for key in sorted(value):
            _encode(key, parts)
            _encode(value[key], parts)
        parts.append(b"e")
    else:
        parts.append(b"l")
        for item in value:
            _encode(item, parts)
        parts.append(b"e")


def decode(data: bytes) -> Value:
    """The one value that `data` is. Raises BencodeError."""
    value, end = _value(data, 0, 0)
    if end != len(data):
        raise BencodeError(f"byte {end}: {len(data) - end} bytes too many")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    kind = data[at : at + 1]
    if kind.isdigit():
        return _string(data, at)
    if kind == b"i":
        match = _INTEGER.match(data, at)
        if match is None:
            raise BencodeError(f"byte {at}: not an integer")
        return int(match[1]), match.end()
    if kind not in (b"l", b"d"):
        raise BencodeError(f"byte {at}: {kind!r} begins no value" if kind else f"byte {at}: the end comes too early")
    if depth >= DEPTH_MAX:
        raise BencodeError(f"byte {at}: nested deeper than {DEPTH_MAX}")
    return _list(data, at + 1, depth + 1) if kind == b"l" else _dictionary(data, at + 1, depth + 1)


def _list(data: bytes, at: int, depth: int) -> tuple[list[Value], int]:
    items: list[Value] = []
    while data[at : at + 1] != b"e":
        item, at = _value(data, at, depth)
        items.append(item)
    return items, at + 1


def _dictionary(data: bytes, at: int, depth: int) -> tuple[dict[str, Value], int]:
    """rtpengine does not sort its keys, so their order means nothing here."""
    items: dict[str, Value] = {}
    while data[at : at + 1] != b"e":
        key, at = _string(data, at)
        items[key.decode("latin-1")], at = _value(data, at, depth)
    return items, at + 1


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    match = _LENGTH.match(data, at)
    if match is None:
        raise BencodeError(f"byte {at}: not the length of a string")
    start = match.end()
    end = start + int(match[1])
    if end > len(data):
        raise BencodeError(f"byte {at}: a string of {end - start} bytes, but {len(data) - start} are left")
    return data[start:end], end
