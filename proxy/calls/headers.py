"""Header policy: what crosses from one leg to the other, and what is ours on each (RFC 7092, a B2BUA).

Everything crosses that does not belong to the hop, the dialog or the message itself: identity (P-Asserted-Identity,
Diversion, Privacy), call data (User-to-User, X-*, Subject), abilities (Allow, Supported, Require), credentials and
challenges (digest passes through), Reason, and whatever nobody here knows. `X-Aqueduct-*` never crosses: only we say
to a backend what a session was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from proxy.sip.message import Field, Message, field, split_list

OWN_PREFIX = b"x-aqueduct-"
OURS = frozenset(
    b"via from to call-id cseq contact max-forwards route record-route content-length "
    b"session-expires min-se rack".split()
)
# Of a call's first INVITE, what an INVITE that carries it over must not say again: what spoke of that transaction
# (credentials, reliable 1xx, preconditions), of the dialog that it replaced, or of its body.
ONCE = frozenset(
    b"authorization proxy-authorization require expires timestamp replaces join content-type content-disposition "
    b"content-encoding content-language".split()
)
ONCE_SUPPORTED = frozenset((b"100rel", b"precondition"))
# Option tags that do not cross: session timers are each leg's own; no 1xx of a re-INVITE crosses, reliable or not.
OUR_OPTIONS = frozenset((b"timer",))
OUR_OPTIONS_IN_REINVITE = frozenset((b"timer", b"100rel"))


def crossing(message: Message, our_options: frozenset[bytes] = OUR_OPTIONS) -> list[Field]:
    """The header fields of `message` that go on to the other leg, in their order."""
    fields = [entry for entry in message.fields if entry[0] not in OURS and not entry[0].startswith(OWN_PREFIX)]
    if message.line(b"supported") or message.line(b"require"):
        crossed = [_less(entry, our_options) if entry[0] in (b"supported", b"require") else entry for entry in fields]
        return [entry for entry in crossed if entry is not None]
    return fields


@lru_cache(maxsize=1024)
def _less(entry: Field, options: frozenset[bytes]) -> Field | None:
    """A list of option tags without some of them; None when nothing is left of it."""
    named = split_list(entry[1].partition(b":")[2].strip())
    kept = [option for option in named if option.lower() not in options]
    if len(kept) == len(named):
        return entry
    return field(entry[0].title(), b", ".join(kept)) if kept else None


def repeated(fields: Iterable[Field]) -> Iterator[Field]:
    """The fields of a call's first INVITE that an INVITE with its current session description says again."""
    for entry in fields:
        key = entry[0]
        if key == b"supported":
            kept = _less(entry, ONCE_SUPPORTED)
            if kept is not None:
                yield kept
        elif key not in ONCE:
            yield entry


def retry_after_s(message: Message) -> int | None:
    """RFC 3261 §20.33, at most an hour."""
    value = (message.get(b"retry-after") or b"").split(b";")[0].split(b"(")[0].strip()
    return min(int(value[:9]), 3600) if value.isdigit() else None


def own(name: str, value: object) -> Field:
    """An `X-Aqueduct-…` field for a backend."""
    return (f"x-aqueduct-{name.lower()}".encode(), f"X-Aqueduct-{name}: {value}".encode())
