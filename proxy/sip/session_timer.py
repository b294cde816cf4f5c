"""Session timers (RFC 4028): how two ends agree that a session is still alive, from the view of one dialog.

One `SessionTimer` is what a dialog knows: the interval agreed, and whether we or the peer refresh. It says which
headers a request or a 2xx carries, when to refresh, and when to give the session up. It neither sends nor
waits: `now` is given, deadlines are read. Option tags are not its business: who sends requests lists `timer` in
Supported always.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from proxy.sip.message import Field, Message, Request, Response, field

INTERVAL_MIN_S = 90  # §4: nobody may ask for less
GUARD_MAX_S = 32.0  # §10: the BYE goes out this long before the session expires, or a third of the interval
_VALUE = re.compile(rb"\s*(\d{1,9})\s*(?:;(.*))?", re.DOTALL)
_REFRESHER = re.compile(rb"(?:^|;)\s*refresher\s*=\s*(uac|uas)\s*(?:;|$)", re.IGNORECASE)
TIMER = b"timer"
REQUIRE = (b"require", b"Require: timer")


@dataclass(slots=True, frozen=True)
class SessionExpires:
    interval_s: int
    refresher: bytes = b""  # b"uac", b"uas", or empty: left open


def session_expires(message: Message) -> SessionExpires | None:
    """The Session-Expires header of a message; None when there is none that can be read."""
    value = message.get(b"session-expires")
    found = _VALUE.fullmatch(value) if value else None
    if not found:
        return None
    refresher = _REFRESHER.search(found[2] or b"")
    return SessionExpires(int(found[1]), refresher[1].lower() if refresher else b"")


def min_se(message: Message) -> int:
    """The Min-SE header of a message; 90 when there is none (§4)."""
    value = message.get(b"min-se")
    found = _VALUE.fullmatch(value) if value else None
    return max(int(found[1]), INTERVAL_MIN_S) if found else INTERVAL_MIN_S


@lru_cache(maxsize=256)
def _expires_field(interval_s: int, role: bytes) -> Field:
    return field(b"Session-Expires", b"%d%b%b" % (interval_s, b";refresher=" if role else b"", role))


class SessionTimer:
    """`interval_s` is 0 while no timer runs. Give up at `expires_at`, refresh at `refresh_at` (None: not ours)."""

    __slots__ = ("interval_s", "minimum_s", "refreshing", "since", "wanted_s")

    def __init__(self, wanted_s: int = 1800, minimum_s: int = INTERVAL_MIN_S) -> None:
        """`wanted_s` is what we ask for (0: nothing, but what the peer wants is granted), `minimum_s` what we bear."""
        self.minimum_s = max(minimum_s, INTERVAL_MIN_S)
        self.wanted_s = max(wanted_s, self.minimum_s) if wanted_s else 0
        self.interval_s = 0
        self.refreshing = False
        self.since = 0.0

    @property
    def refresh_at(self) -> float | None:
        """§10: half of the interval is recommended."""
        return self.since + self.interval_s / 2 if self.interval_s and self.refreshing else None

    @property
    def expires_at(self) -> float | None:
        """When the session must be ended with BYE unless it was refreshed (§10)."""
        if not self.interval_s:
            return None
        interval_s = max(self.interval_s, INTERVAL_MIN_S)  # a peer that breaks §4 is not hung up on for it
        return self.since + interval_s - min(GUARD_MAX_S, interval_s / 3)

    # As UAC

    def request_fields(self) -> list[Field]:
        """Headers of an INVITE, re-INVITE or UPDATE that we send (§7.1, §7.4)."""
        interval_s = self.interval_s or self.wanted_s
        if not interval_s:
            return []
        role = b""
        if self.interval_s:  # in a running session the roles stay as they are
            role = b"uac" if self.refreshing else b"uas"
        fields = [_expires_field(max(interval_s, self.minimum_s), role)]
        if self.minimum_s > INTERVAL_MIN_S:  # also after a 422, in every later request (§7.1)
            fields.append(field(b"Min-SE", b"%d" % self.minimum_s))
        return fields

    def answered(self, response: Response, now: float) -> None:
        """A 2xx came to a request of ours (§7.2). Without Session-Expires in it no timer runs."""
        found = session_expires(response)
        self.interval_s = found.interval_s if found else 0
        self.refreshing = found is not None and found.refresher != b"uas"
        self.since = now

    def too_small(self, response: Response) -> bool:
        """A 422 came (§7.3). True when asking again with `request_fields` makes sense: it names a larger minimum."""
        minimum_s = min_se(response)
        if minimum_s <= max(self.interval_s or self.wanted_s, self.minimum_s):
            return False
        self.minimum_s = minimum_s
        if self.wanted_s:
            self.wanted_s = max(self.wanted_s, minimum_s)
        if self.interval_s:
            self.interval_s = minimum_s
        return True

    # As UAS

    def refusal(self, request: Request) -> list[Field] | None:
        """Headers of the 422 that an INVITE or UPDATE deserves, or None when its interval is fine (§9)."""
        asked = session_expires(request)
        if asked is None or asked.interval_s >= self.minimum_s or not request.has_option(b"supported", TIMER):
            return None
        return [field(b"Min-SE", b"%d" % self.minimum_s)]

    def accept(self, request: Request, now: float) -> list[Field]:
        """Headers of the 2xx that we send to an INVITE or UPDATE now; from now on the timer runs so (§9)."""
        asked = session_expires(request)
        capable = request.has_option(b"supported", TIMER)
        interval_s = asked.interval_s if asked else self.wanted_s if capable else 0
        self.since = now
        if not interval_s:
            self.interval_s = 0
            return []
        self.interval_s = max(interval_s, min_se(request), self.minimum_s)
        # Table 2: who does not know timers cannot refresh; what is left to us is given to the peer.
        role = b"uas" if not capable else (asked.refresher if asked else b"") or b"uac"
        self.refreshing = role == b"uas"
        expires = _expires_field(self.interval_s, role)
        return [expires, REQUIRE] if role == b"uac" else [expires]

    # Into a snapshot and back; times as seconds that have passed, since clocks differ between nodes

    def snapshot(self, now: float) -> list[int | float | bool]:
        return [self.wanted_s, self.minimum_s, self.interval_s, self.refreshing, now - self.since]

    @classmethod
    def restore(cls, state: list[int | float | bool], now: float) -> Self:
        wanted_s, minimum_s, interval_s, refreshing, age_s = state
        timer = cls(int(wanted_s), int(minimum_s))
        timer.interval_s, timer.refreshing, timer.since = int(interval_s), bool(refreshing), now - age_s
        return timer
