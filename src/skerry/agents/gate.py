"""How many tasks an agent works on at once, and which of those that were handed ahead to it comes next: the most urgent, then the first.

The rule: who stopped waiting takes no place, and whoever was let in leaves once.
"""

from __future__ import annotations

import asyncio
import heapq


class Gate:
    """`count` places."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap: rank, number, who waits
        self._last = 0

    async def enter(self, rank: int) -> None:
        """Wait for a place; the lowest rank first, among equals in the order in which they came."""
        if self._free:
            self._free -= 1
            return
        self._last += 1
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, self._last, waiting))
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self.leave()  # it was let in, and nobody is there any more
            raise

    def leave(self) -> None:
        while self._waiting:
            _, _, waiting = heapq.heappop(self._waiting)
            if not waiting.done():
                waiting.set_result(None)
                return
        self._free += 1
