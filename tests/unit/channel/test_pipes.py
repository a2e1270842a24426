"""A link through a relay: end to end, on real sockets and in simulation, and closed to whoever has no token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from skerry.channel.address import relay_of, via
from skerry.channel.framing import AWAY, CALL, PING, encode_frame
from skerry.channel.link import Link
from skerry.channel.links import Links
from skerry.channel.pipe_quota import COME_S, HELD_BYTES, IDLE_S, LEAVE_S
from skerry.channel.pipes import Pipe, _End
from skerry.channel.silence import PING_AFTER_S
from skerry.channel.transports import RealNetwork
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.identity.pieces import joined
from tests.support import async_poll_until
from tests.support.coroutines import run_test
from tests.support.formation import MEMBER, OPERATOR, STRANGER, key
from tests.support.links import Side, World, simulated
from tests.support.relayed import Told, over

LARGE = bytes(range(256)) * 4096


@asynccontextmanager
async def on_sockets() -> AsyncIterator[tuple[Side, Side, Side, Side]]:
    """The dialler, the relay, the called, and one more."""
    sides = [Side(pair, RealNetwork(pair)) for pair in (OPERATOR, MEMBER, STRANGER, key(77))]
    for side in sides:
        await side.listen("tcp://127.0.0.1:0")
    told = Told(*sides)
    try:
        yield sides[0], sides[1], sides[2], sides[3]
    finally:
        await asyncio.gather(*told.coming, return_exceptions=True)
        for side in (sides[0], sides[2], sides[3], sides[1]):
            await side.links.close()
        await async_poll_until(lambda: not any(side.links.all() for side in sides) and not len(sides[1].links.pipes), what="all is closed")
        await async_poll_until(lambda: not any(side.links.unproven for side in sides), what="also what was begun")


async def opened(links: Links, address: str, relay: bytes, token: bytes) -> None:
    """Show a token. Raises what the relay says."""
    stream = await links._open_pipe(address, relay, token)
    stream.abort(Refused("seen", code=Code.CANCELLED))


# --- it works -------------------------------------------------------------------------------------------------------------------------


def test_calls_and_large_values_go_through_a_relay() -> None:
    async def scenario() -> None:
        async with on_sockets() as (dialler, relay, called, _):
            link = await over(dialler, relay, called)
            assert link.peer is not None
            assert link.peer.id == called.id
            assert joined(await link.call("echo", b"hello", timeout_s=5)) == b"hello"
            assert joined(await link.call("echo", LARGE, timeout_s=10)) == LARGE
            assert len(relay.links.pipes) == 2, "calls, and bulk"
            back = called.links.get(dialler.id)
            assert back is not None
            assert relay_of(back.connection.path) == relay_of(link.connection.path) == relay.id, "both ends know how it goes"
            assert joined(await back.call("echo", LARGE, timeout_s=10)) == LARGE

    run_test(scenario())


def test_what_passes_the_relay_is_none_of_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[bytes] = []
    take = _End.data_received

    def see(end: _End, data: bytes) -> None:
        passed.append(data)
        take(end, data)

    monkeypatch.setattr(_End, "data_received", see)

    async def scenario() -> None:
        async with on_sockets() as (dialler, relay, called, _):
            link = await over(dialler, relay, called)
            await link.call("echo", b"a secret" * 100, timeout_s=5)
            seen = b"".join(passed)
            assert len(seen) > 2000
            assert b"a secret" not in seen
            for side in (dialler, called):
                assert side.id not in seen, "nor who is there"

    run_test(scenario())


def _changed(data: bytes) -> list[bytes]:
    return [data[:-1] + bytes([data[-1] ^ 1])]


def _dropped(data: bytes) -> list[bytes]:
    return [data[:-1]]


def _twice(data: bytes) -> list[bytes]:
    return [data, data]


def _turned(data: bytes) -> list[bytes]:
    """Two TLS records, the second one first."""
    size = 5 + int.from_bytes(data[3:5], "big")
    return [data[size:] + data[:size]] if size < len(data) else [data[::-1]]


def _its_own(data: bytes) -> list[bytes]:
    body = encode_frame([CALL, 1, "echo", 1000, 32, b"from the relay"])
    return [body, data]


@pytest.mark.parametrize("change", [_changed, _dropped, _twice, _turned, _its_own])
def test_a_relay_that_touches_what_passes_ends_the_link_and_changes_nothing_else(
    change: Callable[[bytes], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = _End.data_received
    changes = False

    def tamper(end: _End, data: bytes) -> None:
        for piece in change(data) if changes else [data]:
            take(end, piece)

    monkeypatch.setattr(_End, "data_received", tamper)

    async def scenario() -> None:
        nonlocal changes
        async with on_sockets() as (dialler, relay, called, _):
            link = await over(dialler, relay, called)
            changes = True
            with pytest.raises(Unreachable) as caught:
                await link.call("echo", b"hello", timeout_s=5)
            assert caught.value.outcome_unknown
            assert called.household.served in ([], ["echo"]), "once at most"
            changes = False
            assert joined(await (await over(dialler, relay, called)).call("echo", b"again", timeout_s=5)) == b"again"

    run_test(scenario())


def test_a_relay_that_sends_somebody_else_is_found_out_before_anything_is_said() -> None:
    async def scenario() -> None:
        async with on_sockets() as (dialler, relay, called, liar):
            told = Told(dialler, relay, called, liar)
            told.sends_instead = liar
            with pytest.raises(Refused) as caught:
                await over(dialler, relay, called)
            assert caught.value.code == Code.WRONG_IDENTITY
            assert not liar.links.all(), "and who dialled it was not told"

    run_test(scenario())


@simulated
async def test_in_simulation_too() -> None:
    dialler, relay, called = await World(3).open()
    Told(dialler, relay, called)
    link = await over(dialler, relay, called)
    assert joined(await link.call("echo", LARGE, timeout_s=10)) == LARGE


# --- straight first ---------------------------------------------------------------------------------------------------------------


@simulated
async def test_the_straight_way_is_taken_where_it_goes() -> None:
    dialler, relay, called = await World(3).open()
    told = Told(dialler, relay, called)
    link = await dialler.links.to(called.id, [via(relay.id), called.address], timeout_s=5)
    assert not link.connection.is_relayed
    assert told.asked == []


@simulated
async def test_where_the_straight_way_is_silent_a_relay_is_tried_beside_it() -> None:
    world = World(3)
    dialler, relay, called = await world.open()
    Told(dialler, relay, called)
    world.network.put_behind_nat(called.name)
    began = asyncio.get_running_loop().time()
    link = await dialler.links.to(called.id, [called.address, via(relay.id)], timeout_s=5)
    assert link.connection.is_relayed
    assert asyncio.get_running_loop().time() - began < 1.0


@simulated
async def test_the_next_relay_is_tried_where_one_refuses() -> None:
    world = World(4)
    dialler, relay, called, other = await world.open()
    Told(dialler, relay, called)  # the other one is unknown there
    world.network.put_behind_nat(called.name)
    link = await dialler.links.to(called.id, [called.address, via(other.id), via(relay.id)], timeout_s=5)
    assert relay_of(link.connection.path) == relay.id


@simulated
async def test_an_address_that_leads_nowhere_keeps_nobody_from_the_next() -> None:
    """As in a release that knows no relays, and as a later one may say what this one can't read."""
    dialler, relay, called = await World(3).open()
    link = await dialler.links.to(called.id, ["via:nonsense", "later://x", via(relay.id), called.address], timeout_s=5)
    assert link.connection.path == called.address


