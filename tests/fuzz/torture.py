"""Reads torture messages in the notation of RFC 4475 §2 (see the head of rfc4475.txt)."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
SDP = """v=0
o=mhandley 29739 7272939 IN IP4 {0}
s=-
c=IN IP4 {0}
t={1} 0
m=audio 49217 RTP/AVP 0 12
m=video 3227 RTP/AVP 31
a=rtpmap:31 LPC"""


def load(name: str) -> dict[str, bytes]:
    messages = {}
    for part in re.split(r"^=== ", (HERE / name).read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        messages[title] = decode(text)
    return messages


def decode(text: str) -> bytes:
    text = re.sub(r"^@sdp (\S+) (\d+)$", lambda m: SDP.format(m[1], m[2]), text, flags=re.MULTILINE)
    text = re.sub(r"<allOneLine>\n(.*?)\n</allOneLine>", lambda m: m[1].replace("\n", ""), text, flags=re.DOTALL)
    text = re.sub(r"<repeat count=(\d+)>(.*?)</repeat>", lambda m: m[2] * int(m[1]), text)
    text = text.replace("@length", str(len(text.partition("\n\n")[2].replace("\n", "\r\n"))))
    data = text.replace("\n", "\r\n").encode()
    return re.sub(rb"<hex>([0-9A-F]+)</hex>", lambda m: bytes.fromhex(m[1].decode()), data)
