"""What every Network does: the simulated one and the real one, over TCP (TLS in the real one) and Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.channel.transports import RealNetwork
from skerry.errors import Code, Unreachable, UsageError
from skerry.identity.keys import KeyPair
from skerry.ports import Listener, Network
from skerry.sim.loop import run
from skerry.sim.network import SimNetwork
from tests.contract.byte_streams import Arrivals, Recorder
from tests.support import async_poll_until
from tests.support.coroutines import run_test

SETTLING_TURNS = 20
TIMEOUT_S = 5.0
KEYS = [KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2)]


class Sea:
    """Two networks that reach each other, and where to listen. Ends what a scenario leaves open."""

    def __init__(self, here: Network, there: Network, address: str, *, silent: str = "") -> None:
        self.here = here  # listens
        self.there = there  # dials
        self.address = address
        self.silent = silent  # nobody answers there, not even with no; empty where that can't be had
        self._listeners: list[Listener] = []
        self._arrivals: list[Arrivals] = []
        self._dialled: list[Recorder] = []

    @property
    def is_tcp(self) -> bool:
        return self.address.startswith("tcp:")

    async def listen(self, arrivals: Arrivals | None = None, *, address: str | None = None) -> Listener:
        self._arrivals.append(arrivals or Arrivals())
        self._listeners.append(await self.here.listen(self.address if address is None else address, self._arrivals[-1]))
        return self._listeners[-1]

    async def dial(self, address: str, *, timeout_s: float = TIMEOUT_S) -> Recorder:
        protocol = await self.there.dial(address, Recorder, timeout_s=timeout_s)
        assert isinstance(protocol, Recorder)
        self._dialled.append(protocol)
        return protocol

    async def connect(self, arrivals: Arrivals | None = None) -> tuple[Recorder, Recorder, Listener]:
        """The dialler's end, the listener's end, the listener."""
        arrivals = arrivals or Arrivals()
        listener = await self.listen(arrivals)
        near = await self.dial(listener.address)
        return near, await arrivals.first(), listener

    async def end(self) -> None:
        await async_poll_until(lambda: sum(far.is_made for far in self._arrived()) >= len(self._dialled), what="all dials have arrived")
        for _ in range(SETTLING_TURNS):  # a connection that only looked whether somebody answers arrives too
            await asyncio.sleep(0)
        for listener in self._listeners:
            await listener.close()
        ends = [*self._dialled, *(far for far in self._arrived() if far.is_made)]
        for end in ends:
            if not end.is_over:
                end.transport.abort()
        await asyncio.gather(*(end.until(lambda it: it.is_over) for end in ends))

    def _arrived(self) -> list[Recorder]:
        return [far for arrivals in self._arrivals for far in arrivals.made]


Scenario = Callable[[Sea], Coroutine[Any, Any, None]]


def sim(scenario: Scenario, scheme: str, folder: Path) -> None:
    async def whole() -> None:
        network = SimNetwork(random.Random(1))
        hosts = [network.host(name, public_key=key.public) for name, key in zip(("alpha", "beta"), KEYS, strict=True)]
        network.host("gamma")
        network.cut("beta", "gamma")
        if scheme == "tcp":
            await _through(scenario, Sea(hosts[0], hosts[1], "tcp://alpha:0", silent="tcp://gamma:1"))
        else:
            await _through(scenario, Sea(hosts[0], hosts[0], f"uds://{folder}/socket"))

    run(whole())


def real(scenario: Scenario, scheme: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sk") as short, mute_listener() as silent:  # a socket's path holds about 100 characters
        here, there = (RealNetwork(key) for key in KEYS)
        if scheme == "tcp":
            run_test(_through(scenario, Sea(here, there, "tcp://127.0.0.1:0", silent=silent)))
        else:
            run_test(_through(scenario, Sea(here, there, f"uds://{short}/socket")))


async def _through(scenario: Scenario, sea: Sea) -> None:
    try:
        await scenario(sea)
    finally:
        await sea.end()


@contextlib.contextmanager
def mute_listener() -> Iterator[str]:
    """The kernel takes connections for it, and nobody says a word."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield f"tcp://127.0.0.1:{bound.getsockname()[1]}"


def over_every_network(scenario: Scenario) -> Callable[[Callable[[Scenario, str, Path], None], str, Path], None]:
    """Make a scenario a test, run on each kind of network and address."""

    @pytest.mark.parametrize("scheme", ["tcp", "uds"])
    @pytest.mark.parametrize("world", [sim, real])
    def test(world: Callable[[Scenario, str, Path], None], scheme: str, tmp_path: Path) -> None:
        world(scenario, scheme, tmp_path)

    test.__doc__ = scenario.__doc__
    return test


# --- connecting -------------------------------------------------------------------------------------------------------------------


@over_every_network
async def test_a_dial_returns_a_connected_protocol(sea: Sea) -> None:
    near, far, listener = await sea.connect()
    assert near.is_made
    assert near is not far
    assert not near.transport.is_closing()
    assert near.transport.get_protocol() is near
    assert listener.address.partition(":")[0] == sea.address.partition(":")[0]
    assert not listener.address.endswith(":0"), "the address is the one to dial"


