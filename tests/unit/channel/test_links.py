"""All links of a node: one per pair of nodes, replaced when lost, ended when silent, and little for whoever does not prove himself."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from skerry.channel import links as module
from skerry.channel.crossing import SIMULTANEOUS_S
from skerry.channel.framing import AWAY, HELLO, encode_frame
from skerry.channel.handshake import TIMEOUT_S, Purpose
from skerry.channel.link import Link
from skerry.channel.links import LINKS_MAX, UNPROVEN_EACH_MAX, UNPROVEN_MAX
from skerry.channel.silence import DEAD_AFTER_S, PING_AFTER_S, PING_AFTER_WAITING_S, WATCH_S, Watch
from skerry.channel.stream import FrameStream
from skerry.channel.transports import RealNetwork
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.sim.link import Link as Wire
from tests.support import async_poll_until
from tests.support.formation import MEMBER, OPERATOR, STRANGER
from tests.support.links import Side, World, simulated


class Mute(asyncio.Protocol):
    """Connects and says what it is told, no more."""

    def __init__(self, says: bytes = b"") -> None:
        self.says = says
        self.heard = b""
        self.lost = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.says:
            transport.write(self.says)

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def count(side: Side) -> int:
    return len(side.links.all())


# --- one link per pair ----------------------------------------------------------------------------------------------------------------


@simulated
async def test_whoever_wants_a_link_gets_the_same_one() -> None:
    alpha, beta = await World(2).open()
    links = await asyncio.gather(*(alpha.to(beta) for _ in range(20)))
    assert len({id(link) for link in links}) == 1
    assert alpha.links.get(beta.id) is links[0]
    await async_poll_until(lambda: count(beta) == 1)
    assert (await beta.to(alpha)).dialled is False, "it is there already, dialled by the other side"
    assert [len(side.household.ups) for side in (alpha, beta)] == [1, 1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("wire", [Wire(), Wire(delay_s=0.1, jitter_s=0.2, split=0.5)])
@simulated
async def test_simultaneous_dials_end_with_one_link_by_the_rule(seed: int, wire: Wire) -> None:
    world = World(2, wire=wire, seed=seed)
    alpha, beta = await world.open()

    async def use(side: Side, other: Side) -> None:
        link = await side.to(other)
        assert await link.call("echo", b"x", timeout_s=20) == b"x"

    await asyncio.gather(use(alpha, beta), use(beta, alpha))
    await async_poll_until(lambda: count(alpha) == count(beta) == 1, what="one connection is left")
    one, other = alpha.links.get(beta.id), beta.links.get(alpha.id)
    assert one is not None
    assert other is not None
    assert one.token == other.token, "both kept the same one"
    assert not one.away
    assert not other.away
    assert await one.call("echo", b"3", timeout_s=20) == b"3"


@simulated
async def test_when_both_were_complete_at_once_the_lower_ids_stays() -> None:
    """Both dials take equally long, so that both connections are up before either side can turn the other's away."""
    world = World(2, wire=Wire(delay_s=0.1, jitter_s=0, split=0))
    alpha, beta = await world.open()
    await asyncio.gather(alpha.to(beta), beta.to(alpha))
    await async_poll_until(lambda: count(alpha) == count(beta) == 1)
    stays = alpha.links.get(beta.id)
    assert stays is not None
    assert stays.dialled, "alpha has the lower id"


@simulated
async def test_calls_on_the_connection_that_goes_come_to_their_end() -> None:
    world = World(2, wire=Wire(delay_s=0.1, jitter_s=0, split=0))
    alpha, beta = await world.open()
    mine, yours = await asyncio.gather(alpha.to(beta), beta.to(alpha))
    calls = [link.call("echo", bytes([n]), timeout_s=20) for n in range(20) for link in (mine, yours)]
    assert len(await asyncio.gather(*calls)) == 40


