"""Event loops in virtual time: one clock, one queue, any number of simulated processes.

`VirtualLoop` is the loop of the test itself. `VirtualLoop.process(name)` makes the loop of a simulated
process: a full asyncio loop of its own (tasks, sleeps, timeouts, futures belong to it) that shares clock and
queue with all others. A frozen process keeps what falls due until it is thawed, as after SIGSTOP and SIGCONT;
a killed one never runs another line, not even a `finally`.

When nothing is ready the clock jumps to the next timer. Callbacks run in the order in which they fell due,
ties in the order in which they were scheduled: the same program has the same history each time. Nothing ready
and nothing scheduled while the test still waits is a deadlock and said to be one. An exception that nobody
caught ends the run. No selectors, no threads, no sockets.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

START_S = 1024.0  # not 0: "never" is written as 0.0 in places, and an exact binary number keeps sums tidy
CLEANUP_MAX_S = 600.0  # of virtual time, for tasks that are cancelled when the test is over
SPIN_MAX = 1_000_000  # callbacks at one instant of virtual time before we call it a busy loop


class SimulationError(AssertionError):
    """The program under simulation did something it must not; the text and the cause say what."""


class DeadlockError(SimulationError):
    """Somebody waits, and nothing is ready or scheduled that could ever wake him."""


class ProcessKilledError(Exception):
    """The simulated process was killed while the test waited for one of its coroutines."""


class Handle(asyncio.TimerHandle):
    """A scheduled callback. Lighter than asyncio's own: no debug traces, no ordering, one flag to cancel."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: SimulatedLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = None
        self._args = ()

    def __repr__(self) -> str:
        return f"<callback {self._callback!r} of {self._loop!r}>"


class Schedule:
    """What all loops of one simulation share: the clock, the queue, and what went wrong."""

    __slots__ = ("errors", "now", "ready", "sequence", "stopping", "timers")

    def __init__(self) -> None:
        self.now = START_S
        self.ready: deque[Handle] = deque()
        self.timers: list[tuple[float, int, Handle]] = []
        self.sequence = 0
        self.errors: list[BaseException] = []
        self.stopping = False

    def run(self, observer: SimulatedLoop) -> None:
        """Run callbacks and jump from timer to timer until somebody sets `stopping`."""
        ready, timers = self.ready, self.timers
        current: SimulatedLoop = observer
        spins = 0
        self.stopping = False
        _set_running_loop(observer)
        try:
            while not self.stopping:
                while ready:
                    handle = ready.popleft()
                    callback = handle._callback
                    if callback is None:
                        continue
                    loop = handle._loop
                    if loop.halted:
                        loop.keep(handle)
                        continue
                    if loop is not current:
                        _set_running_loop(loop)
                        current = loop
                    try:
                        handle._context.run(callback, *handle._args)
                    except (KeyboardInterrupt, SystemExit):
                        raise
                    except BaseException as error:
                        message = f"callback {callback!r} failed"
                        loop.call_exception_handler({"message": message, "exception": error})
                    if self.stopping:
                        return
                    spins += 1
                    if spins > SPIN_MAX:
                        raise SimulationError(f"busy loop at t={self.now:.6f}: last ran {callback!r}")
                spins = 0
                while timers and timers[0][2]._callback is None:
                    heappop(timers)
                if not timers:
                    raise DeadlockError(f"t={self.now:.6f}: nothing ready and nothing scheduled")
                when = timers[0][0]
                if when > self.now:
                    self.now = when
                while timers and timers[0][0] <= when:
                    ready.append(heappop(timers)[2])
        finally:
            _set_running_loop(None)


