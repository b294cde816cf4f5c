"""Session descriptions (RFC 8866) on bytes: read what the media plane needs, leave every other byte alone.

`description` reads, `rewrite` puts our address in, `origin` keeps the o= line of a leg, `codecs` says whether
two answers mean the same to who gets them, `keys` who has whose keys, `sdes` which they are. Pure: no sockets, no
clock, no chance.
"""

from media.sdp.codecs import Codec, agree, codecs, formats
from media.sdp.description import Description, Media, SdpError, after_origin, is_unspecified, parse
from media.sdp.keys import begin_handshake, keys_known
from media.sdp.origin import Origin
from media.sdp.rewrite import rewrite

__all__ = [
    "Codec",
    "Description",
    "Media",
    "Origin",
    "SdpError",
    "after_origin",
    "agree",
    "begin_handshake",
    "codecs",
    "formats",
    "is_unspecified",
    "keys_known",
    "parse",
    "rewrite",
]
