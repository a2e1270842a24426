"""Founding and joining, with a crash or a cheat at every step."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from skerry.channel.calls import Body, Served
from skerry.channel.links import Credentials
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.grants import Roster, State
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import EARLIEST_MS
from skerry.identity.ticket import Ticket, parse_ticket
from skerry.node.invitations import Invitations
from skerry.node.membership import formation_of, found, join, leave, seeds_of
from skerry.node.trust import ROOT_KEY, Trust
from skerry.node.verbs import InviteRequest, JoinReply, JoinRequest
from skerry.ports import Ports
from skerry.records.replica import Replica
from skerry.sim.clock import SimClock, SimRandom
from skerry.sim.disk import SimDisk
from tests.support.formation import FORMATION, NOW_MS, ROOT, STRANGER, key, member_grant, operator_grant
from tests.support.links import Household, Side, World, simulated
from tests.support.replicas import Home

NEWCOMER = key(0x2000)


class Inviter(Household):
    """A side that is an operator and lets people in; `reply` changes what it answers."""

    def __init__(self, side: Side) -> None:
        super().__init__()
        self.side = side
        self.home = Home(side.key)
        self.home.disk.keyring.save(ROOT_KEY, ROOT.seed)
        self.home.takes(operator_grant(side.key))
        self.clock = SimClock(asyncio.get_running_loop(), start_ms=NOW_MS)
        self.trust = Trust(side.key, FORMATION, self.home.roster, self.home.replica, keyring=self.home.disk.keyring, clock=self.clock)
        self.invitations = Invitations(
            self.trust,
            self.home.replica,
            store=self.home.store,
            clock=self.clock,
            random=SimRandom("inviter"),
            addresses=lambda: (f"tcp://{side.name}:7420",),
        )
        self.shown = operator_grant(side.key).signed
        self.grant: bytes | None = None  # to answer instead of the right one
        self.joins = 0
        side.household = self
        side.links._household = self

    def credentials(self) -> Credentials:
        return Credentials(self.shown)

    async def _answer(self, served: Served) -> Body:
        assert served.verb == "node.join"
        self.joins += 1
        reply = self.invitations.join(unpack_message(JoinRequest, served.body), joiner=served.link.id)
        return pack_message(JoinReply(self.grant, reply.records) if self.grant is not None else reply)

    def ticket(self, *, uses: int = 1) -> Ticket:
        return parse_ticket(self.invitations.invite(InviteRequest(uses=uses)).ticket)


class House:
    """A home that wants to join."""

    def __init__(self, world: World, *, disk: SimDisk | None = None, start_ms: int = NOW_MS) -> None:
        self.disk = disk or SimDisk()
        host = world.network.host("newcomer", public_key=NEWCOMER.public)
        self.ports = Ports(
            clock=SimClock(asyncio.get_running_loop(), start_ms=start_ms),
            random=SimRandom("newcomer"),
            network=host,
            store=self.disk.open(),
            keyring=self.disk.keyring,
            blobs=self.disk.blobs,
            executor=cast("Any", None),  # nobody runs an agent here
        )

    async def join(self, ticket: Ticket, *, own: KeyPair = NEWCOMER) -> bytes:
        return await join(self.ports, own, ticket, name="newcomer")

    async def refused(self, ticket: Ticket) -> SkerryError:
        with pytest.raises(SkerryError) as caught:
            await self.join(ticket)
        assert formation_of(self.ports) is None, "nothing is half joined"
        return caught.value


async def meet(*, start_ms: int = NOW_MS) -> tuple[World, Inviter, House]:
    world = World(2)
    inviter = Inviter(world.sides[0])
    await world.open()
    return world, inviter, House(world, start_ms=start_ms)


@simulated
async def test_a_ticket_makes_a_member() -> None:
    _, inviter, house = await meet()
    ticket = inviter.ticket()
    assert await house.join(ticket) == FORMATION == formation_of(house.ports)
    assert seeds_of(house.ports) == {ticket.inviter: ticket.addresses}
    roster = Roster(FORMATION)
    Replica(house.ports.store, formation=FORMATION, roster=roster, ours=NEWCOMER.public)
    assert roster.standing(NEWCOMER.public, now_ms=NOW_MS).state is State.VALID
    assert roster.standing(inviter.side.id, now_ms=NOW_MS).state is State.VALID


@simulated
async def test_the_same_join_again_asks_nobody_and_after_a_crash_it_is_finished() -> None:
    world, inviter, house = await meet()
    ticket = inviter.ticket()
    await house.join(ticket)
    await house.join(ticket)
    assert inviter.joins == 1
    fresh = House(world)  # as if nothing of it had reached the disk
    await fresh.join(ticket)
    assert inviter.joins == 2
    assert formation_of(fresh.ports) == FORMATION


@simulated
async def test_another_formation_is_refused_and_says_how() -> None:
    _, inviter, house = await meet()
    found(house.ports, NEWCOMER)
    with pytest.raises(SkerryError) as caught:
        await house.join(inviter.ticket())
    assert caught.value.code == Code.HAS_FORMATION
    assert "--leave" in caught.value.hint
    leave(house.ports.store, house.ports.keyring)
    assert await house.join(inviter.ticket()) == FORMATION
    assert house.ports.keyring.load(ROOT_KEY) is None


@simulated
async def test_the_inviters_reasons_come_through() -> None:
    _, inviter, house = await meet()
    spent = inviter.ticket()
    inviter.invitations.join(JoinRequest(spent.secret, "other"), joiner=STRANGER.public)
    for ticket, code in ((spent, Code.TICKET_SPENT), (replace(spent, secret=bytes(16)), Code.TICKET_UNKNOWN)):
        error = await house.refused(ticket)
        assert error.code == code
        assert error.hint


@simulated
async def test_somebody_with_another_key_at_the_address_is_not_believed() -> None:
    world, inviter, house = await meet()
    error = await house.refused(replace(inviter.ticket(), addresses=(world.sides[1].address,)))
    assert error.code == Code.WRONG_IDENTITY
    assert world.sides[1].household.served == []


@simulated
async def test_an_address_that_is_somebody_elses_here_is_passed_over() -> None:
    """127.0.0.1 or a bridge's address of the inviter's is another node's on this machine: the next address is the right one."""
    world, inviter, house = await meet()
    ticket = inviter.ticket()
    assert await house.join(replace(ticket, addresses=("tcp://nowhere:1", world.sides[1].address, *ticket.addresses))) == FORMATION


