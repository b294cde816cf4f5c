"""Where a call is carried over to: to those that it belongs to, else to whoever of the pool can take it best.

Calls of one bond come to the same backend: the first one decides for all. A call that is only moved to join the others
goes to where they are, and nowhere else.
"""

from __future__ import annotations

from proxy.backends import Backend
from proxy.calls import Call, Calls
from proxy.conferences import Conferences


class Destination:
    """`tried`: backends that did not take the call."""

    def __init__(
        self, calls: Calls, conferences: Conferences, call: Call, old: Backend, *, planned: bool, joins: bool
    ) -> None:
        self._calls = calls
        self._conferences = conferences
        self._call = call
        self._old = old
        self._planned = planned
        self._joins = joins
        self.tried: list[Backend] = []

    @property
    def joining(self) -> bool:
        """It is moved to the others of its bond; no longer when the backend that it is on dies meanwhile."""
        return self._joins and not self._old.fenced

    def untried(self) -> Backend | None:
        exclude = [*self.tried, self._old] if self._planned or self._old.fenced else self.tried
        now = self._calls.now()
        backend = self.meeting_place()
        if self.joining:
            fit = [each for each in self.others() if each not in exclude and each.usable(now)]
            return backend if backend in fit else next(iter(fit), None)
        if backend is not None and backend not in exclude:
            return backend
        pool = self._calls.backends.pool_of(self._old)
        roomy = [*exclude, *self._conferences.cramped(self._call)]
        return pool.select(now, self._calls.rng, roomy) or pool.select(now, self._calls.rng, exclude)

    def others(self) -> list[Backend]:
        """Where else those are whom the call is to join. Their backend may die meanwhile, so that they come to ours:
        who went on then would be apart from them again."""
        bond = self._call.bond
        places = bond.places((self._call.id,)) if bond is not None else []
        return [each for each in places if each is not self._old]

    def meeting_place(self) -> Backend | None:
        """Calls that belong together come to the same backend."""
        backend = self._call.bond.meets_at if self._call.bond is not None else None
        if backend is None or backend.pool != self._old.pool or not backend.usable(self._calls.now()):
            return None
        return backend

    def meet_at(self, backend: Backend) -> None:
        """The first decides for all; while nobody is there, another one may prove better."""
        bond, place = self._call.bond, self.meeting_place()
        if bond is not None and (place is None or (place in self.tried and place not in bond.places(()))):
            bond.meets_at = backend
