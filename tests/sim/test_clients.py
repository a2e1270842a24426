"""Programs without a node: they join with a ticket, call whichever node answers, go on at another, and renew what they were granted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from skerry.client.wallet import Contents
from skerry.errors import Code, SkerryError, Unreachable
from skerry.identity.grants import Role, State
from skerry.identity.ticket import Ticket, parse_ticket
from skerry.node import views
from skerry.node.operations import VERBS
from skerry.node.policy import Right
from skerry.node.verbs import (
    FormationInfo,
    InviteReply,
    InviteRequest,
    NodeList,
    NodeListRequest,
    NodeName,
    Nothing,
    RevokeRequest,
    StatusReply,
)
from skerry.sim.clock import SimClock
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.formation import key
from tests.support.links import simulated
from tests.support.pockets import Pocket, program

DAY_MS = 24 * 3600 * 1000


@asynccontextmanager
async def serving(seed: str, count: int = 3) -> AsyncIterator[tuple[World, list[Machine]]]:
    """A formation in which the last node has an agent that may be asked twice, and one that may not."""
    world = World(seed)
    machines = await world.formation(count)
    await machines[-1].run_agent("Echo")
    for machine in machines:
        await world.until(partial(machine.knows_agent, "echo"))
    yield world, machines
    await world.close()


async def client_ticket(inviter: Machine, uses: int = 1) -> str:
    return await inviter.invite(role=Role.CLIENT, uses=uses)


@simulated
async def test_a_program_with_a_ticket_calls_and_comes_again_with_the_same_one() -> None:
    async with serving("client") as (world, (alpha, beta, _gamma)):
        ticket, pocket = await client_ticket(alpha), Pocket()
        for number in range(3):
            async with program(world, ticket, pocket) as mesh:
                assert await mesh.call("custom:echo", number) == number
                many = await asyncio.gather(*(mesh.call("custom:echo", n) for n in range(50)))
                assert many == list(range(50))
        with pytest.raises(SkerryError) as elsewhere:
            async with program(world, ticket, Pocket(Contents(key(0x7002)))):
                pass
        assert elsewhere.value.code == Code.TICKET_SPENT
        standing = beta.node.trust.standing(pocket.key.public)
        assert (standing.state, standing.role) == (State.VALID, Role.CLIENT)


@simulated
async def test_a_client_is_no_node() -> None:
    async with serving("client-no-node") as (world, (alpha, beta, gamma)):
        ticket, pocket = await client_ticket(alpha, uses=2), Pocket()
        meshes = [program(world, ticket, pocket) for _ in range(3)]
        async with meshes[0], meshes[1], meshes[2]:
            assert [await mesh.call("custom:echo", 1) for mesh in meshes] == [1, 1, 1], "one key, several programs"
            client = pocket.key.public
            links = [link for link in alpha.node.links.all() if link.id == client]
            assert len(links) == 3
            assert client not in [link.id for link in alpha.node.links.nodes()]
            assert client not in alpha.node.federation.in_sync
            await asyncio.sleep(60)
            for machine in (alpha, beta, gamma):
                assert client not in machine.node.wanted()
                assert client.hex() not in [info.id for info in views.nodes(machine.node)]
            everybody = await alpha.ask("node.list", NodeListRequest(everybody=True))
            assert {info.role for info in everybody.nodes if info.id == client.hex()} == {"client"}
            info: FormationInfo = await alpha.ask("formation.show", Nothing())
            assert (info.nodes, info.clients) == (3, 1)
            with pytest.raises(SkerryError, match="federate"):
                await meshes[0].ask("records.pull", Nothing(), Nothing)
            with pytest.raises(SkerryError, match="admin"):
                await meshes[0].ask("node.invite", InviteRequest(), InviteReply)
            assert len((await meshes[0].ask("node.list", Nothing(), NodeList)).nodes) == 3


@simulated
async def test_a_client_goes_on_at_another_node_when_its_own_dies() -> None:
    async with serving("client-failover") as (world, (alpha, beta, gamma)):
        pocket = Pocket()
        async with program(world, await client_ticket(alpha), pocket) as mesh:
            assert await mesh.call("custom:echo", 1) == 1
            await world.until(lambda: len(pocket.contents.records) >= 6, what="it has learned where the others are")
            alpha.crash()
            started_s = world.now_s
            assert await mesh.call("custom:echo", 2, timeout=20.0) == 2, "asked of a node that is silent for ever"
            assert world.now_s - started_s < 10
            beta.kill()
            assert await mesh.call("custom:echo", 3) == 3
        unknown = Ticket(gamma.node.formation, alpha.key.public, ("tcp://alpha:7420",), bytes(16))
        async with program(world, unknown, pocket) as mesh:
            assert await mesh.call("custom:echo", 4) == 4, "a new program finds its way without the inviter"
            gamma.kill()
            with pytest.raises(Unreachable):
                await mesh.call("custom:echo", 5, timeout=10.0)


@simulated
async def test_what_may_be_done_once_is_not_asked_again_elsewhere() -> None:
    async with serving("client-once") as (world, (alpha, _, gamma)):
        await gamma.run_agent("Slow")
        await gamma.run_agent("Job")
        await world.until(lambda: alpha.knows_agent("slow") and alpha.knows_agent("job"))
        async with program(world, await client_ticket(alpha), pocket := Pocket()) as mesh:
            await world.until(lambda: len(pocket.contents.records) >= 6)
            once = asyncio.ensure_future(mesh.call("custom:job", 5.0, timeout=30.0))
            twice = asyncio.ensure_future(mesh.call("custom:slow", 5.0, timeout=30.0))
            await asyncio.sleep(1.0)
            alpha.kill()
            with pytest.raises(Unreachable) as lost:
                await once
            assert lost.value.outcome_unknown
            assert await twice == 5.0, "what may be done twice is asked again"
        runs = [run.agent for runs in world.witness.runs.values() for run in runs]
        assert (runs.count("job"), runs.count("slow")) == (1, 2)


@simulated
async def test_a_client_renews_at_half_life_and_through_any_operator() -> None:
    world = World("client-renews")
    alpha, beta, gamma = await world.formation(3, operators=2)
    pocket = Pocket()
    clock = SimClock(world.loop, start_ms=alpha.clock.now_ms())
    async with program(world, await client_ticket(alpha), pocket, clock=clock) as mesh:
        await asyncio.sleep(1)
        first_ms = pocket.expires_ms
        await alpha.stop()
        for one in (beta.clock, gamma.clock, alpha.clock, clock):
            one.step(16 * DAY_MS)
        await world.until(lambda: pocket.expires_ms > first_ms, 900.0, what="beta renews what alpha granted")
        assert (await mesh.ask("node.status", Nothing(), StatusReply)).name in ("beta", "gamma")
    assert beta.node.trust.standing(pocket.key.public).expires_ms == pocket.expires_ms
    await world.close()


@simulated
async def test_a_program_that_lives_for_a_moment_renews_too() -> None:
    async with serving("client-short") as (world, (alpha, beta, gamma)):
        ticket, pocket = await client_ticket(alpha), Pocket()
        clock = SimClock(world.loop, start_ms=alpha.clock.now_ms())
        async with program(world, ticket, pocket, clock=clock):
            pass
        first_ms = pocket.expires_ms
        for one in (alpha.clock, beta.clock, gamma.clock, clock):
            one.step(16 * DAY_MS)
        async with program(world, ticket, pocket, clock=clock):
            pass
        assert pocket.expires_ms > first_ms


@simulated
async def test_a_client_believes_only_nodes_of_its_formation() -> None:
    async with serving("client-foreign") as (world, (alpha, _, _)):
        other = world.machine("stranger")
        await other.start()
        ticket = parse_ticket(await client_ticket(alpha))
        wrong_place = replace(ticket, addresses=("tcp://stranger:7420",))
        with pytest.raises(SkerryError) as pinned:
            async with program(world, wrong_place, Pocket()):
                pass
        assert pinned.value.code == Code.WRONG_IDENTITY
        wrong_node = replace(wrong_place, inviter=other.key.public)
        with pytest.raises(SkerryError) as foreign:
            async with program(world, wrong_node, Pocket()):
                pass
        assert foreign.value.code == Code.NOT_GRANTED


@simulated
async def test_a_client_that_is_revoked_or_forgotten_is_out() -> None:
    async with serving("client-out") as (world, (alpha, beta, _)):
        ticket, pocket = await client_ticket(alpha, uses=9), Pocket()
        async with program(world, ticket, pocket) as mesh:
            assert await mesh.call("custom:echo", 1) == 1
        await alpha.ask("node.forget", NodeName(pocket.key.public.hex()))
        with pytest.raises(SkerryError) as forgotten:
            async with program(world, ticket, pocket) as mesh:
                await mesh.call("custom:echo", 1)
        assert forgotten.value.code == Code.NOT_GRANTED
        second = Pocket(Contents(key(0x7003)))
        async with program(world, ticket, second) as mesh:
            assert await mesh.call("custom:echo", 1) == 1
            await alpha.ask("node.revoke", RevokeRequest(second.key.public.hex(), "stolen"))
            with pytest.raises(SkerryError):
                await mesh.call("custom:echo", 2)
        await world.until(lambda: beta.node.trust.standing(second.key.public).state is State.REVOKED)
        with pytest.raises(SkerryError) as revoked:
            async with program(world, ticket, second):
                pass
        assert revoked.value.code == Code.REVOKED


@simulated
async def test_tickets_are_for_what_they_were_made_for() -> None:
    async with serving("client-kinds") as (world, (alpha, _, _)):
        with pytest.raises(SkerryError) as as_client:
            async with program(world, await alpha.invite(), Pocket()):
                pass
        assert as_client.value.code == Code.BAD_TICKET
        ticket = await client_ticket(alpha)
        with pytest.raises(SkerryError) as as_node:
            await world.machine("newcomer").start(ticket)
        assert as_node.value.code == Code.BAD_TICKET
        async with program(world, ticket, Pocket()) as mesh:
            assert await mesh.call("custom:echo", 1) == 1, "it was not spent by the mistake"


@simulated
async def test_a_client_whose_clock_is_off_is_told_so() -> None:
    async with serving("client-1970") as (world, (alpha, _, _)):
        ticket = await client_ticket(alpha)
        with pytest.raises(SkerryError) as refused:
            async with program(world, ticket, Pocket(), clock=SimClock(world.loop, start_ms=0)):
                pass
        assert refused.value.code == Code.CLOCK_OFF


@simulated
async def test_every_verb_answers_a_client_by_its_right_and_nothing_else() -> None:
    async with serving("client-matrix") as (world, (alpha, _, _)), program(world, await client_ticket(alpha), Pocket()) as mesh:
        refused = set()
        for verb in VERBS:
            try:
                await mesh.ask(verb, Nothing(), Nothing, timeout=5.0)
            except SkerryError as error:
                if error.code == Code.NOT_GRANTED:
                    refused.add(verb)
        may = {Right.PING, Right.JOIN, Right.RENEW, Right.CALL, Right.INJECT, Right.OBSERVE}
        assert refused == {verb for verb, operation in VERBS.items() if operation.right not in may}
        assert {"records.pull", "records.push", "agent.run", "node.invite", "node.revoke", "node.down", "node.leave"} <= refused
