"""What is known of the control session with one backend: is it up, was it cut off, is its loss accounted for?

The kernel of a killed process closes its connections within milliseconds and refuses new ones. So does a manager that
is reconfigured, or a firewall: it takes SIP that does not answer either, asked after the cut, to make it death. Pure;
awake time.
"""

from __future__ import annotations

from proxy.health.diagnosis import Sip
from proxy.health.evidence import Evidence


class ControlState:
    """Truthy: an established session was cut off at `cut_at`, and nobody has answered since."""

    __slots__ = ("_cut", "_misses", "_mourned", "_refused", "_up", "cut_at")

    def __init__(self) -> None:
        self._cut = False
        self.cut_at = 0.0
        self._misses = 0  # unanswered probes in a row at that time
        self._refused = False  # it was asked for again, and nobody listens there any more
        self._up = False
        self._mourned = False  # since it was up last, its backend was down: that it has restarted is no news

    def __bool__(self) -> bool:
        return self._cut

    def take(self, evidence: Evidence, now: float, misses: int, committed: bool) -> Sip | None:
        """What evidence of the session decides by itself, while nothing is decided (`committed`) yet."""
        match evidence:
            case Evidence.CONTROL_OK | Evidence.CONTROL_RESTARTED:
                known, self._mourned = self._mourned or committed, committed
                self._up = True
                self.forget()
                return Sip.RESTARTED if evidence is Evidence.CONTROL_RESTARTED and not known else None
            case Evidence.CONTROL_STOPPING:
                return Sip.STOPPING if not committed else None
            case Evidence.CONTROL_CUT:
                self._cut, self.cut_at, self._misses, self._refused = True, now, misses, False
            case Evidence.CONTROL_REFUSED:
                self._refused = self._cut
            case _:
                pass
        self._up = False
        return None

    def committed(self) -> None:
        self._mourned = True

    def came_back(self) -> None:
        self.forget()
        if self._up:
            self._mourned = False

    def forget(self) -> None:
        """The cut is explained, or means nothing any more."""
        self._cut = self._refused = False

    def enough(self, misses: int, sip_refused_at: float | None) -> bool:
        if not self._refused:
            return False
        return misses > self._misses or (sip_refused_at is not None and sip_refused_at >= self.cut_at)

    def explain(self, misses: int) -> str:
        sip = f"{misses - self._misses} probes are unanswered" if misses > self._misses else "SIP is refused, too"
        return f"its control session was cut off and is refused now, and {sip}"
