"""Calls begin in turns: a few in each turn of the loop, callers one after the other, each one's own in order.

What a call does is done in the next turns of the loop, along with all other calls that began together. Five hundred that came at once
would make such a turn a tenth of a second long, and a call takes six of them. So a few begin, everybody else has a turn, and then a few
more. Who has no other call under way does not wait for those who have: its first begins at once.

The rule: however many calls come at once, from however many, a turn of the loop stays short.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

CALLS_PER_TURN = 8  # 2 ms of a node's work on them
FIRST_PER_TURN = 8  # of those who have no other one under way; above it they wait like the others

Start = Callable[[], bool]  # begins a call; False where nobody wants it any more


class Turns:
    """Those of one node's links."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = CALLS_PER_TURN
        self._first_left = FIRST_PER_TURN
        self._waiting: dict[bytes, deque[Start]] = {}  # caller -> its calls; whose turn it is stands first
        self._turn_open = False

    def begin(self, caller: bytes, start: Start, *, first: bool) -> None:
        """Now, where there is room in this turn of the loop; else in the caller's turn. `first`: it has no other call under way."""
        if self._left and not self._waiting:
            self._left -= start()
        elif first and self._first_left and caller not in self._waiting:
            self._first_left -= start()
        else:
            self._waiting.setdefault(caller, deque()).append(start)
        if not self._turn_open:
            self._turn_open = True
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._left, self._first_left = CALLS_PER_TURN, FIRST_PER_TURN
        while self._left and self._waiting:
            caller = next(iter(self._waiting))
            starts = self._waiting.pop(caller)
            start = starts.popleft()
            if starts:
                self._waiting[caller] = starts  # last again
            self._left -= start()
        self._turn_open = self._left < CALLS_PER_TURN
        if self._turn_open:
            self._loop.call_soon(self._next_turn)
