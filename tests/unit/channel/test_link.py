"""Calls and streams over a link between two simulated hosts; large values over its second connection."""

from __future__ import annotations

import asyncio

import pytest

from skerry.channel.framing import INLINE_BYTES_MAX
from skerry.channel.link import BULK_TIMEOUT_S, Link
from skerry.channel.session import CREDIT_FIRST
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.codec import PAYLOAD_BYTES_MAX
from skerry.sim.link import Link as Wire
from tests.support import async_poll_until
from tests.support.links import Side, World, simulated

LARGE = 300_000
AGES_S = 3600.0


async def pair(*, wire: Wire | None = None) -> tuple[World, Side, Side, Link]:
    """Two sides, and the link from the first to the second."""
    world = World(2, wire=wire)
    alpha, beta = await world.open()
    return world, alpha, beta, await alpha.to(beta)


async def back(beta: Side, alpha: Side) -> Link:
    link = await async_poll_until(lambda: beta.links.get(alpha.id))
    assert link is not None
    return link


async def failing(link: Link, verb: str, body: bytes = b"", *, timeout_s: float = 5.0) -> SkerryError:
    with pytest.raises(SkerryError) as caught:
        await link.call(verb, body, timeout_s=timeout_s)
    return caught.value


# --- calls ----------------------------------------------------------------------------------------------------------------------------


@simulated
async def test_both_sides_call_and_many_at_once() -> None:
    _, alpha, beta, link = await pair()
    other = await back(beta, alpha)
    asked = [one.call("echo", bytes([number]), timeout_s=5) for number in range(100) for one in (link, other)]
    assert await asyncio.gather(*asked) == [bytes([number]) for number in range(100) for _ in range(2)]
    assert not link.busy


@simulated
async def test_a_refusal_keeps_its_code_and_a_bug_stays_inside() -> None:
    _, _, _, link = await pair()
    error = await failing(link, "fail")
    assert isinstance(error, Refused)
    assert (error.code, error.message, error.hint) == ("a_new_code", "no, because", "ask somebody else")
    error = await failing(link, "crash")
    assert error.code == Code.INTERNAL
    assert "LookupError" not in error.message
    assert await link.call("echo", b"still here", timeout_s=5) == b"still here"


@simulated
async def test_a_deadline_ends_the_call_here_and_the_work_there() -> None:
    _, _, beta, link = await pair()
    loop = asyncio.get_running_loop()
    started = loop.time()
    error = await failing(link, "never", timeout_s=1.5)
    assert error.code == Code.DEADLINE_EXCEEDED
    assert 1.5 <= loop.time() - started < 1.6
    await async_poll_until(lambda: beta.household.cancelled == ["never"])
    assert not link.busy


@simulated
async def test_each_call_keeps_its_own_deadline() -> None:
    _, _, _, link = await pair()
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def ended(timeout_s: float) -> float:
        await failing(link, "never", timeout_s=timeout_s)
        return round(loop.time() - started - timeout_s, 2)

    assert await asyncio.gather(*(ended(timeout_s) for timeout_s in (3, 1, 2, 0.5, 2.5))) == [0] * 5