@simulated
async def test_where_nobody_answers_it_says_so() -> None:
    world, inviter, house = await meet()
    ticket = inviter.ticket()
    world.network.kill(inviter.side.name)
    error = await house.refused(ticket)
    assert isinstance(error, Unreachable)
    assert "inviter" in error.message
    await house.refused(replace(ticket, addresses=()))


@pytest.mark.parametrize("shown", [b"", b"garbage", member_grant().signed, operator_grant(STRANGER).signed])
@simulated
async def test_an_inviter_that_is_no_operator_of_that_formation_is_not_told_the_secret(shown: bytes) -> None:
    _, inviter, house = await meet()
    inviter.shown = shown
    await house.refused(inviter.ticket())
    assert inviter.joins == 0


@pytest.mark.parametrize("grant", [b"", b"garbage", member_grant(STRANGER).signed, member_grant(NEWCOMER).signed[:-1] + b"\x00"])
@simulated
async def test_a_grant_that_is_none_is_not_kept(grant: bytes) -> None:
    _, inviter, house = await meet()
    inviter.grant = grant
    await house.refused(inviter.ticket())


@pytest.mark.parametrize("off_ms", [-600_000, -(10**10)])
@simulated
async def test_a_clock_that_is_off_is_named(off_ms: int) -> None:
    _, inviter, house = await meet(start_ms=NOW_MS + off_ms)
    error = await house.refused(inviter.ticket())
    assert error.code == Code.CLOCK_OFF
    assert "clock" in error.message


@simulated
async def test_a_device_that_booted_in_1970_founds_nothing() -> None:
    _, _, house = await meet(start_ms=5_000)
    with pytest.raises(Refused) as caught:
        found(house.ports, NEWCOMER)
    assert caught.value.code == Code.CLOCK_OFF
    assert formation_of(house.ports) is None
    assert house.ports.keyring.load(ROOT_KEY) is None
    assert EARLIEST_MS < NOW_MS


@simulated
async def test_founding_that_was_cut_finishes_the_same_formation() -> None:
    world = World(1)
    house = House(world)
    first = found(house.ports, NEWCOMER)
    house.disk.open()
    again = House(world, disk=house.disk)
    again.ports.store.set_fact("node", "formation", None, durable=True)  # as if the last step had not been
    assert found(again.ports, NEWCOMER) == first


@simulated
async def test_leaving_keeps_the_root_key_aside() -> None:
    house = House(World(1))
    formation = found(house.ports, NEWCOMER)
    seed = house.ports.keyring.load(ROOT_KEY)
    leave(house.ports.store, house.ports.keyring)
    assert formation_of(house.ports) is None
    assert house.ports.store.of_kind("grant") == []
    assert house.ports.keyring.load(f"root-of-{formation.hex()[:10]}") == seed
    assert found(house.ports, NEWCOMER) != formation