@simulated
async def test_a_side_that_lost_its_connection_dials_again_and_the_new_one_stays() -> None:
    world = World(2)
    alpha, beta = await world.open()
    for dials, other, a, b in ((alpha, beta, "alpha", "beta"), (beta, alpha, "beta", "alpha")):
        first = await dials.to(other)
        await async_poll_until(lambda first=first, other=other, dials=dials: other.links.get(dials.id))  # type: ignore[misc]
        await asyncio.sleep(SIMULTANEOUS_S + 0.1)
        world.network.reset(a, b, half_open=True)  # the other side does not know
        await async_poll_until(lambda first=first: first.closed)  # type: ignore[misc]
        again = await dials.to(other)
        assert again is not first
        assert await again.call("echo", b"x", timeout_s=5) == b"x"
        await async_poll_until(lambda: count(alpha) == count(beta) == 1)
        kept = other.links.get(dials.id)
        assert kept is not None
        assert kept.token == again.token


@simulated
async def test_a_side_that_insists_has_lost_the_connection_that_it_is_told_stays() -> None:
    """Just after it was opened a second one is taken for a dial of both sides at once; but nobody dials twice who has the other one."""
    world = World(2)
    alpha, beta = await world.open()
    await alpha.to(beta)
    await async_poll_until(lambda: beta.links.get(alpha.id))
    world.network.reset("beta", "alpha", half_open=True)  # alpha, which dialled and has the lower id, does not know
    await async_poll_until(lambda: beta.links.get(alpha.id) is None)
    first = await beta.to(alpha)
    await async_poll_until(lambda: first.away)
    second = await beta.to(alpha)
    assert second is not first
    assert await second.call("echo", b"x", timeout_s=5) == b"x"
    await asyncio.sleep(SIMULTANEOUS_S / 4)
    assert not second.away
    assert await beta.to(alpha) is second
    kept = alpha.links.get(beta.id)
    assert kept is not None
    assert kept.token == second.token
    await async_poll_until(lambda: count(alpha) == count(beta) == 1)


@simulated
async def test_clients_may_have_many_connections() -> None:
    alpha, beta = await World(2).open()
    beta.household.clients.add(alpha.id)
    links = [await alpha.links.dial(beta.address, expected=beta.id) for _ in range(3)]
    for link in links:
        assert await link.call("echo", b"x", timeout_s=5) == b"x"
    assert count(beta) == 3
    assert beta.links.nodes() == []


@simulated
async def test_a_probe_is_never_the_link() -> None:
    alpha, beta = await World(2).open()
    probe = await alpha.links.probe(beta.address, expected=beta.id, timeout_s=5)
    assert await probe.call("echo", b"x", timeout_s=5) == b"x"
    assert alpha.links.get(beta.id) is None
    assert beta.links.get(alpha.id) is None
    assert [link.peer.purpose for link in beta.links.all() if link.peer] == [Purpose.PROBE]


@simulated
async def test_a_node_that_goes_is_not_asked_any_more() -> None:
    """Its link says so before it closes: whoever wants one now dials anew, and hears that nobody is there."""
    world = World(2)
    alpha, beta = await world.open()
    link = await alpha.to(beta)
    await async_poll_until(beta.links.all)
    slow = asyncio.create_task(link.call("never", b"", timeout_s=60))
    beta.links.all()[0].say_away("so long")
    await async_poll_until(lambda: link.away)
    other = await alpha.to(beta)
    assert other is not link
    assert await other.call("echo", b"x", timeout_s=5) == b"x"
    await async_poll_until(lambda: link.closed or slow.done() or count(beta) == 2)
    slow.cancel()


# --- silence --------------------------------------------------------------------------------------------------------------------------