@over_every_network
async def test_each_dial_is_a_connection_of_its_own(sea: Sea) -> None:
    arrivals = Arrivals()
    listener = await sea.listen(arrivals)
    dials = (sea.dial(listener.address) for _ in range(20))
    for number, near in enumerate(await asyncio.gather(*dials)):
        near.transport.write(b"%02d" % number)
    await arrivals.until(20)
    await asyncio.gather(*(far.until(lambda it: len(it.received) == 2) for far in arrivals.made))
    assert sorted(bytes(far.received) for far in arrivals.made) == [b"%02d" % number for number in range(20)]


@over_every_network
async def test_both_ends_see_the_same_binding_and_only_tls_names_the_listener(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    dialler, listener = sea.there.security(near.transport), sea.here.security(far.transport)
    assert dialler.transport == listener.transport == ("tcp" if sea.is_tcp else "uds")
    assert dialler.binding == listener.binding
    assert len(dialler.binding) == 32
    assert any(dialler.binding) is sea.is_tcp
    assert dialler.listener == (KEYS[0].public if sea.is_tcp else None)
    assert listener.listener is None
    assert dialler.same_owner is listener.same_owner is not sea.is_tcp


@over_every_network
async def test_where_nobody_listens_the_dial_is_refused(sea: Sea) -> None:
    listener = await sea.listen()
    await listener.close()
    with pytest.raises(Unreachable) as caught:
        await sea.dial(listener.address)
    assert caught.value.code == Code.UNREACHABLE
    assert listener.address in caught.value.message
    assert caught.value.hint


@over_every_network
async def test_where_nobody_answers_the_dial_ends_in_time(sea: Sea) -> None:
    if not sea.silent:
        return
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(Unreachable, match=r"0\.2 s"):
        await sea.dial(sea.silent, timeout_s=0.2)
    assert 0.19 < loop.time() - started < TIMEOUT_S


@over_every_network
async def test_an_address_that_is_taken_is_refused_and_its_owner_goes_on(sea: Sea) -> None:
    near, far, listener = await sea.connect()
    with pytest.raises(UsageError) as caught:
        await sea.listen(address=listener.address)
    assert caught.value.code == Code.PORT_IN_USE
    assert caught.value.hint
    near.transport.write(b"still")
    await far.until(lambda it: it.received == b"still")
    await sea.dial(listener.address)


@over_every_network
async def test_an_address_is_free_again_when_its_listener_is_closed(sea: Sea) -> None:
    near, far, listener = await sea.connect()
    await listener.close()
    near.transport.write(b"open connections stay")
    await far.until(lambda it: it.received == b"open connections stay")
    arrivals = Arrivals()
    await sea.listen(arrivals, address=listener.address)
    await sea.dial(listener.address)
    await arrivals.first()


@over_every_network
async def test_what_is_no_address_is_refused(sea: Sea) -> None:
    for address in ("", "tcp://", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:x", "pigeon://coop", "via:ab12"):
        with pytest.raises(UsageError) as caught:
            await sea.dial(address)
        assert caught.value.code == Code.BAD_INPUT
        with pytest.raises(UsageError):
            await sea.listen(address=address)


@over_every_network
async def test_a_cancelled_dial_leaves_nothing_open(sea: Sea) -> None:
    arrivals = Arrivals()
    listener = await sea.listen(arrivals)
    dial = asyncio.create_task(sea.dial(listener.address))
    await asyncio.sleep(0)
    dial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dial
    near = await sea.dial(listener.address)
    near.transport.write(b"the second")
    await async_poll_until(lambda: any(far.received == b"the second" for far in arrivals.made))
    for far in arrivals.made[:-1]:
        await far.until(lambda it: it.is_lost or not it.is_made)


# --- bytes ------------------------------------------------------------------------------------------------------------------------


@over_every_network
async def test_bytes_arrive_in_order_and_once_both_ways(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    source = random.Random(7)
    there, back = source.randbytes(500_000), source.randbytes(300_000)
    for sender, data in ((near, there), (far, back)):
        position = 0
        while position < len(data):
            size = source.choice((1, 10, 1000, 70_000))
            sender.transport.write(data[position : position + size])
            position += size
    await far.until(lambda it: len(it.received) >= len(there))
    await near.until(lambda it: len(it.received) >= len(back))
    assert far.received == there
    assert near.received == back


@over_every_network
async def test_writelines_and_all_kinds_of_bytes(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    near.transport.write(b"")
    changing = bytearray(b"one ")
    near.transport.write(changing)
    changing[:] = b"XXXX"  # written means taken
    near.transport.writelines([b"two ", bytearray(b"three "), memoryview(b"four")])
    await far.until(lambda it: it.received == b"one two three four")
    with pytest.raises(TypeError):
        near.transport.write("text")  # type: ignore[arg-type] # the point of the test


@over_every_network
async def test_answers_are_not_given_inside_questions(sea: Sea) -> None:
    near, _, _ = await sea.connect(Arrivals(echo=True))
    for size in range(1, 200):
        near.transport.write(bytes(size))
        assert not near.received, "data came while we were writing"
    await near.until(lambda it: len(it.received) == sum(range(1, 200)))


@over_every_network
async def test_a_paused_reader_holds_the_writer_up_and_loses_nothing(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    far.transport.pause_reading()
    far.transport.pause_reading()
    assert not far.transport.is_reading()
    sent = 0
    while not near.is_writing_paused:
        assert sent < 64_000_000, "nobody told the writer to pause"
        near.transport.write(sent.to_bytes(4, "big") * 16_000)
        sent += 64_000
    assert near.transport.get_write_buffer_size() > 0
    assert not far.received
    far.transport.resume_reading()
    await near.until(lambda it: not it.is_writing_paused)
    await far.until(lambda it: len(it.received) == sent)
    assert far.received == b"".join(start.to_bytes(4, "big") * 16_000 for start in range(0, sent, 64_000))
    assert near.transport.get_write_buffer_size() == 0


# --- endings ----------------------------------------------------------------------------------------------------------------------


@over_every_network
async def test_closing_delivers_what_was_written_and_ends_both(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    near.transport.write(bytes(400_000))
    near.transport.close()
    assert near.transport.is_closing()
    await far.until(lambda it: it.is_lost)
    assert len(far.received) == 400_000
    assert far.has_ended
    await near.until(lambda it: it.is_lost)
    assert near.losses == [None]


@over_every_network
async def test_closing_stops_reading(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    near.transport.close()
    far.transport.write(b"into the void")
    await far.until(lambda it: it.is_lost)
    await near.until(lambda it: it.is_lost)
    assert not near.received


@over_every_network
async def test_aborting_ends_both_once(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    near.transport.write(bytes(10))
    near.transport.abort()
    near.transport.abort()
    near.transport.write(b"too late")
    assert not near.losses, "connection_lost came inside abort"
    await near.until(lambda it: it.is_lost)
    await far.until(lambda it: it.is_lost)
    assert near.losses == [None]
    assert near.transport.is_closing()
    assert far.transport.is_closing()


@over_every_network
async def test_both_may_close_at_once(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    near.transport.close()
    far.transport.close()
    await near.until(lambda it: it.is_lost)
    await far.until(lambda it: it.is_lost)


@over_every_network
async def test_a_protocol_may_hand_over_to_another(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    near.transport.write(b"first")
    await far.until(lambda it: it.received == b"first")
    heir = Recorder()
    far.hand_over(heir)
    near.transport.write(b"second")
    await heir.until(lambda it: it.received == b"second")
    near.transport.close()
    await heir.until(lambda it: it.is_lost)
    assert not far.losses


# --- secured by its two ends ------------------------------------------------------------------------------------------------------


async def secured(sea: Sea, near: Recorder, far: Recorder) -> tuple[Recorder, Recorder]:
    """TLS over a connection that is open: the listener's end dials, so that the roles are not those of before."""
    under_near, under_far = sea.there.bare(near.transport), sea.here.bare(far.transport)
    inner_far, inner_near = await asyncio.gather(
        sea.here.secure(under_far, Recorder, listener=False, timeout_s=TIMEOUT_S),
        sea.there.secure(under_near, Recorder, listener=True, timeout_s=TIMEOUT_S),
    )
    assert isinstance(inner_near, Recorder)
    assert isinstance(inner_far, Recorder)
    near.is_followed_by(inner_near)
    far.is_followed_by(inner_far)
    return inner_near, inner_far


@over_every_network
async def test_a_connection_can_be_secured_once_more_by_whoever_holds_its_ends(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    near.transport.write(b"before")
    await far.until(lambda it: bytes(it.received) == b"before")
    inner_near, inner_far = await secured(sea, near, far)
    dialler, listener = sea.here.security(inner_far.transport), sea.there.security(inner_near.transport)
    assert dialler.transport == listener.transport == "tcp"
    assert dialler.binding == listener.binding
    assert any(dialler.binding)
    assert dialler.listener is not None
    assert listener.listener is None
    assert not dialler.same_owner
    large = bytes(range(256)) * 4096
    inner_near.transport.write(large)
    inner_far.transport.write(b"hello")
    await inner_far.until(lambda it: bytes(it.received) == large)
    await inner_near.until(lambda it: bytes(it.received) == b"hello")
    assert bytes(near.received) == b"", "none of it comes to whoever had the connection before"
    assert bytes(far.received) == b"before"
    inner_near.transport.close()
    await inner_far.until(lambda it: it.is_lost)
    await inner_near.until(lambda it: it.is_lost)


@over_every_network
async def test_where_the_other_end_says_nothing_it_is_not_secured_and_the_connection_ends(sea: Sea) -> None:
    near, far, _ = await sea.connect()
    with pytest.raises(Unreachable):
        await sea.there.secure(sea.there.bare(near.transport), Recorder, listener=False, timeout_s=0.2)
    near.is_followed_by(None)
    await far.until(lambda it: it.is_lost)