class SimulatedLoop(asyncio.AbstractEventLoop):
    """What the loop of the test and the loops of simulated processes have in common."""

    halted = False  # frozen or killed: the schedule hands back what falls due

    def __init__(self, schedule: Schedule, name: str) -> None:
        self.schedule = schedule
        self.name = name
        self._ready = schedule.ready
        self._timers = schedule.timers
        self._handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def keep(self, handle: Handle) -> None:
        """Take back a callback that fell due while this loop is halted."""
        raise NotImplementedError

    def deliver(self, context: contextvars.Context, callback: Callable[..., object], *args: Any) -> None:
        """Input from the network: runs now, or comes first when the process is thawed."""
        self._ready.append(Handle(self.schedule.now, callback, args, self, context))

    def time(self) -> float:
        return self.schedule.now

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        handle = Handle(self.schedule.now, callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        return self.call_at(self.schedule.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        handle = Handle(when, callback, args, self, context)
        schedule = self.schedule
        schedule.sequence += 1
        heappush(self._timers, (when, schedule.sequence, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def set_exception_handler(
        self, handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
    ) -> None:
        self._handler = handler

    def get_exception_handler(self) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None:
        return self._handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody caught ends the run, unless the program set a handler of its own."""
        if self._handler is not None:
            self._handler(self, context)
            return
        cause = context.get("exception")
        where = context.get("task") or context.get("future") or context.get("handle") or ""
        error = SimulationError(f"{self.name}, t={self.time():.6f}: {context['message']} {where}: {cause!r}")
        error.__cause__ = cause
        self.schedule.errors.append(error)
        self.schedule.stopping = True


class VirtualLoop(SimulatedLoop):
    """The loop of the test: owns the clock, cannot be frozen or killed."""

    def __init__(self) -> None:
        super().__init__(Schedule(), "test")
        self.processes: list[ProcessLoop] = []

    def process(self, name: str) -> ProcessLoop:
        """A new simulated process."""
        process = ProcessLoop(self, name)
        self.processes.append(process)
        return process

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end, then end every other task; raise what it raised or what nobody caught."""
        task = self.create_task(main, name="main")
        self._run_until(task)
        if not task.done():
            task.cancel()
        self._end_tasks()
        gc.collect()  # a failed task that nobody asked about speaks up when it is collected
        if self.schedule.errors:
            uncaught, self.schedule.errors = self.schedule.errors, []
            raise uncaught[0] if len(uncaught) == 1 else BaseExceptionGroup("nobody caught these", uncaught)
        return task.result()

    def _run_until(self, future: asyncio.Future[Any]) -> None:
        def stop(_: asyncio.Future[Any]) -> None:
            self.schedule.stopping = True

        future.add_done_callback(stop)
        try:
            self.schedule.run(self)
        except SimulationError as error:
            self.schedule.errors.append(error)
        future.remove_done_callback(stop)

    def _end_tasks(self) -> None:
        """Cancel what is still running and let it clean up; what is frozen is killed."""
        for process in self.processes:
            if process.halted:
                process.kill()
        loops = [self, *(process for process in self.processes if process.alive)]
        tasks = [task for loop in loops for task in asyncio.all_tasks(loop)]
        if not tasks:
            return
        left = set(tasks)
        done = self.create_future()

        def ended(task: asyncio.Task[Any]) -> None:
            left.discard(task)
            if not left and not done.done():
                done.set_result(None)

        for task in tasks:
            task.add_done_callback(ended)
            task.cancel()
        patience = self.call_later(CLEANUP_MAX_S, done.cancel)
        self._run_until(done)
        patience.cancel()
        if left:
            self.schedule.errors.append(SimulationError(f"these did not end when cancelled: {left}"))


class ProcessLoop(SimulatedLoop):
    """The loop of one simulated process. What it kept while frozen it runs when thawed, as a real loop would:
    first what was ready before, then what came in from the network, then timers."""

    def __init__(self, observer: VirtualLoop, name: str) -> None:
        super().__init__(observer.schedule, name)
        self._observer = observer
        self.alive = True
        self._ready_before: deque[Handle] = deque()
        self._input: deque[Handle] = deque()
        self._overdue: deque[Handle] = deque()
        self._buried: list[asyncio.Task[Any]] = []
        self._awaited: set[asyncio.Future[Any]] = set()

    @property
    def frozen(self) -> bool:
        return self.alive and self.halted

    def keep(self, handle: Handle) -> None:
        if self.alive:
            self._overdue.append(handle)

    def freeze(self) -> None:
        """SIGSTOP: nothing of this process runs until `thaw`."""
        if self.alive and not self.halted:
            self.halted = True
            for handle in [handle for handle in self._ready if handle._loop is self]:
                self._ready.remove(handle)
                self._ready_before.append(handle)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.frozen:
            self.halted = False
            for kept in (self._ready_before, self._input, self._overdue):
                self._ready.extend(kept)
                kept.clear()

    def kill(self) -> None:
        """SIGKILL: not one more line of this process runs."""
        if not self.alive:
            return
        self.alive = False
        self.halted = True
        # Kept, so that no collector closes their coroutines, and with that runs a `finally`, in mid-history.
        self._buried = list(asyncio.all_tasks(self))
        for task in self._buried:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        for kept in (self._ready_before, self._input, self._overdue):
            kept.clear()
        for future in list(self._awaited):
            if not future.done():
                future.set_exception(ProcessKilledError(self.name))
                future.exception()  # seen: a test need not wait for what it has killed
        self._awaited.clear()

    def deliver(self, context: contextvars.Context, callback: Callable[..., object], *args: Any) -> None:
        handle = Handle(self.schedule.now, callback, args, self, context)
        if not self.halted:
            self._ready.append(handle)
        elif self.alive:
            self._input.append(handle)

    def spawn(self, coro: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run `coro` in this process. What is returned belongs to the test's loop: it can wait for it."""
        result: asyncio.Future[T] = self._observer.create_future()
        if not self.alive:
            coro.close()
            result.set_exception(ProcessKilledError(self.name))
            return result
        self._awaited.add(result)

        def ended(task: asyncio.Task[T]) -> None:
            self._awaited.discard(result)
            if result.done():
                return
            if task.cancelled():
                result.cancel()
            elif error := task.exception():
                result.set_exception(error)
            else:
                result.set_result(task.result())

        self.create_task(coro).add_done_callback(ended)
        return result

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.alive:
            super().call_exception_handler(context)
