"""Places are bounded, taken in order, and none is lost to somebody who stopped waiting."""

from __future__ import annotations

import asyncio

import pytest

from skerry.agents import places as module
from skerry.agents.places import Places
from skerry.channel.calls import CALLER, Body
from skerry.errors import Refused
from skerry.sim import loop as simulation
from skerry.sim.process import Process
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


async def test_who_got_a_place_leaves_no_timer_behind() -> None:
    places, entered = Places(1), list[int]()
    await places.take(timeout_s=LONG_S)
    for number in range(2):  # the second wait sets it anew
        task = await waiting(places, entered, number)
        assert places._deadlines._timer is not None
        places.give_back()
        await task
        assert places._deadlines._timer is None


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


@pytest.mark.parametrize("gives_up", [False, True])
def test_nobody_who_waited_leaves_a_timer(gives_up: bool) -> None:
    """An agent ends with its node: what its tasks waited for must not keep the loop waiting."""

    async def wait_for_one() -> None:
        places = Places(1)
        await places.take(timeout_s=LONG_S)
        tasks = [await waiting(places, [], number) for number in range(2)]
        for task in tasks:
            if gives_up:
                task.cancel()
            else:
                places.give_back()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def timers_left() -> int:
        process = Process("alpha")
        await process.run(wait_for_one())
        return len(process.timers())

    assert simulation.run(timers_left()) == 0


def test_while_one_waits_still_its_deadline_is_kept_when_others_go() -> None:
    async def wait() -> float:
        places, loop = Places(1), asyncio.get_running_loop()
        await places.take(timeout_s=LONG_S)
        first, late = await waiting(places, [], 1, timeout_s=2.0), await waiting(places, [], 2, timeout_s=5.0)
        first.cancel()
        with pytest.raises(TimeoutError):
            await late
        return loop.time()

    assert simulation.run(wait()) == pytest.approx(5.0)


async def test_callers_take_turns_however_much_one_of_them_asks() -> None:
    places, entered = Places(1), list[int]()
    await places.take(timeout_s=LONG_S)
    for caller, numbers in ((b"greedy", range(100)), (b"modest", range(1000, 1002)), (b"other", range(2000, 2001))):
        CALLER.set(caller)
        for number in numbers:
            await waiting(places, entered, number)
    for count in range(1, 8):
        places.give_back()
        while len(entered) < count:
            await asyncio.sleep(0)
    assert entered == [0, 1000, 2000, 1, 1001, 2, 3]


async def test_turns_pass_over_those_who_went() -> None:
    places, entered = Places(1), list[int]()
    await places.take(timeout_s=LONG_S)
    gone = [await waiting(places, entered, number) for number in range(3)]
    CALLER.set(b"other")
    stays = await waiting(places, entered, 9)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    places.give_back()
    await stays
    places.give_back()
    await places.take(timeout_s=LONG_S)
    assert entered == [9]


async def test_a_stream_that_nobody_reads_loses_its_place_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREAD_S", 0.05)
    places, full = Places(1), asyncio.Queue[Body | None](1)
    await places.take(timeout_s=LONG_S)
    full.put_nowait(b"unread")
    handing = asyncio.ensure_future(places.hand_on(b"next", full))
    await asyncio.wait({handing}, timeout=0.2)
    assert not handing.done(), "while nobody else wants it, a reader may think"
    wants = await waiting(places, [], 1)
    with pytest.raises(Refused, match="not read"):
        await handing
    wants.cancel()


async def test_who_waits_inside_the_worker_wants_a_place_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREAD_S", 0.05)
    places, full = Places(2, ahead=1), asyncio.Queue[Body | None](1)
    await places.take(timeout_s=LONG_S)
    await places.take(timeout_s=LONG_S)
    full.put_nowait(b"unread")
    with pytest.raises(Refused, match="not read"):
        await places.hand_on(b"next", full)


async def test_fix_priority_is_obeyed_among_one_callers_tasks_and_not_before_others() -> None:
    places, entered = Places(1), list[str]()
    await places.take(timeout_s=LONG_S)

    async def take(name: str, caller: bytes, priority: int) -> None:
        CALLER.set(caller)
        await places.take(timeout_s=LONG_S, priority=priority)
        entered.append(name)
        places.give_back()

    asked = [("a1", b"a", 1), ("a5", b"a", 5), ("a10", b"a", 10), ("b0", b"b", 0), ("a5-later", b"a", 5)]
    tasks = []
    for name, caller, priority in asked:
        tasks.append(asyncio.create_task(take(name, caller, priority)))
        await asyncio.sleep(0)
    places.give_back()
    await asyncio.gather(*tasks)
    assert entered == ["a10", "b0", "a5", "a5-later", "a1"]


