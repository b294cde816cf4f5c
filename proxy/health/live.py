"""What the requests of calls tell of a backend: those without any response, and dialogs that it does not know any more.

Unanswered requests of one instant are one piece of evidence, and so are many 481 in one dialog. Pure; awake time.
"""

from __future__ import annotations

SPREAD_S = 1.0  # unanswered live requests of one instant are one piece of evidence
UNKNOWN_DIALOGS = 3  # 481 for live dialogs …
UNKNOWN_DIALOGS_S = 5.0  # … within this: it has restarted


class LiveRequests:
    __slots__ = ("_missed_since", "_unknown_dialogs", "misses")

    def __init__(self) -> None:
        self.misses = 0  # unanswered requests in a row
        self._missed_since = 0.0
        self._unknown_dialogs: dict[bytes, float] = {}  # since when

    def answered(self) -> None:
        self.misses = 0

    def missed(self, now: float, fall: int) -> bool:
        """True: so many in a row, and over so long, that it is deaf to calls."""
        if self.misses == 0:
            self._missed_since = now
        self.misses += 1
        return self.misses >= fall and now - self._missed_since >= SPREAD_S

    def unknown(self, dialog: bytes, now: float) -> bool:
        """True: so many of them lately that it has restarted."""
        lately = {each: at for each, at in self._unknown_dialogs.items() if now - at <= UNKNOWN_DIALOGS_S}
        lately.setdefault(dialog, now)
        self._unknown_dialogs = lately
        return len(lately) >= UNKNOWN_DIALOGS

    def forget_dialogs(self) -> None:
        self._unknown_dialogs.clear()
