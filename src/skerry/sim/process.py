"""A simulated process: all that runs on behalf of one node or one worker, and that ends when it is killed.

Who runs is a context variable: tasks, timers and connections carry on the process in which they were made, as they carry on every
context. A killed process runs no further line: its coroutines are closed where they stand, its timers never fire. What their `finally`
blocks still try meets dead ports.

A process that stands still (a disk that takes its time, a machine that was suspended) runs nothing for a while; what is due and what
arrives meanwhile waits, in its order.

The rule: after `end()` nothing of the process is ever called again, and whoever waited for it hears `Died`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from skerry.sim.loop import VirtualLoop

T = TypeVar("T")
CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Died(RuntimeError):
    """The process ended before it had an answer."""


class Process:
    """See the module. Made inside a running loop."""

    def __init__(self, name: str, *, on_end: Callable[[int], None] | None = None) -> None:
        self.name = name
        self.is_over = False
        self.stalled_until = 0.0  # in the loop's time: until then no line of it runs
        self.stalled_s = 0.0  # how long it has stood still in all
        self._loop: VirtualLoop = asyncio.get_running_loop()  # type: ignore[assignment]
        self._on_end = on_end
        self._waiting: dict[asyncio.Future[Any], asyncio.Task[Any]] = {}
        self._context = contextvars.copy_context()
        self._context.run(CURRENT.set, self)

    def context(self) -> contextvars.Context:
        """A context of this process, for something of its own: two users of one context could not nest."""
        return self._context.copy()

    def within(self, function: Callable[[], T]) -> T:
        """Call it as this process."""
        return self.context().run(function)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._loop.create_task(work, context=self.context())

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have it done by this process, and wait. Raises what it raises, and Died where the process ends before."""
        if self.is_over:
            work.close()
            raise Died(f"{self.name} is dead")
        outcome: asyncio.Future[T] = self._loop.create_future()
        task = self._waiting[outcome] = self.spawn(work)
        task.add_done_callback(lambda done: _hand_over(done, outcome))
        try:
            return await outcome
        finally:
            self._waiting.pop(outcome, None)
            if not task.done() and not self.is_over:
                task.cancel()

    def stall(self, seconds: float) -> None:
        """It stands still from now on: what runs at this moment is the last line before it."""
        self.stalled_s += seconds
        self._loop.stall(self, seconds)

    @property
    def stall_left_s(self) -> float:
        return max(self.stalled_until - self._loop.time(), 0.0)

    def hang_up(self) -> None:
        """Whoever waits for an answer hears that there is none, and what it asked for is given up: the door closes."""
        for outcome, task in list(self._waiting.items()):
            if not outcome.done():
                outcome.set_exception(Died(f"{self.name} closed its door"))
            task.cancel()

    def end(self, status: int = -9) -> None:
        """SIGKILL, or the end of its program."""
        if self.is_over:
            return
        self.is_over = True
        self._loop.bury(self)
        for outcome in list(self._waiting):
            if not outcome.done():
                outcome.set_exception(Died(f"{self.name} died"))
        if self._on_end is not None:
            self._on_end(status)

    def tasks(self) -> list[asyncio.Task[Any]]:
        """What it runs now."""
        return [] if self.is_over else self._loop.tasks_of(self)

    def timers(self) -> list[asyncio.TimerHandle]:
        """What it has set, soonest first."""
        return [] if self.is_over else self._loop.timers_of(self)


def _hand_over(task: asyncio.Task[T], outcome: asyncio.Future[T]) -> None:
    if outcome.done():
        if not task.cancelled():
            task.exception()  # whoever waited is gone
    elif task.cancelled():
        outcome.cancel()
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())