@simulated
async def test_of_a_straight_and_a_relayed_link_at_once_the_straight_one_stays() -> None:
    dialler, relay, called = await World(3).open()
    Told(dialler, relay, called)
    await asyncio.gather(over(dialler, relay, called), called.to(dialler), return_exceptions=True)
    await async_poll_until(lambda: len(dialler.links.all()) == len(called.links.all()) == 1, 20)
    for here, there in ((dialler, called), (called, dialler)):
        link = here.links.get(there.id)
        assert link is not None
        assert not link.connection.is_relayed


@simulated
async def test_a_client_or_newcomer_goes_over_no_relay() -> None:
    dialler, relay, called = await World(3).open()
    with pytest.raises(Unreachable):
        await over(dialler, relay, called)
    Told(dialler, relay, called)
    with pytest.raises(Refused) as caught:
        await dialler.links.dial(via(relay.id), expected=None)
    assert caught.value.code == Code.BAD_INPUT, "who is meant has to be said"


# --- what a relay takes -----------------------------------------------------------------------------------------------------------


@simulated
async def test_a_token_is_good_for_one_connection_of_one_node() -> None:
    dialler, relay, called, thief = await World(4).open()
    _, token, _ = relay.links.pipes.prepare(dialler.id, called.id)
    for wrong_side, wrong in ((thief, token), (dialler, bytes(16)), (dialler, b""), (called, token)):
        with pytest.raises(Refused) as caught:
            await opened(wrong_side.links, relay.address, relay.id, wrong)
        assert caught.value.code == Code.NOT_FOUND
    await opened(dialler.links, relay.address, relay.id, token)
    with pytest.raises(Refused):
        await opened(dialler.links, relay.address, relay.id, token)


