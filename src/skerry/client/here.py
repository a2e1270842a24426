"""The machine's own clock and randomness, behind their ports."""

from __future__ import annotations

import os
import random
import time


class SystemClock:
    """The wall clock of this machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SystemRandom:
    """Secrets from the operating system; jitter from a generator of its own."""

    def __init__(self) -> None:
        self._chance = random.Random()

    def token(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)

    def fraction(self) -> float:
        return self._chance.random()
