from typing import Any

from proxy.sip.message import Field

def scan(
    data: bytes, keys: dict[bytes, bytes], /
) -> (
    tuple[Any, bytes, list[Field], dict[bytes, bytes] | None, bytes, int, bytes, bytes, bytes, bytes, bytes, bytes]
    | None
): ...
