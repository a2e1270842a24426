"""An asyncio event loop in which time is a number.

When nothing is ready, time jumps to the next timer; an hour of heartbeats passes as fast as its callbacks run. Everything above it is
ordinary asyncio: tasks, timers, timeouts, executors.

The rule: **the same program and the same seed give the same trace**, in every process. So nothing here depends on the wall clock, on
threads, on addresses in memory or on PYTHONHASHSEED:

- timers of the same moment fire in the order in which they were set;
- a task hashes as its number, so that sets of tasks (asyncio keeps several, TaskGroup cancels from one) have one order everywhere;
- `run_in_executor` calls the function there and then, on this thread;
- real sockets, processes and name look-ups are refused.

What stays with the program: sets of its own objects, of strings and of bytes have no order to rely on.

A program that can't go on is a failed run, with its reason (`Stuck`), and so is an exception that nobody caught.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import heapq
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from skerry.sim.process import CURRENT, Process

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ROUNDS_MAX = 1_000_000  # turns of the loop while time stands still: seconds of real time; a spinning program has no end
ENDING_LOOK_S = 1.0  # virtual seconds between two looks at what is still to end
ENDING_LOOKS_MAX = 600  # ten minutes: longer than any orderly end
CLOSINGS_MAX = 100  # times that a killed task may catch its end and go on; then it is let go as it stands
CANCELLED_MIN = 256  # below this many cancelled timers a sweep costs more than it saves
WAITING_SHOWN_MAX = 10  # tasks named when nothing can happen any more


class Stuck(RuntimeError):
    """Nothing can happen any more (all wait for each other), or time stands still (something spins)."""


class SimTask(asyncio.Task[T]):
    """A task that hashes as its number, not as its address, and knows whose it is."""

    _log_destroy_pending: bool  # what asyncio keeps, and its published types don't
    _fut_waiter: asyncio.Future[Any] | None

    def __init__(self, coro: Coroutine[Any, Any, T], *, number: int, context: contextvars.Context | None = None, **options: Any) -> None:
        self.number = number
        context = contextvars.copy_context() if context is None else context
        self.process = context.get(CURRENT)
        super().__init__(coro, context=context, **options)

    def __hash__(self) -> int:
        return self.number


def _refused(what: str) -> Any:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(f"{what} reaches out of the simulation: use the simulated port instead")

    return refuse


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. `failure` is the first exception that nobody caught; it stops the loop."""

    # what BaseEventLoop keeps and we share with it; not in its published types
    _ready: collections.deque[asyncio.Handle]
    _stopping: bool
    _thread_id: int | None
    _timer_cancelled_count: int
    _asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]]

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap; the number keeps the order of one moment
        self._timer_count = 0
        self._task_count = 0
        self._rounds = 0
        self._stalled: dict[Process, list[asyncio.Handle]] = {}  # processes that stand still, and what waits for them
        self._generators: dict[int, Process | None] = {}  # whose each asynchronous generator is, by its address
        self.failure: BaseException | None = None
        self.set_debug(False)
        self.set_exception_handler(lambda _, context: self._fail(context))

    def time(self) -> float:
        return self._now

    # --- scheduling ---------------------------------------------------------------------------------------------------------------

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        if self._thread_id not in (None, threading.get_ident()):
            raise RuntimeError("another thread calls into simulated time: its moment would be a matter of luck")
        return self.call_soon(callback, *args, context=context)

    def create_task(
        self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], *, name: object = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        assert asyncio.iscoroutine(coro), "a task needs a coroutine"
        self._task_count += 1
        title = f"task-{self._task_count}" if name is None else str(name)
        return SimTask(coro, number=self._task_count, loop=self, name=title, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - a boundary: whatever the function raises belongs to whoever awaits it
            done.set_exception(error)
        return done

    # --- the turn of the loop (called by run_forever) -----------------------------------------------------------------------------

    def _run_once(self) -> None:
        ready = self._ready
        timers = self._timers
        if not ready and not self._stopping:
            self._jump()
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        self._rounds += 1
        if self._rounds > ROUNDS_MAX:
            raise Stuck(f"time stands still at {self._now:.6f} s: {ROUNDS_MAX} turns; running: {self._waiting()}")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled() and not (self._stalled and self._is_held(handle)):
                handle._run()
                handle._callback = None  # type: ignore[attr-defined]  # since 3.12 a task's exception leads back to it: a circle

    def _jump(self) -> None:
        timers = self._timers
        if self._timer_cancelled_count > CANCELLED_MIN and self._timer_cancelled_count * 2 > len(timers):
            timers[:] = [timer for timer in timers if not timer[2].cancelled()]
            heapq.heapify(timers)
            self._timer_cancelled_count = 0
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise Stuck(f"nothing is left to happen at {self._now:.6f} s; waiting: {self._waiting()}")
        if timers[0][0] > self._now:
            self._now = timers[0][0]
            self._rounds = 0

    def _waiting(self) -> str:
        names = [f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})" for task in self._pending_tasks()]
        more = len(names) - WAITING_SHOWN_MAX
        return ", ".join(names[:WAITING_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")

    def _pending_tasks(self) -> list[SimTask[Any]]:
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimTask)]
        return sorted((task for task in tasks if task.process is None or not task.process.is_over), key=hash)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._timer_cancelled_count += 1

    # --- processes ------------------------------------------------------------------------------------------------------------------

    def tasks_of(self, process: Process) -> list[asyncio.Task[Any]]:
        """What a process runs now, in the order in which it began."""
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimTask) and task.process is process]
        return sorted(tasks, key=hash)

    def timers_of(self, process: Process) -> list[asyncio.TimerHandle]:
        """What a process has set and not cancelled."""
        timers = sorted(self._timers, key=lambda timer: timer[:2])
        return [timer for *_, timer in timers if not timer.cancelled() and timer._context.get(CURRENT) is process]  # type: ignore[attr-defined]

    def stall(self, process: Process, seconds: float) -> None:
        """No line of a process runs for so long, from the next one on. Called by `Process.stall`."""
        process.stalled_until = max(process.stalled_until, self._now) + seconds
        self._stalled.setdefault(process, [])
        self.call_at(process.stalled_until, self._go_on, process, context=contextvars.Context())

    def _is_held(self, handle: asyncio.Handle) -> bool:
        held = self._stalled.get(handle._context.get(CURRENT))  # type: ignore[attr-defined]
        if held is None:
            return False
        held.append(handle)
        return True

    def _go_on(self, process: Process) -> None:
        if process.stalled_until <= self._now:
            self._ready.extendleft(reversed(self._stalled.pop(process, [])))  # before what came later

    def bury(self, process: Process) -> None:
        """No further line of a process runs: its coroutines are closed, its timers taken away. Called by `Process.end`."""
        buried: set[asyncio.Task[Any]] = set()
        while fresh := [task for task in self.tasks_of(process) if task not in buried]:
            for task in fresh:
                buried.add(task)
                assert isinstance(task, SimTask)
                task._log_destroy_pending = False
                process.within(lambda task=task: _close(task))  # type: ignore[misc]
        for handle in [*self._ready, *self._stalled.pop(process, []), *(timer[2] for timer in self._timers)]:
            if not handle.cancelled() and handle._context.get(CURRENT) is process:  # type: ignore[attr-defined]
                handle.cancel()

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        self._generators[id(agen)] = CURRENT.get()
        super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        owner = self._generators.pop(id(agen), None)
        if owner is None or not owner.is_over:  # what the dead left half done stays so
            super()._asyncgen_finalizer_hook(agen)  # type: ignore[misc]

    async def shutdown_asyncgens(self) -> None:
        for agen in list(self._asyncgens):
            owner = self._generators.get(id(agen))
            if owner is not None and owner.is_over:
                self._asyncgens.discard(agen)
        await super().shutdown_asyncgens()

    def _fail(self, context: dict[str, Any]) -> None:
        task = context.get("task") or context.get("future")
        if isinstance(task, SimTask) and task.process is not None and task.process.is_over:
            return  # nobody reads what the dead leave behind
        if self.failure is None:
            self.failure = context.get("exception") or RuntimeError(context["message"])
            self.failure.add_note(f"in simulated time, at {self._now:.6f} s: {context['message']}")
        self.stop()

    # --- what a simulation does not touch -----------------------------------------------------------------------------------------

    create_connection: Any = _refused("create_connection")
    create_server: Any = _refused("create_server")
    create_datagram_endpoint: Any = _refused("create_datagram_endpoint")
    create_unix_connection: Any = _refused("create_unix_connection")
    create_unix_server: Any = _refused("create_unix_server")
    connect_read_pipe: Any = _refused("connect_read_pipe")
    connect_write_pipe: Any = _refused("connect_write_pipe")
    subprocess_exec: Any = _refused("subprocess_exec")
    subprocess_shell: Any = _refused("subprocess_shell")
    getaddrinfo: Any = _refused("getaddrinfo")
    getnameinfo: Any = _refused("getnameinfo")
    add_reader: Any = _refused("add_reader")
    add_writer: Any = _refused("add_writer")
    add_signal_handler: Any = _refused("add_signal_handler")