@simulated
async def test_links_over_which_nothing_is_said_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(4)
    alpha, beta, gamma, delta = await world.open()
    links = {side.name: await alpha.to(side) for side in (beta, gamma, delta)}
    looks: Counter[str] = Counter()
    look = Watch._look_at

    def counted(self: Watch, link: Link, now: float) -> None:
        looks.update(name for name, one in links.items() if one is link)
        look(self, link, now)

    monkeypatch.setattr(Watch, "_look_at", counted)
    await asyncio.sleep(2 * WATCH_S)
    looks.clear()
    ends = asyncio.get_running_loop().time() + PING_AFTER_S - 4 * WATCH_S
    while asyncio.get_running_loop().time() < ends:
        assert await links["beta"].call("echo", b"x", timeout_s=5) == b"x"
        await asyncio.sleep(WATCH_S / 2)
    assert looks["beta"] >= (PING_AFTER_S - 5 * WATCH_S) / WATCH_S, "over this one something was said"
    assert looks["gamma"] == looks["delta"] == 0
    looks.clear()
    asked = [asyncio.ensure_future(links["delta"].call("never", b"", timeout_s=30)) for _ in range(2)]
    await asyncio.sleep(4 * WATCH_S)
    assert min(looks.values()) >= 2, "somebody waits on one: others may have fallen silent too"
    for call in asked:
        call.cancel()


@simulated
async def test_calls_that_are_answered_have_no_other_link_asked() -> None:
    """The probes of a large formation are such calls, twice a second: a ping for each would go to everybody."""
    world = World(4, wire=Wire(delay_s=0.02))
    alpha, beta, *_ = await world.open()
    link = await alpha.to(beta)
    others = [await alpha.to(side) for side in world.sides[2:]]
    heard = [other.last_heard for other in others]
    ends = asyncio.get_running_loop().time() + PING_AFTER_S - 1.0
    while asyncio.get_running_loop().time() < ends:
        await link.call("echo", b"x", timeout_s=5)
    assert [other.last_heard for other in others] == heard


@pytest.mark.parametrize(("waits", "after_s"), [(True, PING_AFTER_WAITING_S), (False, PING_AFTER_S)])
@simulated
async def test_a_silent_link_is_asked_and_then_ended(waits: bool, after_s: float) -> None:
    world = World(2)
    alpha, beta = await world.open()
    link = await alpha.to(beta)
    loop = asyncio.get_running_loop()
    call = asyncio.create_task(_lost(link.call("never", b"", timeout_s=3600))) if waits else None
    if waits:
        await async_poll_until(lambda: beta.household.served)
    started = loop.time()
    world.network.cut("alpha", "beta")
    await async_poll_until(lambda: link.closed, 60)
    took_s = loop.time() - started
    assert after_s + DEAD_AFTER_S - WATCH_S <= took_s <= after_s + DEAD_AFTER_S + 3 * WATCH_S
    if call is not None:
        assert took_s < 5.0
        assert isinstance(await call, Unreachable)
    assert alpha.household.downs[0][0] is link


async def _lost(call: object) -> SkerryError | None:
    try:
        await call  # type: ignore[misc]
    except SkerryError as error:
        return error
    return None


@simulated
async def test_a_link_that_answers_is_kept_however_long_it_waits() -> None:
    alpha, beta = await World(2).open()
    link = await alpha.to(beta)
    call = asyncio.create_task(link.call("never", b"", timeout_s=600))
    quiet_s = 500.0
    await asyncio.sleep(quiet_s)
    assert not call.done()
    assert not link.closed
    call.cancel()
    await asyncio.sleep(quiet_s)
    assert alpha.links.get(beta.id) is link


# --- who is there -----------------------------------------------------------------------------------------------------------------------


@simulated
async def test_somebody_else_at_the_address_is_refused_before_we_say_who_we_are() -> None:
    world = World(3)
    alpha, beta, gamma = await world.open()
    with pytest.raises(Refused) as caught:
        await alpha.links.to(gamma.id, [beta.address], timeout_s=5)
    assert caught.value.code == Code.WRONG_IDENTITY
    assert beta.links.all() == []


