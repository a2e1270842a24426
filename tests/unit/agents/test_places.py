"""Places are bounded, taken in order, and none is lost to somebody who stopped waiting."""

from __future__ import annotations

import asyncio

import pytest

from skerry.agents.places import Places
from tests.support import async_poll_until

LONG_S = 30.0


async def waiting(places: Places, entered: list[int], number: int, timeout_s: float = LONG_S) -> asyncio.Task[None]:
    async def take() -> None:
        await places.take(timeout_s=timeout_s)
        entered.append(number)

    task = asyncio.get_running_loop().create_task(take())
    await asyncio.sleep(0)
    return task


async def test_who_asks_first_is_served_first() -> None:
    places, entered = Places(2), list[int]()
    tasks = [await waiting(places, entered, number) for number in range(5)]
    assert entered == [0, 1]
    for count in (3, 4, 5):
        places.give_back()
        await tasks[count - 1]
        assert entered == list(range(count))


async def test_a_place_that_comes_too_late_is_not_taken() -> None:
    places, entered = Places(1), list[int]()
    await places.take(timeout_s=LONG_S)
    late = await waiting(places, entered, 1, timeout_s=0.01)
    patient = await waiting(places, entered, 2)
    with pytest.raises(TimeoutError):
        await late
    places.give_back()
    await patient
    assert entered == [2]


async def test_a_shorter_deadline_behind_a_longer_one_is_kept() -> None:
    places, entered = Places(1), list[int]()
    await places.take(timeout_s=LONG_S)
    patient = await waiting(places, entered, 1)
    with pytest.raises(TimeoutError):
        await places.take(timeout_s=0.01)
    places.give_back()
    await patient


@pytest.mark.parametrize("handed_over", [False, True])
async def test_a_place_goes_on_where_nobody_waits_for_it_any_more(handed_over: bool) -> None:
    places, entered = Places(1), list[int]()
    await places.take(timeout_s=LONG_S)
    gone = await waiting(places, entered, 1)
    patient = await waiting(places, entered, 2)
    if handed_over:
        places.give_back()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
    if not handed_over:
        places.give_back()
    await async_poll_until(patient.done, timeout_s=5)
    assert entered == [2]


async def test_a_place_that_nobody_wants_waits_for_the_next() -> None:
    places = Places(1)
    for _ in range(3):
        await places.take(timeout_s=0.01)
        places.give_back()
