"""A bounded number of places, each taken within its time: callers in turns, and each caller's own by how urgent it says they are, then in
the order in which it asked. Nobody gets ahead of others by calling all that it asks for urgent.

Who asks for a thousand at once waits for all of them, and who asks for one waits for one of each of the others.

Where too many wait already, room is made by the one who has most waiting.

The rule: a place that was taken is given back once; whoever stopped waiting takes none; one caller's flood shuts no other one out.
"""

from __future__ import annotations

import asyncio

from skerry.channel.calls import CALLER, Body
from skerry.channel.deadlines import Deadlines
from skerry.errors import Code, Refused

CALLS_SHARE = 4  # of so many tasks that an agent works on at once one is no stream: streams last as long as their readers like
PRIORITY_MOST = 10  # the most urgent
PRIORITY_DEFAULT = 5
UNREAD_S = 1.0  # how long a stream may keep its place unread while others wait for one; a reader far away takes a third of it


class Places:
    """`count` of them; who has one of the last `ahead` waits still, for one of the others.

    Not `asyncio.Semaphore`: that needs a timer for each who waits, and most tasks of a busy agent do.
    """

    __slots__ = ("_ahead", "_deadlines", "_for_streams", "_free", "_last", "_loop", "_turns", "_waiting")

    def __init__(self, count: int, *, ahead: int = 0, streams: bool = True) -> None:
        """`streams`: whether some of the places are for streams."""
        self._free = count
        self._ahead = ahead
        self._for_streams = Places(count - ahead - (count - ahead) // CALLS_SHARE, streams=False) if streams else None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._turns: dict[bytes, dict[int, None]] = {}  # caller -> its numbers, in order; whose turn it is stands first
        self._last = 0
        self._deadlines = Deadlines(self._too_late)
        self._loop = asyncio.get_running_loop()

    async def take(self, *, timeout_s: float, stream: bool = False, priority: int = PRIORITY_DEFAULT) -> None:
        """Wait for a place. Raises TimeoutError where none was free in time, Refused where it had to make room."""
        if stream and self._for_streams is not None:
            ends = self._loop.time() + timeout_s
            await self._for_streams.take(timeout_s=timeout_s, priority=priority)
            try:
                await self.take(timeout_s=ends - self._loop.time(), priority=priority)
            except BaseException:
                self._for_streams.give_back()
                raise
            return
        if self._free:
            self._free -= 1
            return
        self._last += 1
        number = _rank(priority) + self._last
        waiting = self._waiting[number] = self._loop.create_future()
        caller = CALLER.get()
        numbers = self._turns.setdefault(caller, {})
        if numbers and number < next(reversed(numbers)):  # more urgent than some that wait
            self._turns[caller] = dict.fromkeys(sorted([*numbers, number]))
        else:
            numbers[number] = None
        self._deadlines.set(number, timeout_s)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self.give_back()  # it was handed over, and nobody is there any more
            raise
        finally:
            self._waiting.pop(number, None)
            self._leave(caller, number)
            self._deadlines.drop(number)
            self._deadlines.rest()  # a node that ends leaves no timer behind

    def give_back(self, *, stream: bool = False) -> None:
        """To the next who waits, or to whoever comes."""
        if stream and self._for_streams is not None:
            self._for_streams.give_back()
        while self._turns:
            caller, numbers = next(iter(self._turns.items()))
            number = next(iter(numbers))
            self._leave(caller, number)
            if numbers:
                self._turns[caller] = self._turns.pop(caller)  # last again
            if self._send(number, None):
                return
        self._free += 1

    def give_way(self, priority: int, why: Refused) -> bool:
        """Send away the last of this caller's own that is less urgent; whether there was one."""
        caller = CALLER.get()
        number = next(reversed(self._turns.get(caller, {})), 0)
        if number < _rank(priority - 1):
            return self._for_streams is not None and self._for_streams.give_way(priority, why)
        self._leave(caller, number)
        return self._send(number, why)

    def make_room(self) -> bool:
        """Send away the last that came of who has most waiting; False where that is who asks now."""
        caller = max(self._turns, key=lambda one: len(self._turns[one]), default=b"")
        numbers = self._turns.get(caller, {})
        if len(numbers) <= len(self._turns.get(CALLER.get(), ())) + 1:
            return self._for_streams is not None and self._for_streams.make_room()
        number = next(reversed(numbers))
        self._leave(caller, number)
        return self._send(number, Refused("others wait for this agent too, and you have most tasks there", code=Code.BUSY, hint=_LATER))

    async def hand_on(self, part: Body, arrived: asyncio.Queue[Body | None]) -> None:
        """Put a part of a stream where its reader takes it. Raises Refused where it keeps a place by not reading."""
        while True:
            try:
                async with asyncio.timeout(UNREAD_S):
                    return await arrived.put(part)
            except TimeoutError:
                if self._free < self._ahead or self._is_wanted or (self._for_streams is not None and self._for_streams._is_wanted):
                    raise Refused("the stream was not read while others waited for its place", code=Code.CANCELLED) from None

    @property
    def _is_wanted(self) -> bool:
        return any(not waiting.done() for waiting in self._waiting.values())

    def _too_late(self, number: int) -> None:
        self._send(number, TimeoutError())

    def _leave(self, caller: bytes, number: int) -> None:
        numbers = self._turns.get(caller, {})
        numbers.pop(number, None)
        if not numbers:
            self._turns.pop(caller, None)

    def _send(self, number: int, why: Exception | None) -> bool:
        """End somebody's wait: with a place, or with the reason why there is none. Whether somebody waited still."""
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return False
        if why is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(why)
        return True


def _rank(priority: int) -> int:
    """Numbers of one priority lie together, the more urgent ones before."""
    return (PRIORITY_MOST - priority) << 48


_LATER = "try again in a moment"