def _close(task: SimTask[Any]) -> None:
    """End a task where it stands. What its `finally` blocks await is closed in turn."""
    waits_for = task._fut_waiter
    if waits_for is not None and waits_for.done() and not waits_for.cancelled():
        waits_for.exception()  # it ended in this very moment, and the dead do not hear with what
    coroutine = task.get_coro()
    for _ in range(CLOSINGS_MAX):
        try:
            coroutine.close()
        except Exception:  # noqa: BLE001 - a boundary: what a dying task says meets nobody
            continue
        return


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in virtual time, end what it leaves behind, and raise what nobody caught."""
    loop = VirtualLoop()
    try:
        result = _complete(loop, main)
    except BaseException:
        with suppress(Exception):  # the first failure tells what is wrong; what its ruins do while they are cleared says less
            _complete(loop, _end_all(loop))
        raise
    else:
        _complete(loop, _end_all(loop))
        return result
    finally:
        loop.close()


def _complete(loop: VirtualLoop, main: Coroutine[Any, Any, T]) -> T:
    loop._rounds = 0
    task = loop.create_task(main)
    try:
        result = loop.run_until_complete(task)
    except BaseException:
        failure, loop.failure = loop.failure, None
        if failure is not None:
            raise failure from None
        raise
    if loop.failure is not None:
        failure, loop.failure = loop.failure, None
        raise failure
    return result


async def _end_all(loop: VirtualLoop) -> None:
    """Cancel what is left. A process may die of it and bury tasks that we wait for, so we look again."""
    looks = 0
    while rest := [task for task in loop._pending_tasks() if task is not asyncio.current_task()]:
        for task in rest:
            if not task.cancelling():
                task.cancel()
        done, _ = await asyncio.wait(rest, timeout=ENDING_LOOK_S)
        looks += 1
        if looks > ENDING_LOOKS_MAX:
            raise Stuck(f"{len(rest)} tasks do not end although they are cancelled: {loop._waiting()}")
        for task in done:
            if not task.cancelled():
                task.exception()  # its run is over: nobody asks any more
    await loop.shutdown_asyncgens()
