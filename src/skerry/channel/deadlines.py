"""The deadlines of one link's calls, with one timer for all of them.

The rule: a call that nobody answers ends at its deadline, and one that was answered leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadlines:
    """Numbers and when they are over; `expire` is called with each one that is."""

    __slots__ = ("_at", "_expire", "_loop", "_timer", "_timer_at")

    def __init__(self, expire: Callable[[int], None]) -> None:
        self._expire = expire
        self._at: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._loop = asyncio.get_running_loop()

    def set(self, number: int, timeout_s: float) -> None:
        at = self._loop.time() + timeout_s
        self._at[number] = at
        if self._timer is None or at < self._timer_at:
            self._arm(at)

    def drop(self, number: int) -> None:
        self._at.pop(number, None)

    def rest(self) -> None:
        """Where nothing is left there is no timer either, until something is set again."""
        if not self._at and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for number in [number for number, at in self._at.items() if at <= now]:
            del self._at[number]
            self._expire(number)
        if self._at:
            self._arm(min(self._at.values()))
