"""Failovers of this node: hears what health diagnosed, asks policy, and carries out the plan at a pace.

At once: the backend is fenced and gets no new calls. Then its calls are moved in the order of the plan; each recovery
is a task of its own, and the fault of one stays with it. When the backend is well again, the dialogs that were left
behind on it are ended, so that a false alarm costs a short silence and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Container, Coroutine
from typing import Any

from proxy.backends import Admin, Backend, Backends, Verdict
from proxy.calls import TALKING, Call, Calls, Leg
from proxy.calls.left_behind import Left
from proxy.calls.pairs import Bond
from proxy.conferences import Conference, Conferences, Rebuilt, put_right
from proxy.failover.bypass import Bypasses
from proxy.failover.pace import Pace
from proxy.failover.plan import Step, kind_of, plan
from proxy.failover.policy import Refusal, RefusedOrder, decide
from proxy.failover.recovery import Recovery
from proxy.failover.report import ENDED, LOST, MOVED, STAYED, CallResult, Report
from proxy.failover.reunions import Reunions
from proxy.failover.standbys import Standbys
from proxy.health import Health, VerdictChanged
from proxy.text import counted

log = logging.getLogger(__name__)

REPORTS_KEPT = 50
BYES_A_TICK = 20
TICK_S = 0.05


class Failovers:
    def __init__(
        self, calls: Calls, backends: Backends, health: Health, conferences: Conferences,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self._calls = calls
        self._backends = backends
        self._conferences = conferences
        self._health = health
        self._loop = loop
        self.reports: deque[Report] = deque(maxlen=REPORTS_KEPT)
        self.on_report: list[Callable[[Report], None]] = []  # called when one is opened, and when it is finished
        self.refusals: Counter[Refusal] = Counter()
        self.moving: set[Backend] = set()
        self._ids = itertools.count(1)
        self._paces: dict[Backend, Pace] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovering: set[str] = set()  # call ids
        self._rebuilding: dict[Conference, asyncio.Task[Rebuilt | None]] = {}
        self._lost_meanwhile: dict[str, set[Leg]] = {}  # by call id: legs that were lost while the call was ours
        self.standbys = Standbys(calls, backends, conferences, self._pace, loop)
        health.subscribe(self._verdict_changed)
        calls.on_leg_lost = self._leg_lost
        calls.on_dialog_unknown = self._dialog_unknown
        self.bypasses = Bypasses(calls, conferences, loop)
        calls.on_settled = self._settled
        calls.on_bonded = self._bonded
        calls.on_waiting = self.standbys.renew
        conferences.on_moved = self._conference_moved
        self.reunions = Reunions(conferences, self._reunite, loop)
        calls.on_ended = self._ended

    # -- causes

    def _verdict_changed(self, change: VerdictChanged) -> None:
        backend = change.backend
        self._readmit(backend)
        if change.verdict is Verdict.UP:
            self.standbys.backend_up()
        if change.verdict is Verdict.SUSPECT:
            self.bypasses.suspect(backend)
        elif change.verdict is not Verdict.DOWN:
            self.bypasses.cleared(backend)
        pool = self._backends.pool_of(backend)
        steps = self._plan(backend) if change.verdict is Verdict.DOWN else []
        ours = [step for step in steps if step.call.id not in self._recovering]
        running = bool(steps) and not ours
        refusal = decide(change.verdict, change.diagnosis, pool, calls=len(steps), running=running)
        if change.verdict is Verdict.DOWN and pool.settings.recover:
            self._fence(backend)
        if refusal is not None:
            if change.verdict is Verdict.DOWN:
                self.refusals[refusal] += 1
                log.info("backend=%s no failover: %s", backend.name, refusal)
            return
        report = self._report(backend, str(change.diagnosis), change.reason, ours)
        report.evidence = [str(each) for each in change.evidence]
        if change.last_good_at is not None:
            report.detection_ms = round((change.at - change.last_good_at) * 1000, 1)
        self._start(self._move(report, backend, ours))

    def failover(self, backend: Backend, why: str = "operator") -> Report:
        """Order: treat `backend` as dead and move its calls now. Raises RefusedOrder."""
        self._may_move(backend)
        backend.admin = Admin.MAINT
        self._fence(backend)
        steps = self._plan(backend)
        report = self._report(backend, "operator", why, steps)
        self._start(self._move(report, backend, steps))
        return report

    def drain(self, backend: Backend, *, move: bool) -> Report | None:
        """Order: no new calls to `backend`; with `move` its live calls are moved away make-before-break. Raises
        RefusedOrder."""
        if move:
            self._may_move(backend)
        backend.admin = Admin.DRAIN
        if not move:
            return None
        self.standbys.leave(backend, why="drain")
        steps = [step for step in self._plan(backend) if step.call.state == TALKING]
        report = self._report(backend, "drain", "operator", steps, alive=True)
        self._start(self._move(report, backend, steps))
        return report

    def talks(self, backend: Backend) -> bool:
        """Has it calls that a planned move could take, and that are not being moved?"""
        return any(s.call.state == TALKING and s.call.id not in self._recovering for s in self._plan(backend))

    def _may_move(self, backend: Backend) -> None:
        """An order does not stand above `recover: false`: another carrier does not know these calls."""
        if not self._backends.pool_of(backend).settings.recover:
            self.refusals[Refusal.CARRIER] += 1
            log.info("backend=%s order refused: %s", backend.name, Refusal.CARRIER)
            text = f"{Refusal.CARRIER}: pool {backend.pool} says recover: false, so calls of {backend.name} stay there"
            raise RefusedOrder(Refusal.CARRIER, text)

    def ready(self, backend: Backend) -> None:
        """Order: `backend` takes calls again. What the operator says of one that was flapping is believed."""
        backend.admin = Admin.READY
        self._health.forgive(backend)
        self._readmit(backend)

    def _dialog_unknown(self, leg: Leg) -> None:
        backend = leg.backend
        if backend is not None and leg.dialog is not None and self._backends.pool_of(backend).settings.recover:
            self._health.dialog_unknown(backend, leg.dialog.call_id)

    def _leg_lost(self, call: Call, leg: Leg, why: str) -> bool:
        """A backend does not know a dialog of ours any more (it restarted so fast that no probe saw it), or is silent
        in it."""
        backend = leg.backend
        if backend is None or not self._backends.pool_of(backend).settings.recover or call.state != TALKING:
            return False
        if call.id in self._recovering:
            self._lost_meanwhile.setdefault(call.id, set()).add(leg)
            return True
        if leg not in call.legs():
            if call.standby is not None and leg is call.standby.leg:
                self.standbys.lost(call, why)
            return True
        steps = [Step(each, old, kind_of(each)) for each, old in self.bypasses.together(call, leg)]
        report = self._report(backend, "leg lost", why, steps)
        self._start(self._move(report, backend, steps))
        return True

    def _plan(self, backend: Backend) -> list[Step]:
        return plan(self._calls.live.values(), backend, self._conferences)

    def _settled(self, call: Call) -> None:
        self.bypasses.settled(call)
        self.standbys.settled(call)

    def _bonded(self, call: Call) -> None:
        self._conferences.bonded(call)
        self.bypasses.bonded(call)
        self.standbys.renew(call)
        self.reunions.look(call)

    def _ended(self, call: Call) -> None:
        self.standbys.ended(call)
        self.bypasses.ended(call)

    def _fence(self, backend: Backend) -> None:
        backend.fenced = True
        self._calls.give_up_invites(backend)
        self.bypasses.backend_down(backend)
        self.standbys.leave(backend, why="its backend is dead")

    # -- execution

    def _report(self, backend: Backend, cause: str, reason: str, steps: list[Step], *, alive: bool = False) -> Report:
        report = self.open_report(cause, backend.name, backend.pool, reason, len(steps), alive=alive)
        pool, now = self._backends.pool_of(backend), self._loop.time()
        leaves = backend.fenced or backend.admin is not Admin.READY
        if steps and pool.select(now, self._calls.rng, [backend] if leaves else ()) is None:
            deadline_s = pool.settings.recovery.deadline_s
            report.warning = f"no backend of pool {pool.name} can take them now; one is waited for, {deadline_s:g} s"
            report.note(now, report.warning)
            log.warning("backend=%s failover=%d %s", backend.name, report.id, report.warning)
        return report

    def open_report(
        self, cause: str, backend: str, pool: str, reason: str, calls: int, *, alive: bool = False
    ) -> Report:
        """Of this failover, or of another kind that operators shall see beside them."""
        now = self._loop.time()
        report = Report(next(self._ids), cause, backend, pool, reason, now, None, [], calls, alive)
        report.note(now, f"{cause}: {reason}; {counted(calls, 'call')} to move")
        self.reports.append(report)
        log.warning("backend=%s failover=%d cause=%r calls=%d", backend, report.id, cause, calls)
        self._tell(report)
        return report

    def _tell(self, report: Report) -> None:
        for listener in self.on_report:
            listener(report)

    async def _move(self, report: Report, backend: Backend, steps: list[Step]) -> None:
        alive = report.alive
        self.moving.add(backend)
        settings = self._backends.pool_of(backend).settings.recovery
        deadline = report.detected_at + settings.deadline_s
        steps = [step for step in steps if step.call.id not in self._recovering]
        ids = {step.call.id for step in steps}
        self._recovering |= ids
        self._calls.pairs.meet(ids, alive=alive)
        died_at = None if alive else report.detected_at - (report.detection_ms or 0) / 1000
        self._conferences.begin_move((step.call for step in steps), died_at)
        self.bypasses.gather(backend, {step.call.id for step in steps if step.kind.talks}, bridge=not alive)
        if not alive:
            self._switch([step for step in steps if self.bypasses.of(step.call) is None])
        try:
            running = [
                asyncio.create_task(self._recover_one(report, step, alive=alive, deadline=deadline)) for step in steps
            ]
            for task in running:
                report.results.append(await task)
            await self._rebuilt(report, steps)
        finally:
            self.moving.discard(backend)
        report.finished = True
        now = self._loop.time()
        counts = {result: report.count(result) for result in (MOVED, LOST, ENDED, STAYED)}
        for refusals in report.told_of_refusals():
            report.note(now, refusals)
            log.warning("failover=%d %s", report.id, refusals)
        report.note(
            now, ", ".join(f"{count} {result}" for result, count in counts.items() if count or result != STAYED)
        )
        log.warning(
            "backend=%s failover=%d moved=%d lost=%d ended=%d stayed=%d unverified=%d all_moved_ms=%s",
            backend.name, report.id, *counts.values(), report.unverified, report.all_moved_ms,
        )  # fmt: skip
        self._tell(report)

    async def _recover_one(self, report: Report, step: Step, *, alive: bool, deadline: float) -> CallResult:
        """A call is ours until it is done, not until its whole batch is: where it went may die while others wait."""
        try:
            return await self._recover(report, step, alive=alive, deadline=deadline)
        finally:
            self._recovering.discard(step.call.id)
            self._lost_meanwhile.pop(step.call.id, None)
            self.bypasses.done(step.call)
            self._conferences.end_move(step.call)
            self.standbys.settled(step.call)
            self.reunions.look(step.call)

    @staticmethod
    def _switch(steps: list[Step]) -> None:
        """Calls with a hot standby hear it at once, all of them before anything else is done about any."""
        for call, leg in ((step.call, step.leg) for step in steps):
            if call.standby is not None and call.standby.replaces(call) is leg:
                switched = call.media.switch(call.id, call.other(leg).name, call.standby.leg.name)
                switched.add_done_callback(asyncio.Future.exception)  # the recovery will meet it again

    async def _recover(self, report: Report, step: Step, *, alive: bool, deadline: float) -> CallResult:
        bypass = self.bypasses.of(step.call)
        if bypass is not None and bypass.bridged_at:
            deadline = report.detected_at + self._backends.pools[report.pool].settings.recovery.bypass_max_s
        recovery = Recovery(
            self._calls, step, why=report.cause, alive=alive, pace_of=self._pace, deadline=deadline,
            since=report.detected_at, standbys=self.standbys, bypass=bypass, conferences=self._conferences,
            on_refused=lambda what: self._refused(report, what, step.call),
        )  # fmt: skip
        result = await recovery.run()
        return await self._once_more(report, step.call, result)

    async def _once_more(self, report: Report, call: Call, result: CallResult) -> CallResult:
        """What befell a backend of the call meanwhile was left to us, because the call was ours: the one that it was
        moved to has died or forgotten it, or the one that it could not be moved away from."""
        lost = self._lost_meanwhile.pop(call.id, set())
        for leg in call.legs():
            if leg.call is call and leg.backend is not None and (leg.backend.fenced or leg in lost):
                report.note(self._loop.time(), f"call {call.id}: {leg.backend.name} is lost meanwhile")
                settings = self._backends.pool_of(leg.backend).settings.recovery
                deadline = self._loop.time() + settings.deadline_s
                return await self._recover(report, Step(call, leg, kind_of(call)), alive=False, deadline=deadline)
        return result

    def _conference_moved(self, conference: Conference) -> None:
        """Nobody of it is on his way any more: look whether it is as it was, without waiting for other calls."""
        self._rebuilding[conference] = self._loop.create_task(put_right(self._conferences, conference))

    async def _reunite(self, bond: Bond, source: Backend, target: Backend, calls: list[Call]) -> None:
        """Calls of a bond that are on `source` are moved to where the others are."""
        found = ((call, call.leg_on(source)) for call in calls)
        steps = [Step(call, leg, kind_of(call), joins=True) for call, leg in found if leg is not None]
        cause, name = f"split {bond.kind.lower()}", bond.name.decode(errors="replace")
        report = self.open_report(cause, source.name, source.pool, name, len(steps), alive=True)
        await self._move(report, source, steps)
        if report.count(MOVED) == len(report.results):
            for backend in (source, target):
                self._take_leave(backend, bond.calls)

    async def _rebuilt(self, report: Report, steps: list[Step]) -> None:
        """What became of the conferences of these calls."""
        for conference in dict.fromkeys(self._conferences.of(step.call) for step in steps):
            task = self._rebuilding.pop(conference, None) if conference is not None else None
            if task is None:
                continue
            await asyncio.wait((task,))
            problem = task.exception()
            if problem is not None:
                log.error("%s cannot be put right", conference, exc_info=problem)
            elif (rebuilt := task.result()) is not None:
                report.note(self._loop.time(), str(rebuilt))
                log.warning("failover=%d %s", report.id, rebuilt)

    def _refused(self, report: Report, what: str, call: Call) -> None:
        if report.note_refusal(self._loop.time(), what, call.id):
            log.warning("failover=%d refused by %s", report.id, what)

    def _pace(self, backend: Backend) -> Pace:
        pace = self._paces.get(backend)
        if pace is None:
            settings = self._backends.pool_of(backend).settings.recovery
            pace = self._paces[backend] = Pace(self._loop, settings.pace_per_s, settings.unanswered_max)
        return pace

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("failover task failed", exc_info=task.exception())

    # -- the backend is well again

    def _readmit(self, backend: Backend) -> None:
        """A fenced backend is let in again as soon as it answers. Suspect and unknown say nothing new of it."""
        if not backend.fenced or backend.verdict not in (Verdict.UP, Verdict.DEGRADED):
            return
        backend.fenced = False
        self._take_leave(backend)

    def _take_leave(self, backend: Backend, of: Container[str] | None = None) -> None:
        """End the dialogs that were left behind on it, all of them or those of some calls (by id)."""
        left = self._calls.left_behind.take(backend, of) if not backend.fenced else []
        if left:
            log.info("backend=%s: ending %d dialogs that were left behind", backend.name, len(left))
            self._start(self._end_left_behind(left))

    async def _end_left_behind(self, left: list[Left]) -> None:
        stack = self._calls.stack
        for index, (_, dialog, flow) in enumerate(left):
            if index and index % BYES_A_TICK == 0:
                await asyncio.sleep(TICK_S)
            stack.request(dialog.request(b"BYE", []), stack.way(dialog, flow), lambda _: None)

    async def close(self) -> None:
        for task in (*self._tasks, *self._rebuilding.values()):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, *self._rebuilding.values(), return_exceptions=True)
        await self.reunions.close()
        await self.standbys.close()
