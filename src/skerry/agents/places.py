"""A bounded number of places, each taken within its time: callers in turns, and each caller's own by how urgent it says they are, then in
the order in which it asked. Nobody gets ahead of others by calling all that it asks for urgent.

Who asks for a thousand at once waits for all of them, and who asks for one waits for one of each of the others.

The rule: a place that was taken is given back once; whoever stopped waiting takes none.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections import deque

from skerry.channel.calls import CALLER, Body
from skerry.channel.deadlines import Deadlines
from skerry.errors import Code, Refused

PRIORITY_MOST = 10  # the most urgent
PRIORITY_DEFAULT = 5
UNREAD_S = 1.0  # how long a stream may keep its place unread while others wait for one; a reader far away takes a third of it


class Places:
    """`count` of them; who has one of the last `ahead` waits still, for one of the others.

    Not `asyncio.Semaphore`: that needs a timer for each who waits, and most tasks of a busy agent do.
    """

    __slots__ = ("_ahead", "_deadlines", "_free", "_last", "_loop", "_turns", "_waiting")

    def __init__(self, count: int, *, ahead: int = 0) -> None:
        self._free = count
        self._ahead = ahead
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._turns: dict[bytes, deque[int]] = {}  # caller -> its numbers; whose turn it is stands first
        self._last = 0
        self._deadlines = Deadlines(self._too_late)
        self._loop = asyncio.get_running_loop()

    async def take(self, *, timeout_s: float, priority: int = PRIORITY_DEFAULT) -> None:
        """Wait for a place. Raises TimeoutError where none was free in time."""
        if self._free:
            self._free -= 1
            return
        self._last += 1
        number = _rank(priority) + self._last
        waiting = self._waiting[number] = self._loop.create_future()
        numbers = self._turns.setdefault(CALLER.get(), deque())
        numbers.insert(bisect(numbers, number), number) if numbers and number < numbers[-1] else numbers.append(number)
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
        """To the next who waits, or to whoever comes."""
        while self._turns:
            caller, numbers = next(iter(self._turns.items()))
            waiting = self._waiting.get(numbers.popleft()) if numbers else None
            del self._turns[caller]
            if numbers:
                self._turns[caller] = numbers  # last again
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
                return
        self._free += 1

    def give_way(self, priority: int, why: Refused) -> bool:
        """Send away the last of this caller's own that is less urgent; whether there was one."""
        numbers = self._turns.get(CALLER.get())
        while numbers and numbers[-1] >= _rank(priority - 1):
            waiting = self._waiting.get(numbers.pop())
            if waiting is not None and not waiting.done():
                waiting.set_exception(why)
                return True
        return False

    async def hand_on(self, part: Body, arrived: asyncio.Queue[Body | None]) -> None:
        """Put a part of a stream where its reader takes it. Raises Refused where it keeps a place by not reading."""
        while True:
            try:
                async with asyncio.timeout(UNREAD_S):
                    return await arrived.put(part)
            except TimeoutError:
                if self._free < self._ahead or any(not waiting.done() for waiting in self._waiting.values()):
                    raise Refused("the stream was not read while others waited for its place", code=Code.CANCELLED) from None

    def _too_late(self, number: int) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_exception(TimeoutError())


def _rank(priority: int) -> int:
    """Numbers of one priority lie together, the more urgent ones before."""
    return (PRIORITY_MOST - priority) << 48
