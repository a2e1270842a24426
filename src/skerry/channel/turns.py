"""Calls begin in turns: some in each turn of the loop, and where more came, callers one after the other, each one's own in order.

What a call does is done in the next turns of the loop, along with all other calls that began together. Five hundred that came at once
would make such a turn a tenth of a second long, and a call takes six of them. So some begin, everybody else has a turn, and then some
more. Who has no other call under way does not wait for those who have: its first begins at once.

Where fewer come than may begin, which is always but in a siege, this is a number that is counted down.

The rule: however many calls come at once, from however many, a turn of the loop stays short.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

CALLS_PER_TURN = 128  # while nobody waits: one connection alone has at most 64 in a turn, and so never does
LOW = CALLS_PER_TURN // 2  # left, at which the next turn is asked for
BESIEGED = 8  # of those who wait, in each turn: 2 ms of a node's work on them
FIRST_PER_TURN = 8  # of those who have no other one under way; above it they wait like the others

Start = Callable[[], bool]  # begins a call; False where nobody wants it any more


class Turns:
    """Those of one node's links. Where few are left, or somebody waits, a next turn is on its way."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = CALLS_PER_TURN
        self._first_left = FIRST_PER_TURN
        self._waiting: dict[bytes, deque[Start]] = {}  # caller -> its calls; whose turn it is stands first

    def take(self) -> bool:
        """Whether a call may begin now. Where it may not it has to `wait`."""
        if not self._left or self._waiting:
            return False
        self._left -= 1
        if self._left == LOW:
            self._loop.call_soon(self._next_turn)
        return True

    def wait(self, caller: bytes, start: Start, *, first: bool) -> None:
        """Begin it in the caller's turn; now, if it is its `first` and it has no other call under way."""
        if first and self._first_left and caller not in self._waiting:
            self._first_left -= start()
        else:
            self._waiting.setdefault(caller, deque()).append(start)

    def _next_turn(self) -> None:
        self._first_left = FIRST_PER_TURN
        begun = 0
        while begun < BESIEGED and self._waiting:
            caller = next(iter(self._waiting))
            starts = self._waiting.pop(caller)
            start = starts.popleft()
            if starts:
                self._waiting[caller] = starts  # last again
            begun += start()
        self._left = CALLS_PER_TURN - begun
        if self._waiting:
            self._loop.call_soon(self._next_turn)
