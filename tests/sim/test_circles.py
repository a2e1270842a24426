"""Circles in one simulated world: two formations that know each other through a DHT alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.agents.verbs import AgentName
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, Refused, SkerryError, Unreachable, UsageError
from skerry.identity.codec import pack, unpack
from skerry.identity.stamps import AHEAD_MS_MAX
from skerry.node.circle_door import AT_ONCE
from skerry.node.circles import PREFIX
from skerry.node.explorer import DIALS_MAX
from skerry.node.node import Node
from skerry.routing.circle import TTL_MS
from skerry.routing.task import Task, new_task_id
from skerry.routing.verbs import (
    AnnouncementsReply,
    AnnouncementsRequest,
    CircleInfo,
    CircleMember,
    CircleName,
    CircleQuery,
)
from skerry.sim.agents import Run
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.apart import apart, call, create, enter_in_time
from tests.support.circles import announced, circle, profile
from tests.support.formation import DAY_MS, STRANGER, operator_grant
from tests.support.links import simulated


async def shown(machine: Machine, name: str = "big") -> CircleInfo:
    info: CircleInfo = await machine.ask("circle.show", CircleName(name))
    return info


# --- inside a formation -----------------------------------------------------------------------------------------------------------


@simulated
async def test_a_circle_is_the_same_for_all_its_formations_nodes() -> None:
    world = World("circle-inside")
    alpha, beta, gamma = await world.formation(3)
    await beta.run_agent("Echo")
    await gamma.run_agent("Count")
    made = await create(alpha, "makers", description="who make things")
    await world.until(lambda: all(one.node.circles.router.local_circles() for one in (beta, gamma)), what="all know it")
    with pytest.raises(Refused, match="invited agents alone") as caught:
        await beta.ask("circle.enter", CircleMember("makers", "echo"))
    assert "skerry circle invite 'makers' echo" in caught.value.hint
    await world.until(lambda: alpha.knows_agent("echo") and alpha.knows_agent("count"), what="alpha knows the agents")
    for name in ("echo", "count"):
        await alpha.ask("circle.invite", CircleMember("makers", name))
    with pytest.raises(Refused, match="founded by alpha"):
        await beta.ask("circle.invite", CircleMember("makers", "count"))
    await enter_in_time(world, beta, "makers", "echo")
    await enter_in_time(world, gamma, "makers", "count")

    def same() -> bool:
        circles = [one.node.circles.router.local(bytes.fromhex(made.id)) for one in (alpha, beta, gamma)]
        return all(circle is not None and len(circle.members) == 2 and circle.epoch == circles[0].epoch for circle in circles if circles[0])

    await world.until(same, what="all see two members, and one epoch")
    two = await shown(alpha, "makers")
    assert sorted(member.name for member in two.members) == ["count", "echo"]
    assert two.epoch >= 2
    await gamma.ask("agent.pause", AgentName("count"))
    await world.until(lambda: local(alpha, made).available_count == 1, what="a paused member is offline")
    await gamma.ask("agent.resume", AgentName("count"))
    await world.until(lambda: local(alpha, made).available_count == 2, what="and comes back")
    await gamma.ask("circle.leave", CircleMember("makers", "count"))
    await world.until(lambda: len(local(alpha, made).members) == 1, what="it left")
    await world.until(lambda: local(alpha, made).epoch > two.epoch, what="a new epoch")
    await beta.remove_agent("echo")
    await world.until(lambda: not local(alpha, made).members, what="a removed agent is in no circle")
    await alpha.ask("circle.dissolve", CircleName("makers"))
    await world.until(lambda: not gamma.node.circles.router.local_circles(), what="it is dissolved for all")
    await world.close()


def local(machine: Machine, made: CircleInfo) -> Any:
    circle = machine.node.circles.router.local(bytes.fromhex(made.id))
    assert circle is not None
    return circle


@simulated
async def test_a_circle_outlives_its_nodes_restart_and_its_announcement_is_renewed() -> None:
    async with apart("circle-restart") as (world, alpha, beta, _):
        before = await shown(beta)
        await beta.stop()
        await beta.start()
        await world.until(beta.node.circles.router.plan_announce_all, what="beta speaks for it again")
        later = await shown(beta)
        assert (later.id, later.member_count) == (before.id, 1)
        ends = later.expires_at
        await world.until(lambda: alpha.clock.now_ms() > ends, 7200.0, what="an hour goes by")
        await world.until(lambda: beta.node.circles.router.announced(bytes.fromhex(before.id)) is not None)
        now = await shown(beta)
        assert now.expires_at > beta.clock.now_ms()
        assert now.epoch == later.epoch


@simulated
async def test_a_member_whose_node_crashed_is_offline_and_available_again_when_it_is_back() -> None:
    world = World("circle-crash")
    alpha, beta, gamma = await world.formation(3)
    made = await create(alpha, "makers", open=True)
    for machine, script in ((beta, "Echo"), (gamma, "Count")):
        await machine.run_agent(script)
        await enter_in_time(world, machine, "makers", script.lower())
    await world.until(lambda: local(alpha, made).available_count == 2, what="both are available")
    epoch = local(alpha, made).epoch
    gamma.crash()
    await world.until(lambda: local(alpha, made).available_count == local(beta, made).available_count == 1, 10.0, what="one is offline")
    said = beta.node.circles.router.announced(bytes.fromhex(made.id))
    assert said is not None
    assert (said.announcement.member_count, said.announcement.available_count) == (2, 1)
    assert [speaker.node for speaker in said.announcement.speakers] == [beta.node.key.public], "nobody is sent to one that is gone"
    await gamma.start()
    await world.until(lambda: local(alpha, made).available_count == 2, what="it is back")
    assert local(alpha, made).epoch == epoch, "nobody came or left"
    await world.close()


# --- across formations ------------------------------------------------------------------------------------------------------------


@simulated
async def test_fix_a_remote_circle_is_reached_and_its_member_does_the_task() -> None:
    async with apart("circle-found") as (_, alpha, beta, xi):
        result = await call(xi, "custom:echo", "over there")
        assert unpack(result.payload or b"") == "over there"
        (info,) = (await xi.ask("circle.list", CircleQuery("custom:*"))).circles
        assert (info.name, info.foreign, info.formation) == ("big", True, alpha.node.formation.hex())
        assert (info.member_count, info.members, info.invited) == (1, [], []), "who is in it is not told"
        assert xi.node.circles.router.stats(now_ms=xi.clock.now_ms()).discovered_circle_count == 1
        assert beta.node.circle_door._running.total() == 0


@simulated
@pytest.mark.parametrize("query", ["custom:*", "custom:e*"])
async def test_fix_wildcards_find_circles_of_others(query: str) -> None:
    async with apart(f"circle-wild-{query}") as (_, _, _, xi):
        found = await xi.ask("circle.list", CircleQuery(query, discover=True))
        assert [info.name for info in found.circles] == ["big"]


@simulated
@pytest.mark.parametrize("what", ["agent", "node"])
async def test_what_may_be_done_twice_is_done_though_who_does_it_elsewhere_dies(what: str) -> None:
    """A formation's node goes on at the next member; a stranger's at the next node that speaks for the circle."""
    async with apart(f"circle-death-{what}") as (world, alpha, beta, xi):
        gamma = world.machine("gamma")
        await gamma.start(await alpha.invite())
        for machine in (beta, gamma):
            await machine.run_agent("Slow", f"slow-{machine.name}")
            await enter_in_time(world, machine, "big", f"slow-{machine.name}")

        def both() -> bool:
            said = beta.node.circles.router.announced(beta.node.circles.named("big").id)
            return said is not None and len(said.announcement.speakers) == 2 and said.announcement.available_count == 3

        await world.until(both, what="two nodes speak for it")
        under_way = asyncio.ensure_future(call(xi, "custom:slow", 2.0))
        await world.until(lambda: running(world), what="somebody has begun")
        (first,) = running(world)
        dies = beta if first.node == "beta" else gamma
        if what == "node":
            dies.crash()
        else:
            dies.executor.workers()[-1].kill()
        assert unpack((await under_way).payload or b"") == 2.0
        assert len(running(world)) == 2
        assert {run.node for run in running(world)} == {"beta", "gamma"}


def running(world: World) -> list[Run]:
    """Who began a slow task."""
    return [run for runs in world.witness.runs.values() for run in runs if run.capability == "custom:slow"]


@simulated
async def test_what_can_not_be_looked_for_is_said_and_where_there_is_nowhere_to_look_too() -> None:
    async with apart("circle-nowhere") as (world, _, _, xi):
        for query in ("*", "inference", "telepathy:x", ""):
            with pytest.raises(UsageError) as caught:
                await xi.ask("circle.list", CircleQuery(query, discover=True))
            assert caught.value.hint
        alone = world.machine("alone")
        await alone.start()
        with pytest.raises(Unreachable, match="no DHT") as unreached:
            await alone.ask("circle.list", CircleQuery("custom:echo", discover=True))
        assert "--bootstrap" in unreached.value.hint
        with pytest.raises(Refused) as nowhere:
            await call(alone, "custom:echo", 1)
        assert nowhere.value.code == Code.UNKNOWN_CAPABILITY
        assert "--bootstrap" in nowhere.value.hint
        await alone.run_agent("Count")
        with pytest.raises(Refused) as alike:
            await call(alone, "custom:cuont", 1)
        assert "custom:count" in alike.value.hint
        assert "--bootstrap" in alike.value.hint
        with pytest.raises(Refused) as looked:
            await call(xi, "custom:none", 1)
        assert "--bootstrap" not in looked.value.hint, "this one looked"
        assert "no public circle" in looked.value.message
        assert (await alone.ask("circle.list", CircleQuery("custom:echo"))).circles == []


@simulated
async def test_a_task_stays_where_its_caller_does_not_say_otherwise() -> None:
    async with apart("circle-reach") as (_, _, _, xi):
        for reach in ("formation", "contacts"):
            with pytest.raises(Refused) as caught:
                await call(xi, "custom:echo", 1, reach=reach)
            assert caught.value.code == Code.UNKNOWN_CAPABILITY
        assert xi.node.circles.router.discovered_circles(now_ms=xi.clock.now_ms()) == [], "nor is anybody asked who could"


@simulated
@pytest.mark.parametrize(("callable_by", "public"), [("formation", True), ("contacts", True), ("formation", False)])
async def test_a_circle_that_is_not_for_anyone_is_not_called_by_a_stranger(callable_by: str, public: bool) -> None:
    async with apart(f"circle-closed-{callable_by}-{public}", callable_by=callable_by, public=public) as (_, _, beta, xi):
        with pytest.raises(Refused) as caught:
            await call(xi, "custom:echo", 1)
        assert caught.value.code == Code.UNKNOWN_CAPABILITY
        (circle,) = beta.node.circles.router.local_circles()
        assert await refusal(xi, beta, PREFIX + circle.id.hex()) == Code.NOT_GRANTED, "whoever asks all the same is refused"
        assert await refusal(xi, beta, circle.members[0].id) == Code.NOT_GRANTED, "a stranger names circles, never agents"


async def refusal(xi: Machine, beta: Machine, agent: str) -> str:
    async def ask(node: Node) -> str:
        link = await node.links.probe("tcp://beta:7420", expected=beta.key.public, timeout_s=5.0)
        task = Task(
            new_task_id(node.key.public, bytes(16)), "custom:echo", agent, pack(1), node.key.public, node.ports.clock.now_ms()
        ).to_bytes()
        try:
            await link.call("task.run", task, timeout_s=5.0)
        except SkerryError as error:
            return error.code
        return ""

    return await xi.within(ask)


@simulated
async def test_strangers_have_a_quota() -> None:
    async with apart("circle-quota") as (_, _, _, xi):
        done = busy = 0
        for _ in range(int(AT_ONCE) + 20):
            try:
                await call(xi, "custom:echo", 1)
                done += 1
            except SkerryError as error:
                busy += error.code == Code.BUSY
        assert AT_ONCE <= done < AT_ONCE + 15
        assert done + busy == int(AT_ONCE) + 20
        assert busy


@simulated
async def test_a_dht_full_of_lies_costs_a_bounded_number_of_dials() -> None:
    async with apart("circle-lies") as (world, _, _, xi):
        world.dht.lies = [f"{world.network.number_of('alpha')}:{9000 + n}" for n in range(40)] + ["127.0.0.1:22", "nonsense", "a:b:c"]
        dialled: list[str] = []
        network = xi.node.ports.network
        real = network.dial

        async def noted(address: str, *rest: Any, **more: Any) -> Any:
            dialled.append(address)
            return await real(address, *rest, **more)

        network.dial = noted  # type: ignore[method-assign]
        with pytest.raises(Refused) as caught:
            await call(xi, "custom:none", 1)
        assert caught.value.code == Code.UNKNOWN_CAPABILITY
        assert 0 < len(dialled) <= DIALS_MAX
        assert not any("127.0.0.1" in address for address in dialled)
        asked = 0
        while not (await xi.ask("circle.list", CircleQuery("custom:echo", discover=True))).circles:
            asked += 1
            assert asked < 6, "who is asked in vain is asked after all others: the honest one is found among 43 liars"
        assert len(dialled) <= DIALS_MAX * (asked + 2)
        assert unpack((await call(xi, "custom:echo", "in spite of them")).payload or b"") == "in spite of them"


@simulated
async def test_what_a_liar_shows_is_not_believed_and_the_reasons_are_told() -> None:
    async with apart("circle-forged") as (_, _, beta, xi):
        now_ms = xi.clock.now_ms()
        (true,) = beta.node.circles.payloads(query="custom:echo", circle=b"", most=16, size_bytes_max=40_000)
        one, known = circle(profile(1, "custom:echo")), [operator_grant(at_ms=now_ms - DAY_MS).signed]
        over_ms, future_ms = now_ms - TTL_MS - 2 * AHEAD_MS_MAX, now_ms + 2 * AHEAD_MS_MAX
        lies = [
            true.replace(b"custom:echo", b"custom:lies"),
            announced(one, by=STRANGER, now_ms=now_ms).to_bytes(),
            announced(one, now_ms=over_ms, grants=known).to_bytes(),
            announced(one, now_ms=future_ms, grants=known).to_bytes(),
            announced(one, now_ms=now_ms, grants=known, addresses=["tcp://127.0.0.1:7420"]).to_bytes(),
            announced(one, now_ms=now_ms, grants=known, description="d" * 30_000).to_bytes(),
            b"nonsense",
        ]
        beta.node.circles.payloads = lambda **_: lies  # type: ignore[method-assign]
        with pytest.raises(Refused) as caught:
            await call(xi, "custom:echo", 1)
        assert caught.value.code == Code.UNKNOWN_CAPABILITY
        told = await xi.ask("circle.list", CircleQuery())
        assert told.circles == []
        wanted = ("bad_signature", "not_granted", "expired", "too_far_ahead", "address_not_allowed", "too_large", "malformed")
        assert told.refused == dict.fromkeys(wanted, 1)
        assert 'skerry_announcements_refused_total{reason="expired"} 1' in await xi.within(metrics_of)


async def metrics_of(node: Node) -> str:
    return node.metrics.text()


@simulated
async def test_what_is_shown_to_a_stranger_fits_into_one_frame() -> None:
    async with apart("circle-many") as (_, _, beta, _):
        for number in range(4):
            await create(beta, f"big {number}", callable_by="anyone", open=True, description="d" * 500)
            await beta.ask("circle.enter", CircleMember(f"big {number}", "echo"))

        def shown(most: int, size_bytes_max: int) -> list[bytes]:
            return beta.node.circles.payloads(query="custom:echo", circle=b"", most=most, size_bytes_max=size_bytes_max)

        everything = shown(16, 40_000)
        assert len(everything) == 5
        assert len(shown(3, 40_000)) == 3
        assert shown(16, sum(map(len, everything)) - 1) == everything[:4]


@simulated
async def test_what_is_shown_to_everybody_is_public_circles_alone() -> None:
    async with apart("circle-shown") as (world, alpha, beta, xi):
        await create(beta, "secret", callable_by="contacts", open=True)
        await beta.ask("circle.enter", CircleMember("secret", "echo"))

        async def ask(node: Node) -> list[bytes]:
            link = await node.links.probe("tcp://beta:7420", expected=beta.key.public, timeout_s=5.0)
            body = await link.call("circle.announcements", pack_message(AnnouncementsRequest("custom:*")), timeout_s=5.0)
            return unpack_message(AnnouncementsReply, body).announcements

        (payload,) = await xi.within(ask)
        assert b"secret" not in payload
        assert b"big" in payload
        await world.until(lambda: alpha.node.circles.router.stats(now_ms=0).local_circle_count == 2, what="alpha knows both")