async def test_the_least_urgent_of_the_same_caller_gives_way() -> None:
    places, why = Places(1), Refused("full", code="busy", retry_after_s=1.5)
    await places.take(timeout_s=LONG_S)
    tasks = {priority: asyncio.create_task(places.take(timeout_s=LONG_S, priority=priority)) for priority in (3, 7, 5)}
    await asyncio.sleep(0)
    assert not places.give_way(3, why), "nobody is less urgent than that"
    assert places.give_way(4, why)
    with pytest.raises(Refused) as caught:
        await tasks[3]
    assert caught.value.retry_after_s == 1.5
    assert places.give_way(10, why)
    with pytest.raises(Refused):
        await tasks[5]
    CALLER.set(b"somebody else")
    assert not places.give_way(10, why), "others are none of its business"
    places.give_back()
    await tasks[7]
    assert not places.give_way(10, why)


async def _crowd(places: Places, **wanted: int) -> dict[str, list[asyncio.Task[None]]]:
    """So many waiting tasks of each caller."""
    found = {}
    for caller, count in wanted.items():
        CALLER.set(caller.encode())
        found[caller] = [await waiting(places, [], number) for number in range(count)]
    return found


async def test_room_is_made_by_who_has_most_waiting() -> None:
    places = Places(1)
    await places.take(timeout_s=LONG_S)
    crowd = await _crowd(places, greedy=5, other=2)
    CALLER.set(b"modest")
    for left in (4, 3):
        assert places.make_room()
        with pytest.raises(Refused, match="most"):
            await crowd["greedy"][left]
    assert not any(task.done() for task in crowd["greedy"][:3] + crowd["other"])
    places.give_back()
    await crowd["greedy"][0]


async def test_who_has_most_waiting_makes_no_room_for_himself() -> None:
    places = Places(1)
    assert not places.make_room(), "nobody waits: those who run are not sent away"
    await places.take(timeout_s=LONG_S)
    await _crowd(places, greedy=3, other=2)
    CALLER.set(b"greedy")
    assert not places.make_room()
    CALLER.set(b"other")
    assert not places.make_room(), "it would have as many as the other one"


async def test_who_stopped_waiting_counts_no_more() -> None:
    places = Places(1)
    await places.take(timeout_s=LONG_S)
    crowd = await _crowd(places, greedy=5, other=3)
    for task in crowd["greedy"][1:]:
        task.cancel()
    await asyncio.gather(*crowd["greedy"][1:], return_exceptions=True)
    CALLER.set(b"modest")
    assert places.make_room()
    with pytest.raises(Refused):
        await crowd["other"][2]


async def test_streams_leave_some_places_to_calls() -> None:
    places, entered = Places(4), list[int]()
    for _ in range(3):
        await places.take(timeout_s=LONG_S, stream=True)
    with pytest.raises(TimeoutError):
        await places.take(timeout_s=0.01, stream=True)
    await places.take(timeout_s=LONG_S)
    call = await waiting(places, entered, 1)
    places.give_back(stream=True)
    await call
    places.give_back()
    await places.take(timeout_s=LONG_S, stream=True)


async def test_a_stream_that_waits_wants_the_place_of_one_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREAD_S", 0.05)
    places, full = Places(4), asyncio.Queue[Body | None](1)
    for _ in range(3):
        await places.take(timeout_s=LONG_S, stream=True)
    full.put_nowait(b"unread")
    wants = asyncio.ensure_future(places.take(timeout_s=LONG_S, stream=True))
    with pytest.raises(Refused, match="not read"):
        await places.hand_on(b"next", full)
    wants.cancel()


async def test_who_waits_no_more_leaves_no_timer_and_the_next_one_has_its_own() -> None:
    places = Places(1)
    await places.take(timeout_s=LONG_S)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await places.take(timeout_s=0.01)
        assert places._deadlines._timer is None
    gave_up = asyncio.create_task(places.take(timeout_s=LONG_S))
    await asyncio.sleep(0)
    gave_up.cancel()
    await asyncio.gather(gave_up, return_exceptions=True)
    assert places._deadlines._timer is None