@simulated
async def test_an_end_that_does_not_come_leaves_nothing_behind() -> None:
    dialler, relay, called = await World(3).open()
    told = Told(dialler, relay, called)
    told.nobody_comes = True
    with pytest.raises(SkerryError):
        await over(dialler, relay, called)
    await asyncio.sleep(COME_S)
    assert len(relay.links.pipes) == 0
    assert relay.links.pipes._tickets == {}


@simulated
async def test_the_called_says_that_it_is_ready_and_nothing_else() -> None:
    dialler, relay, called = await World(3).open()
    _, _, token = relay.links.pipes.prepare(dialler.id, called.id)
    stream = await called.links._open_pipe(relay.address, relay.id, token)
    lost: list[SkerryError] = []
    stream.attach(lambda frame: None, lost.append)
    stream.send([PING, 0])
    await async_poll_until(lambda: lost or stream.closed, 5)
    await asyncio.sleep(COME_S)
    assert len(relay.links.pipes) == 0


@simulated
async def test_a_pipe_in_which_nothing_passes_is_closed_and_a_link_in_one_stays() -> None:
    world = World(3)
    dialler, relay, called = await world.open()
    Told(dialler, relay, called)
    link = await over(dialler, relay, called)
    assert PING_AFTER_S < IDLE_S
    await asyncio.sleep(3 * IDLE_S)
    assert not link.closed
    assert len(relay.links.pipes) == 1
    world.network.crash(dialler.name)
    world.network.crash(called.name)
    await asyncio.sleep(IDLE_S + 1)
    assert len(relay.links.pipes) == 0


async def flooded(dialler: Side, relay: Side, called: Side) -> tuple[Link, asyncio.Transport, Pipe]:
    """A link through the relay, the end of it that has stopped to read, and the pipe with all that it takes."""
    link = await over(dialler, relay, called)
    back = called.links.get(dialler.id)
    assert back is not None
    reader = back.connection.transport
    assert reader is not None
    reader.pause_reading()
    for _ in range(400):
        link.connection.send([AWAY, "x" * 50_000])
    pipe = next(iter(relay.links.pipes._open.values()))
    await async_poll_until(lambda: any("full" in end._kept_by for end in pipe._ends), what="the relay reads no more")
    return link, reader, pipe


def test_a_reader_that_stops_makes_the_relay_hold_little() -> None:
    async def scenario() -> None:
        async with on_sockets() as (dialler, relay, called, _):
            link, reader, pipe = await flooded(dialler, relay, called)
            held = sum(end._transport.get_write_buffer_size() for end in pipe._ends)
            assert held <= HELD_BYTES + 512 * 1024, "that, and what one read brought, of 20 MB"
            link.abort(Refused("enough", code=Code.CANCELLED))
            reader.resume_reading()

    run_test(scenario())


def test_a_reader_that_stops_keeps_nothing_here_when_its_pipe_is_over() -> None:
    """What was written to it would wait for ever: a pipe that is over counts in no bound any more."""

    async def scenario() -> None:
        async with on_sockets() as (dialler, relay, called, _):
            _, reader, pipe = await flooded(dialler, relay, called)
            pipe.end("nothing passed for a minute")
            held = [end._transport.get_write_buffer_size() for end in pipe._ends]
            assert max(held) > 0
            await async_poll_until(
                lambda: not any(end._transport.get_write_buffer_size() for end in pipe._ends), LEAVE_S + 5, what="it is let go"
            )
            reader.resume_reading()

    run_test(scenario())


@simulated
async def test_bytes_before_the_pipe_is_open_end_it() -> None:
    alpha, beta = await World(2).open()
    stream = await alpha.links._open_pipe(beta.address, beta.id, beta.links.pipes.prepare(alpha.id, beta.id)[1])
    stream._reader._held = b"x"
    with pytest.raises(ProtocolError):
        stream.detach()
    with pytest.raises(SkerryError):
        stream.detach()