@simulated
async def test_the_next_address_is_tried_and_the_last_reason_told() -> None:
    world = World(3)
    alpha, beta, gamma = await world.open()
    link = await alpha.links.to(gamma.id, ["tcp://nowhere:1", beta.address, gamma.address], timeout_s=5)
    assert link.id == gamma.id
    with pytest.raises(Unreachable, match="nowhere"):
        await alpha.links.to(beta.id, ["tcp://nowhere:1"], timeout_s=5)
    with pytest.raises(Unreachable, match="no address"):
        await alpha.links.to(beta.id, [], timeout_s=5)


@simulated
async def test_who_is_not_wanted_hears_why() -> None:
    alpha, beta = await World(2).open()
    beta.household.refused.add(alpha.id)
    with pytest.raises(Refused, match="not wanted") as caught:
        await alpha.to(beta)
    assert (caught.value.code, caught.value.hint) == ("not_granted", "go away")
    assert beta.links.all() == []
    assert alpha.links.get(beta.id) is None
    await async_poll_until(lambda: beta.links.unproven == 0)
    beta.household.refused.clear()
    assert not (await alpha.to(beta)).closed


@simulated
async def test_we_refuse_too() -> None:
    alpha, beta = await World(2).open()
    alpha.household.refused.add(beta.id)
    with pytest.raises(Refused, match="not wanted"):
        await alpha.to(beta)
    await async_poll_until(lambda: beta.links.all() == [])


@simulated
async def test_waiting_ends_in_time_and_the_dial_goes_on() -> None:
    alpha, beta = await World(2, wire=Wire(delay_s=0.4, jitter_s=0)).open()
    with pytest.raises(Unreachable, match=r"within 0\.5 s"):
        await alpha.to(beta, timeout_s=0.5)
    await async_poll_until(lambda: alpha.links.get(beta.id), what="the dial went on")


# --- the unproven ---------------------------------------------------------------------------------------------------------------------


