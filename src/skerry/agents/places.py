"""A bounded number of places, taken in the order in which they were asked for, each within its time.

The rule: a place that was taken is given back once; whoever stopped waiting takes none.
"""

from __future__ import annotations

import asyncio

from skerry.channel.deadlines import Deadlines


class Places:
    """`count` of them. Not `asyncio.Semaphore`: that needs a timer for each who waits, and most tasks of a busy agent do."""

    __slots__ = ("_deadlines", "_free", "_last", "_loop", "_waiting")

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._last = 0
        self._deadlines = Deadlines(self._too_late)
        self._loop = asyncio.get_running_loop()

    async def take(self, *, timeout_s: float) -> None:
        """Wait for a place. Raises TimeoutError where none was free in time."""
        if self._free:
            self._free -= 1
            return
        self._last = number = self._last + 1
        waiting = self._waiting[number] = self._loop.create_future()
        self._deadlines.set(number, timeout_s)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self.give_back()  # it was handed over, and nobody is there any more
            raise
        finally:
            self._waiting.pop(number, None)
            self._deadlines.drop(number)

    def give_back(self) -> None:
        """To the first who waits, or to whoever comes."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
                return
        self._free += 1

    def _too_late(self, number: int) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_exception(TimeoutError())
