"""The gate of an agent's worker: so many at once, the most urgent next, and no place is lost."""

from __future__ import annotations

import asyncio

from skerry.agents.gate import Gate

SETTLE_TURNS = 5


async def settled() -> None:
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)


async def test_the_most_urgent_comes_next_and_equals_in_order() -> None:
    gate, entered = Gate(1), list[str]()

    async def enter(name: str, rank: int) -> None:
        await gate.enter(rank)
        entered.append(name)

    await gate.enter(-5)
    waiting = [asyncio.create_task(enter(name, rank)) for name, rank in (("a", -5), ("b", -1), ("c", -9), ("d", -5))]
    await settled()
    assert entered == []
    for _ in waiting:
        gate.leave()
        await settled()
    assert entered == ["c", "a", "d", "b"]


async def test_who_gives_up_takes_no_place_whenever_it_does() -> None:
    gate = Gate(1)
    await gate.enter(0)
    early, late, last = (asyncio.create_task(gate.enter(0)) for _ in range(3))
    await settled()
    early.cancel()
    await settled()
    gate.leave()
    late.cancel()  # it was let in, and does not know yet
    await settled()
    assert (early.cancelled(), late.cancelled(), last.done()) == (True, True, True)
    gate.leave()
    await asyncio.wait_for(gate.enter(0), 1)
