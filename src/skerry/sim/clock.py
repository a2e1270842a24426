"""The wall clock and the randomness of a simulated host.

The rule: a wall clock may be wrong in every way a real one is (off, drifting, stepped, starting in 1970), and nothing in the world
notices but the host that reads it: timers run on the loop's own time.
"""

from __future__ import annotations

import asyncio
import random

EPOCH_MS = 1_750_000_000_000  # June 2025: where the wall clocks of a world begin when nobody says otherwise


class SimClock:
    """`ports.Clock` over the loop's time. `drift` is how much too fast it runs: 1e-4 gains 0.1 ms a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, start_ms: int = EPOCH_MS, drift: float = 0.0) -> None:
        self._loop = loop
        self._base_ms: float = start_ms
        self._base_s = loop.time()
        self._drift = drift
        self._set_by_ms = 0
        self.most_off_ms = 0  # by how much it was ever set wrong

    def now_ms(self) -> int:
        return max(int(self._exact_ms()), 0)

    def step(self, by_ms: int) -> None:
        """Somebody sets the clock: forward, or back."""
        self._base_ms += by_ms
        self._set_by_ms += by_ms
        self.most_off_ms = max(self.most_off_ms, abs(self._set_by_ms))

    def set_drift(self, drift: float) -> None:
        """From now on; what it has gained so far stays."""
        self._base_ms, self._base_s = self._exact_ms(), self._loop.time()
        self._drift = drift

    def _exact_ms(self) -> float:
        return self._base_ms + (self._loop.time() - self._base_s) * (1 + self._drift) * 1000


class SimRandom(random.Random):
    """`ports.Random` from a seed (a number, or text such as "7/alpha", so that each host has a stream of its own)."""

    def token(self, size_bytes: int) -> bytes:
        return self.randbytes(size_bytes)

    def fraction(self) -> float:
        return self.random()
