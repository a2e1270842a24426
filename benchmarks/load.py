"""Load on anything that can be called: one call after the other, or so many in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.figures import percentile

Call = Callable[[], Awaitable[object]]
IN_FLIGHT = 64
FAILED_S = 30.0  # nothing here takes so long unless it hangs


async def one_by_one(call: Call, *, seconds: float) -> list[float]:
    """How long each call took, in microseconds."""
    taken_us: list[float] = []
    now = time.perf_counter()
    ends = now + seconds
    while now < ends:
        await call()
        before, now = now, time.perf_counter()
        taken_us.append((now - before) * 1e6)
    return taken_us


async def per_second(call: Call, *, seconds: float, in_flight: int = IN_FLIGHT) -> float:
    """How many calls end per second while `in_flight` are under way."""
    done = 0
    began = time.perf_counter()
    ends = began + seconds

    async def keep_asking() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await call()
            done += 1

    async with asyncio.timeout(seconds + FAILED_S):
        await asyncio.gather(*(keep_asking() for _ in range(in_flight)))
    return done / (time.perf_counter() - began)


async def in_turns(ours: Call, theirs: Call, *, rounds: int, seconds: float) -> tuple[Rounds, Rounds]:
    """Both under the same load: one by one and in flight, ours and theirs in turns. The first turns only warm up."""
    measured, peer = Rounds(), Rounds()
    for call in (ours, theirs):
        await per_second(call, seconds=seconds / 2)
    for _ in range(rounds):
        for call, kept in ((ours, measured), (theirs, peer)):
            kept.add(await one_by_one(call, seconds=seconds))
        for call, kept in ((ours, measured), (theirs, peer)):
            kept.per_second.append(await per_second(call, seconds=seconds))
    return measured, peer


class Rounds:
    """What each round gave: latencies in microseconds, and calls per second."""

    def __init__(self) -> None:
        self.p50_us: list[float] = []
        self.p99_us: list[float] = []
        self.per_second: list[float] = []

    def add(self, taken_us: list[float]) -> None:
        self.p50_us.append(percentile(taken_us, 50))
        self.p99_us.append(percentile(taken_us, 99))