@simulated
async def test_who_stops_waiting_ends_the_work_there() -> None:
    _, _, beta, link = await pair()
    task = asyncio.create_task(link.call("never", b"", timeout_s=AGES_S))
    await async_poll_until(lambda: beta.household.served == ["never"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await async_poll_until(lambda: beta.household.cancelled == ["never"])
    assert not link.busy


@simulated
async def test_a_lost_connection_fails_what_waits_and_ends_what_runs() -> None:
    world, _, beta, link = await pair()
    call = asyncio.create_task(failing(link, "never", timeout_s=AGES_S))
    parts = await link.stream("count", b"1000000", timeout_s=AGES_S)
    await async_poll_until(lambda: len(beta.household.served) == 2)
    world.network.reset("alpha", "beta")
    error = await call
    assert isinstance(error, Unreachable)
    assert error.outcome_unknown
    assert error.code == Code.CONNECTION_LOST
    with pytest.raises(Unreachable):
        async for _ in parts:
            pass
    await async_poll_until(lambda: sorted(beta.household.cancelled) == ["count", "never"])
    again = await failing(link, "echo")
    assert isinstance(again, Unreachable)
    assert not again.outcome_unknown, "it was never sent"


# --- streams --------------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_stream_brings_all_its_parts_then_its_end() -> None:
    _, _, _, link = await pair()
    parts = await link.stream("count", b"500", timeout_s=60)
    assert [part async for part in parts] == [bytes([number % 256]) for number in range(500)]
    assert parts.reply == b"end"


@simulated
async def test_a_slow_reader_holds_the_writer_back() -> None:
    _, _, beta, link = await pair()
    parts = await link.stream("count", b"1000", timeout_s=AGES_S)
    loop = asyncio.get_running_loop()
    for taken in range(1, 101):
        await anext(parts)
        await asyncio.sleep(loop.time() * 0 + 1)  # a second for each part
        assert beta.household.parts_sent - taken <= CREDIT_FIRST
    assert await link.call("echo", b"x", timeout_s=1) == b"x", "others are not held up"
    await parts.aclose()
    await async_poll_until(lambda: beta.household.cancelled == ["count"])


@simulated
async def test_a_stream_has_a_deadline_and_what_came_before_it_is_kept() -> None:
    _, _, _, link = await pair()
    parts = await link.stream("count", b"1000", timeout_s=2)
    await asyncio.sleep(asyncio.get_running_loop().time() * 0 + 3)
    came = 0
    with pytest.raises(Refused) as caught:
        async for _ in parts:
            came += 1
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert came == CREDIT_FIRST


# --- large values ---------------------------------------------------------------------------------------------------------------------


@simulated
async def test_large_values_go_both_ways_and_small_calls_go_on() -> None:
    _, alpha, beta, link = await pair()
    other = await back(beta, alpha)
    values = [bytes([number]) * (LARGE + number) for number in range(6)]
    large = [one.call("echo", value, timeout_s=60) for value in values for one in (link, other)]
    small = [link.call("echo", b"x", timeout_s=1) for _ in range(50)]
    answers = await asyncio.gather(*large, *small)
    assert answers[: len(large)] == [value for value in values for _ in range(2)]
    assert answers[len(large) :] == [b"x"] * 50


@simulated
async def test_both_sides_may_need_the_second_connection_at_once() -> None:
    """Each then asks for it; two of them were opened, and the first, with what was under way on it, was closed."""
    for _ in range(3):
        world, alpha, beta, link = await pair()
        other = await back(beta, alpha)
        value = bytes(LARGE)
        assert await asyncio.gather(*(one.call("echo", value, timeout_s=20) for one in (link, other))) == [value, value]
        await world.close()


@simulated
async def test_the_border_between_small_and_large() -> None:
    _, _, _, link = await pair()
    for size in (INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1):
        assert len(await link.call("echo", bytes(size), timeout_s=20)) == size


@simulated
async def test_what_is_too_large_is_refused_and_the_link_serves_on() -> None:
    _, _, _, link = await pair()
    error = await failing(link, "echo", memoryview(bytes(1)).cast("B").tobytes() * (PAYLOAD_BYTES_MAX + 1), timeout_s=60)
    assert error.code == Code.TOO_LARGE
    assert str(PAYLOAD_BYTES_MAX) in error.message
    assert "pieces" in error.hint
    assert await link.call("echo", bytes(LARGE), timeout_s=20) == bytes(LARGE)


@simulated
async def test_a_large_value_does_not_double_the_deadline() -> None:
    """The time that it took to land is part of the call's time."""
    _, _, _, link = await pair(wire=Wire(delay_s=0.3))
    await link.call("echo", bytes(LARGE), timeout_s=60)  # the second connection is open
    loop = asyncio.get_running_loop()
    started = loop.time()
    error = await failing(link, "never", bytes(LARGE), timeout_s=4)
    assert error.code == Code.DEADLINE_EXCEEDED
    assert loop.time() - started < 4.5


@simulated
async def test_a_large_value_that_does_not_get_through_in_time_ends_with_the_deadline() -> None:
    world, _, _, link = await pair()
    await link.call("echo", bytes(LARGE), timeout_s=60)
    world.network.cut("alpha", "beta")
    error = await failing(link, "echo", bytes(LARGE), timeout_s=1)
    assert error.code == Code.DEADLINE_EXCEEDED
    world.network.heal()
    assert await link.call("echo", bytes(LARGE), timeout_s=60) == bytes(LARGE)


def held(*sides: Side) -> int:
    """What large values these sides hold for others."""
    return sum(link._bulk.held_bytes for side in sides for link in side.links.all() if link._bulk is not None)


@simulated
async def test_nothing_is_left_of_large_values_that_nobody_waits_for() -> None:
    """Given up at any moment: before, during and after the landing, on either side. 64 left-overs would block the connection for good."""
    world, alpha, beta, link = await pair()
    other = await back(beta, alpha)
    loop = asyncio.get_running_loop()
    body = bytes(LARGE)
    await asyncio.gather(*(one.call("echo", body, timeout_s=60) for one in (link, other)))
    started = loop.time()
    await link.call("echo", body, timeout_s=60)
    whole_s = loop.time() - started
    for step in range(100):
        calls = [one.call("echo", body, timeout_s=whole_s * step / 80 + 1e-6) for one in (link, other)]
        await asyncio.gather(*calls, return_exceptions=True)
    parts = await link.stream("count", b"9", timeout_s=60)
    assert len([part async for part in parts]) == 9
    await async_poll_until(lambda: held(alpha, beta) == 0, what="no value is left")
    assert await link.call("echo", body, timeout_s=60) == body
    await world.close()


@simulated
async def test_giving_up_our_value_does_not_end_the_peers_of_the_same_number() -> None:
    """Both number their values 1, 2, 3: what one withdraws is its own."""
    _, alpha, beta, link = await pair(wire=Wire(delay_s=0.05))
    other = await back(beta, alpha)
    theirs = asyncio.create_task(other.call("echo", bytes(2_000_000), timeout_s=60))
    await async_poll_until(lambda: held(alpha) > 0)
    ours = asyncio.create_task(link.call("echo", bytes(2_000_000), timeout_s=60))
    await async_poll_until(lambda: held(beta) > 0)
    ours.cancel()
    assert len(await theirs) == 2_000_000
    await async_poll_until(lambda: held(alpha, beta) == 0)


@simulated
async def test_without_a_second_connection_the_call_ends_with_a_reason() -> None:
    world, alpha, beta, link = await pair()
    beta.household.refused.add(alpha.id)
    error = await failing(link, "echo", bytes(LARGE), timeout_s=AGES_S)
    assert error.code == "not_granted"
    assert await link.call("echo", b"x", timeout_s=1) == b"x"
    other = await back(beta, alpha)
    started = asyncio.get_running_loop().time()
    failed = await failing(other, "echo", bytes(LARGE), timeout_s=AGES_S)
    assert isinstance(failed, Unreachable)
    assert not failed.outcome_unknown
    assert asyncio.get_running_loop().time() - started <= BULK_TIMEOUT_S + 0.1
    await world.close()


@simulated
async def test_a_lost_second_connection_is_opened_again() -> None:
    _, alpha, beta, link = await pair()
    await link.call("echo", bytes(LARGE), timeout_s=20)
    bulk = link._bulk
    assert bulk is not None
    bulk.close(Refused("as if it were lost"))
    await async_poll_until(lambda: bulk.closed)
    other = await back(beta, alpha)
    assert await link.call("echo", bytes(LARGE), timeout_s=20) == bytes(LARGE)
    assert await other.call("echo", bytes(LARGE), timeout_s=20) == bytes(LARGE)


@simulated
async def test_a_link_that_ends_while_its_value_lands_fails_at_once() -> None:
    _, _, _, link = await pair(wire=Wire(delay_s=0.2))
    await link.call("echo", bytes(LARGE), timeout_s=60)
    loop = asyncio.get_running_loop()
    for after_s in (0.1, 0.3, 0.5, 0.7, 0.79, 0.8, 0.81):
        if link.closed:
            break
        call = asyncio.create_task(failing(link, "echo", bytes(LARGE), timeout_s=AGES_S))
        await asyncio.sleep(after_s)
        link.abort(Unreachable("cut"))
        started = loop.time()
        assert isinstance(await call, Unreachable)
        assert loop.time() - started < 1