@simulated
async def test_the_unproven_are_capped_also_when_they_come_all_at_once() -> None:
    world = World(2, wire=Wire(delay_s=0.01, jitter_s=0, split=0))
    alpha, beta = await world.open()
    hosts = [world.network.host(f"flood{number}") for number in range(UNPROVEN_MAX // UNPROVEN_EACH_MAX)]
    each = UNPROVEN_EACH_MAX + 50
    mutes = await asyncio.gather(*(host.dial(alpha.address, Mute, timeout_s=5) for host in hosts for _ in range(each)))
    await async_poll_until(lambda: sum(isinstance(mute, Mute) and mute.lost for mute in mutes) == 50 * len(hosts), TIMEOUT_S / 2)
    assert alpha.links.unproven == UNPROVEN_MAX
    link = await beta.to(alpha)
    assert await link.call("echo", b"x", timeout_s=5) == b"x", "who proves himself gets in"
    await async_poll_until(lambda: alpha.links.unproven == 0, TIMEOUT_S + 1, what="time ended the others")


@simulated
async def test_proven_connections_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LINKS_MAX > 1000
    monkeypatch.setattr(module, "LINKS_MAX", 3)
    alpha, beta = await World(2).open()
    beta.household.clients.add(alpha.id)
    for _ in range(3):
        await alpha.links.dial(beta.address, expected=beta.id)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(SkerryError):
        await alpha.links.dial(beta.address, expected=beta.id)
    assert loop.time() - started < 1


GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\xff" * 100,
    b"\x00\x00\x00\x00",
    b"\x00\x00\x00\x01\xff",
    encode_frame([AWAY, "hello?"]),
    encode_frame([HELLO, 1, 1, STRANGER.public, bytes(32), "call", b"", 0])[:-1] + b"\xff",
    encode_frame([HELLO, 9, 9, STRANGER.public, bytes(32), "call", b"", 0]),
    encode_frame([HELLO, 1, 1, bytes(32), bytes(32), "call", b"", 0]),
    encode_frame([HELLO, 1, 1, STRANGER.public, bytes(32), "bulk", bytes(16), 0]) * 2,
]


@pytest.mark.parametrize("says", GARBAGE)
@simulated
async def test_garbage_ends_its_own_connection_and_nothing_else(says: bytes) -> None:
    world = World(2)
    alpha, beta = await world.open()
    link = await alpha.to(beta)
    mute = await world.network.host("alpha").dial(beta.address, lambda: Mute(says), timeout_s=5)
    assert isinstance(mute, Mute)
    await async_poll_until(lambda: mute.lost, TIMEOUT_S + 1)
    assert beta.links.unproven == 0
    assert await link.call("echo", b"x", timeout_s=5) == b"x"


@simulated
async def test_who_sends_a_byte_a_second_is_ended_in_time() -> None:
    world = World(2)
    alpha, _ = await world.open()
    mute = await world.network.host("beta").dial(alpha.address, Mute, timeout_s=5)
    assert isinstance(mute, Mute)
    loop = asyncio.get_running_loop()
    started, pace_s = loop.time(), 1.0
    for byte in encode_frame([HELLO, 1, 1, STRANGER.public, bytes(32), "call", b"", 0]):
        if mute.lost:
            break
        mute.transport.write(bytes([byte]))
        await asyncio.sleep(pace_s)
    assert mute.lost
    assert loop.time() - started <= TIMEOUT_S + 2


@simulated
async def test_a_listener_that_says_nothing_is_given_up_in_time() -> None:
    world = World(2)
    alpha, _ = await world.open()
    listener = await world.network.host("beta").listen("tcp://beta:1", Mute)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(Unreachable, match="handshake"):
        await alpha.links.dial(listener.address, expected=None)
    assert TIMEOUT_S <= loop.time() - started < TIMEOUT_S + 1


@simulated
async def test_a_bulk_connection_needs_the_token_of_its_own_link() -> None:
    world = World(3)
    alpha, beta, gamma = await world.open()
    link = await alpha.to(beta)
    for side, token in ((gamma, link.token), (alpha, b"t" * 16), (alpha, b"")):
        with pytest.raises(Refused) as caught:
            await side.links._open(beta.address, beta.id, Purpose.BULK, token, 5)
        assert caught.value.code == Code.NOT_FOUND


# --- hand-over and end ------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_frame_in_the_same_packet_as_welcome_is_not_lost() -> None:
    """The listener may call as soon as it has let us in; its first call then comes before we have made a link of the connection."""
    world = World(2, wire=Wire(split=0, jitter_s=0))
    alpha, beta = await world.open()
    answers: list[asyncio.Task[object]] = []
    greet = beta.household.link_up

    def call_at_once(link: object) -> None:
        greet(link)  # type: ignore[arg-type]
        answers.extend(asyncio.ensure_future(link.call("echo", bytes([n]), timeout_s=5)) for n in range(5))  # type: ignore[attr-defined]

    beta.household.link_up = call_at_once  # type: ignore[method-assign]
    await alpha.to(beta)
    assert await asyncio.gather(*answers) == [bytes([number]) for number in range(5)]


@simulated
async def test_closing_says_so_and_ends_everything() -> None:
    world = World(3)
    alpha, beta, gamma = await world.open()
    ours, theirs = await alpha.to(beta), await gamma.to(alpha)
    waiting = asyncio.create_task(_lost(ours.call("never", b"", timeout_s=60)))
    await async_poll_until(lambda: beta.household.served)
    await alpha.links.close()
    assert isinstance(await waiting, Unreachable)
    await async_poll_until(lambda: theirs.closed and count(beta) == 0)
    assert theirs.away
    with pytest.raises(Unreachable):
        await gamma.to(alpha)
    with pytest.raises(Unreachable):
        await alpha.links.dial(beta.address, expected=beta.id)


@simulated
async def test_streams_before_their_greeting_are_not_forgotten() -> None:
    """A connection that is lost before anybody waited on it is told to whoever comes."""
    stream = FrameStream()
    stream.connection_lost(None)
    told: list[SkerryError] = []
    stream.attach(lambda _: None, told.append)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [error.code for error in told] == [Code.CONNECTION_LOST]


# --- real sockets -----------------------------------------------------------------------------------------------------------------------


async def _real(*, tcp: bool = True, path: str = "") -> tuple[Side, Side]:
    sides = Side(OPERATOR, RealNetwork(OPERATOR)), Side(MEMBER, RealNetwork(MEMBER))
    for side in sides:
        await side.listen("tcp://127.0.0.1:0" if tcp else f"uds://{path}/{side.id.hex()[:8]}")
    return sides


async def _end(*sides: Side) -> None:
    for side in sides:
        await side.links.close()
    await async_poll_until(lambda: not any(side.links.all() or side.links.unproven for side in sides))


async def test_over_tls_calls_streams_and_30_megabytes_each_way() -> None:
    alpha, beta = await _real()
    link = await alpha.to(beta)
    other = await async_poll_until(lambda: beta.links.get(alpha.id))
    assert other is not None
    value = bytes(range(256)) * (30 * 4096)
    there, back, small = await asyncio.gather(
        link.call("echo", value, timeout_s=40),
        other.call("big", str(len(value)).encode(), timeout_s=40),
        link.call("echo", b"small", timeout_s=5),
    )
    assert there == value
    assert len(back) == len(value)
    assert small == b"small"
    parts = await link.stream("count", b"300", timeout_s=20)
    assert len([part async for part in parts]) == 300
    await async_poll_until(lambda: all(one._bulk is None or one._bulk.held_bytes == 0 for one in (link, other)))
    await _end(alpha, beta)


async def test_over_tls_simultaneous_dials_end_with_one_link() -> None:
    alpha, beta = await _real()
    links = await asyncio.gather(*(side.to(other) for side, other in ((alpha, beta), (beta, alpha)) for _ in range(5)))
    for link in links:
        assert await link.call("echo", b"x", timeout_s=5) == b"x"
    await async_poll_until(lambda: count(alpha) == count(beta) == 1)
    await _end(alpha, beta)


async def test_over_tls_another_key_than_the_pin_is_refused() -> None:
    alpha, beta = await _real()
    with pytest.raises(Refused) as caught:
        await alpha.links.to(STRANGER.public, [beta.address], timeout_s=5)
    assert caught.value.code == Code.WRONG_IDENTITY
    assert beta.links.all() == []
    await _end(alpha, beta)


async def test_over_tls_garbage_inside_and_outside_tls() -> None:
    alpha, beta = await _real()
    link = await alpha.to(beta)
    host, port = "127.0.0.1", int(beta.address.rpartition(":")[2])
    _, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    network = RealNetwork(STRANGER)
    mutes = [await network.dial(beta.address, lambda says=says: Mute(says), timeout_s=5) for says in GARBAGE[:6]]  # type: ignore[misc]
    await async_poll_until(lambda: all(isinstance(mute, Mute) and mute.lost for mute in mutes))
    assert await link.call("echo", b"x", timeout_s=5) == b"x"
    writer.close()
    await _end(alpha, beta)


async def test_over_a_unix_socket_the_owner_is_known(tmp_path_factory: pytest.TempPathFactory) -> None:
    alpha, beta = await _real(tcp=False, path=str(tmp_path_factory.mktemp("s")))
    link = await alpha.links.dial(beta.address, expected=beta.id)
    assert link.peer is not None
    assert link.peer.same_owner
    assert await link.call("echo", bytes(200_000), timeout_s=10) == bytes(200_000)
    await _end(alpha, beta)
