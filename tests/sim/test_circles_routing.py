"""Tasks that go to circles of other formations: by strategy and by merit, hedged, signed, begun anew, scored, and never in a ring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from skerry.errors import Code, SkerryError, Unreachable
from skerry.identity.codec import pack, unpack
from skerry.identity.pieces import joined
from skerry.node.node import Node
from skerry.node.views import status
from skerry.routing.receipt import PartsDigest, digest, read_receipt
from skerry.routing.reputation import NODE, Deed, TaskRecord
from skerry.routing.strategies import Strategy
from skerry.routing.task import RESTARTED, Request, TaskResult
from skerry.routing.verbs import CircleInfo, CircleName, CircleQuery, ScoreList, ScoreQuery
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.apart import apart, call, create, found, join_in
from tests.support.circles import announced, circle, profile
from tests.support.formation import DAY_MS, STRANGER, operator_grant
from tests.support.links import simulated
from tests.support.neighbours import make_contacts, share


@asynccontextmanager
async def two_speakers(seed: str, script: str) -> AsyncIterator[tuple[World, Machine, Machine, Machine]]:
    """xi, and the nodes beta and gamma of another formation, which both host such an agent in the circle that they speak for."""
    async with apart(seed) as (world, alpha, beta, xi):
        gamma = world.machine("gamma")
        await gamma.start(await alpha.invite())
        for machine in (beta, gamma):
            await join_in(world, machine, "big", script)
        await found(world, xi, f"custom:{script.lower()}", speakers=2)
        yield world, beta, gamma, xi


async def streamed(machine: Machine, capability: str, payload: object, **wishes: Any) -> tuple[list[bytes], TaskResult]:
    async def go(node: Node) -> list[Any]:
        request = Request(capability, pack(payload), reach="public", **wishes)
        return [item async for item in node.dispatcher.stream(request, timeout_s=30.0)]

    *parts, last = await machine.within(go)
    assert isinstance(last, TaskResult)
    return [bytes(joined(part)) for part in parts], last


async def refusal(machine: Machine, capability: str, payload: object = None, **wishes: Any) -> str:
    try:
        await call(machine, capability, payload, **wishes)
    except SkerryError as error:
        return error.code
    return ""


# --- whom it goes to ------------------------------------------------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize("query", ["custom:echo", "custom:ec*", "custom:*"])
async def test_fix_wildcards_find_circles_and_their_members_do_the_task(query: str) -> None:
    async with apart(f"circle-task-{query}") as (world, _, _, xi):
        assert unpack((await call(xi, query, "over there")).payload or b"") == "over there"
        assert [run.node for runs in world.witness.runs.values() for run in runs] == ["beta"]


@simulated
async def test_fix_announcements_are_verified_when_they_come_and_expired_ones_are_never_routed_to() -> None:
    async with apart("circle-verified") as (world, _, beta, xi):
        honest, now_ms = beta.node.circles.payloads, xi.clock.now_ms()
        one, known = circle(profile(1, "custom:echo")), [operator_grant(at_ms=now_ms - DAY_MS).signed]
        (true,) = honest(query="custom:echo", circle=b"", most=16, size_bytes_max=40_000)
        forged = [true.replace(b"custom:echo", b"custom:ecco"), announced(one, by=STRANGER, now_ms=now_ms, grants=known).to_bytes()]
        beta.node.circles.payloads = lambda **_: forged  # type: ignore[method-assign]
        for query in ("custom:echo", "custom:ecco", "custom:*"):
            assert await refusal(xi, query) == Code.UNKNOWN_CAPABILITY
        assert xi.node.beyond.pools("custom:*", reach="public") == []
        assert xi.node.circles.router.refused.total() >= 2
        assert not world.witness.runs, "nobody was given the task on a forged word"
        beta.node.circles.payloads = honest  # type: ignore[method-assign]
        await call(xi, "custom:echo", 1)
        (known_now,) = xi.node.circles.router.discovered_circles(now_ms=xi.clock.now_ms())
        beta.crash()
        await world.until(lambda: xi.clock.now_ms() > known_now.announcement.expires, 7200.0, what="what was announced is over")
        dialled: list[object] = []
        xi.node.explorer.link_to = lambda *asked: dialled.append(asked)  # type: ignore[method-assign, assignment]
        for query in ("custom:echo", "custom:*"):
            assert await refusal(xi, query) == Code.UNKNOWN_CAPABILITY
        assert dialled == [], "who spoke for it is not even dialled"


@simulated
async def test_ours_come_first_then_contacts_then_public_circles() -> None:
    async with apart("circle-order") as (world, _, beta, xi):
        await found(world, xi, "custom:echo")
        omicron, pi = world.machine("omicron"), world.machine("pi")
        await omicron.start()
        await make_contacts(omicron, xi, "federate", "call:*")
        await omicron.run_agent("Echo", "shared")
        await share(omicron, "shared", "xis")
        await world.until(lambda: bool(xi.node.foreign_agents.infos()), 30.0, what="xi knows what its contact shares")
        await pi.start(await xi.invite())
        await pi.run_agent("Echo", "ours")
        await world.until(lambda: xi.knows_agent("ours"), what="xi knows its own")
        for strategy in ("", *Strategy):
            assert (await call(xi, "custom:echo", 1, strategy=strategy)).node == pi.node.key.public
        await pi.stop()
        await world.until(lambda: not xi.knows_agent("ours"), 30.0, what="ours is away")
        assert (await call(xi, "custom:echo", 1)).node == omicron.node.key.public
        await omicron.stop()
        assert (await call(xi, "custom:echo", 1)).node == beta.node.key.public
        assert await refusal(xi, "custom:echo", 1, reach="contacts") in (Code.NO_CANDIDATE, Code.UNKNOWN_CAPABILITY)


@simulated
@pytest.mark.parametrize("strategy", Strategy)
async def test_every_strategy_chooses_among_the_nodes_that_speak_for_circles(strategy: Strategy) -> None:
    async with two_speakers(f"circle-strategy-{strategy}", "Uneven") as (_, _, _, xi):
        done = [unpack((await call(xi, "custom:uneven", ["", 0], strategy=strategy, priority=9)).payload or b"") for _ in range(8)]
        if strategy is Strategy.ROUND_ROBIN:
            assert sorted(done) == ["beta"] * 4 + ["gamma"] * 4
        assert set(done) <= {"beta", "gamma"}
        assert xi.node.dispatcher.choices[strategy] == 8


@simulated
async def test_without_a_strategy_the_circle_with_the_better_name_then_the_roomier_one_is_used_up_first() -> None:
    async with apart("circle-merit") as (world, _, beta, xi):
        omicron = world.machine("omicron")
        omicron.bootstrap = (f"{world.network.number_of('beta')}:7422",)
        await omicron.start()
        await create(omicron, "roomy", callable_by="anyone", open=True)
        for name in ("one", "two"):
            await join_in(world, omicron, "roomy", "Echo", name)
        await world.until(lambda: bool(omicron.node.explorer.dht_address), what="omicron's DHT is open")
        await found(world, xi, "custom:echo", speakers=2)
        theirs, smaller = omicron.node.circles.named("roomy").id, beta.node.circles.named("big").id
        await world.until(lambda: _room(xi, theirs) == 2, 60.0, what="both are available")
        assert (await xi.ask("circle.list", CircleQuery("custom:echo"))).first == theirs.hex()
        assert (await call(xi, "custom:echo", 1)).node == omicron.node.key.public
        for _ in range(3):
            xi.node.dispatcher.reputation.note(f"circle:{theirs.hex()}", Deed.FAILURE, now_ms=xi.clock.now_ms())
        assert (await xi.ask("circle.list", CircleQuery("custom:echo"))).first == smaller.hex()
        assert (await call(xi, "custom:echo", 1)).node == beta.node.key.public
        beta.kill()
        assert (await call(xi, "custom:echo", 1)).node == omicron.node.key.public, "and then the other one"


def _room(machine: Machine, identity: bytes) -> int:
    known = machine.node.circles.router.discovered(identity, now_ms=machine.clock.now_ms())
    if known is not None and known.announcement.available_count < 2:
        machine.node.explorer._searched.clear()
        machine.node.spawn(machine.node.explorer.search(query="custom:echo"))
    return known.announcement.available_count if known is not None else 0


@simulated
async def test_attributes_that_are_asked_for_are_known_to_the_circle() -> None:
    async with apart("circle-where") as (world, _, beta, xi):
        await found(world, xi, "custom:echo")
        assert await refusal(xi, "custom:echo", 1, where={"quality": "fine"}) == Code.UNKNOWN_CAPABILITY
        fine = await join_in(world, beta, "big", "Fine")
        for _ in range(4):
            assert (await call(xi, "custom:echo", 1, where={"quality": "f*"})).completed_by == fine


# --- how it is done -------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_slow_node_that_speaks_for_a_circle_is_hedged_with_another() -> None:
    async with two_speakers("circle-hedge", "Uneven") as (_, _, _, xi):
        loop = asyncio.get_running_loop()
        for _ in range(4):
            began = loop.time()
            done = await call(xi, "custom:uneven", ["beta", 5.0], hedge=True, strategy="round-robin")
            assert unpack(done.payload or b"") == "gamma"
            assert loop.time() - began < 2.0
        assert xi.node.dispatcher.hedges["won"] == 4


@simulated
@pytest.mark.parametrize("dies", ["agent", "node"])
async def test_a_stream_that_is_cut_after_its_first_part_begins_anew_in_the_circle(dies: str) -> None:
    async with two_speakers(f"circle-anew-{dies}", "Count") as (world, beta, gamma, xi):
        for restart in (False, True):
            before = len(world.witness.runs)
            under_way = asyncio.ensure_future(streamed(xi, "custom:count", 20, restart=restart))
            await world.until(lambda before=before: len(world.witness.runs) > before, what="somebody has begun")  # type: ignore[misc]
            await asyncio.sleep(0.5)
            (run,) = list(world.witness.runs.values())[-1]
            host = beta if run.node == "beta" else gamma
            if dies == "node":
                host.crash()
            else:
                host.executor.workers()[-1].kill()
            if not restart:
                with pytest.raises(SkerryError) as caught:
                    await under_way
                assert caught.value.code == Code.STREAM_INTERRUPTED
                if dies == "node":
                    await host.start()
                await world.until(lambda: _counters(beta) + _counters(gamma) == 2, 60.0, what="both count again")
                continue
            parts, last = await under_way
            assert RESTARTED in parts
            assert [unpack(part) for part in parts[parts.index(RESTARTED) + 1 :]] == list(range(20))
            assert last.receipt is not None, "what was signed is the stream that counts"


def _counters(machine: Machine) -> int:
    ours = [one for local in machine.node.circles.router.local_circles() for one in local.members if one.node == machine.key.public]
    return sum(one.offers("custom:count") and one.status == "available" for one in ours)


@simulated
async def test_what_a_member_did_is_signed_for_whoever_asked() -> None:
    async with apart("circle-signed") as (world, alpha, beta, xi):
        ids = {machine: await join_in(world, machine, "big", "Count") for machine in (alpha, beta)}
        await found(world, xi, "custom:count", speakers=2)
        seen = set()
        for _ in range(6):
            done = await call(xi, "custom:count", 0, strategy="round-robin")
            assert done.receipt is not None
            assert done.payload is not None
            receipt = read_receipt(done.receipt)
            assert receipt.agent in ids.values()
            assert (receipt.task, receipt.requester, receipt.agent) == (done.task_id, xi.node.key.public, done.completed_by)
            assert receipt.result == digest(done.payload)
            seen.add(receipt.agent)
        assert seen == set(ids.values())
        parts, last = await streamed(xi, "custom:count", 3)
        signed = PartsDigest()
        for part in parts:
            signed.add(part)
        assert last.receipt is not None
        assert read_receipt(last.receipt).result == signed.digest()


@simulated
async def test_a_circle_whose_results_are_not_signed_is_not_believed_and_its_node_pays() -> None:
    async with apart("circle-unsigned") as (world, _, beta, xi):
        await found(world, xi, "custom:echo")
        honest = beta.node.tasks.run

        async def unsigned(task: Any, *, timeout_s: float) -> TaskResult:
            result = await honest(task, timeout_s=timeout_s)
            return replace(result, receipt=None)

        beta.node.dispatcher._check_receipt = lambda *_, **__: None  # type: ignore[method-assign]
        beta.node.tasks.run = unsigned  # type: ignore[method-assign]
        assert await refusal(xi, "custom:echo", 1) == Code.BAD_SIGNATURE
        now_ms = xi.clock.now_ms()
        assert xi.node.dispatcher.reputation.score(NODE + beta.node.key.public.hex(), now_ms=now_ms) == pytest.approx(1 / 6, rel=0.01)


@simulated
async def test_agents_of_two_formations_that_wait_for_each_other_in_circles_are_told_so() -> None:
    async with apart("circle-ring") as (world, _, beta, xi):
        ours = await join_in(world, beta, "big", "Roam")
        await create(xi, "far", callable_by="anyone", open=True)
        await join_in(world, xi, "far", "Roam")
        await found(world, xi, "custom:roam")
        await found(world, beta, "custom:roam")
        loop = asyncio.get_running_loop()
        began = loop.time()
        ring: Any = ["custom:echo", 1]
        for _ in range(3):
            ring = ["custom:roam", ring]
        with pytest.raises(SkerryError, match="waits for this very task"):
            await call(beta, "custom:roam", ring, agent=ours)
        assert loop.time() - began < 6.0, "nobody waited for itself until the deadline"
        chain = [f"{number:064x}" for number in range(16)]
        with pytest.raises(SkerryError) as caught:
            await xi.within(lambda node: node.dispatcher.call(Request("custom:echo", pack(1), reach="public"), timeout_s=5.0, chain=chain))
        assert caught.value.code == Code.HOP_LIMIT


@simulated
async def test_where_nobody_can_be_reached_anywhere_a_call_ends_within_five_seconds() -> None:
    async with apart("circle-silence") as (world, _, beta, xi):
        pi = world.machine("pi")
        await pi.start(await xi.invite())
        await pi.run_agent("Echo")
        await world.until(lambda: xi.knows_agent("echo"), what="xi knows its own")
        await found(world, xi, "custom:echo")
        pi.crash()
        beta.crash()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await refusal(xi, "custom:echo", 1) == Code.NO_CANDIDATE
        assert loop.time() - began < 5.0
        began = loop.time()
        assert await refusal(xi, "custom:nobody", 1) == Code.UNKNOWN_CAPABILITY
        assert loop.time() - began < 5.0


# --- what is thought of it ------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_circle_is_scored_blacklisted_shown_and_forgiven() -> None:
    async with apart("circle-scored") as (world, _, beta, xi):
        await join_in(world, beta, "big", "Fail")
        await found(world, xi, "custom:fail")
        identity, scores = beta.node.circles.named("big").id, xi.node.dispatcher.reputation
        assert scores.get_circle_reputation(identity, now_ms=xi.clock.now_ms()) is None
        await call(xi, "custom:echo", 1)
        ((best, score),) = scores.top_circles(1, now_ms=xi.clock.now_ms())
        assert best == identity
        assert score == pytest.approx(2 / 3, rel=0.01)
        for _ in range(7):
            assert await refusal(xi, "custom:fail") == Code.TASK_FAILED
        scores.record_circle_task(identity, TaskRecord(Deed.FAILURE), now_ms=xi.clock.now_ms())
        assert scores.blacklisted_circles(now_ms=xi.clock.now_ms()) == [identity]
        assert len(beta.node.dispatcher.reputation) == 0, "what strangers ask says nothing of its agents to the node that hands it on"
        asked = len(world.witness.runs)
        for strategy in ("", *Strategy):
            assert await refusal(xi, "custom:echo", 1, strategy=strategy) == Code.BLACKLISTED
        assert len(world.witness.runs) == asked
        listed: ScoreList = await xi.ask("reputation.list", ScoreQuery())
        assert [(one.name, one.blacklisted) for one in listed.scores if one.kind == "circle"] == [("big", True)]
        for name in ("big", identity.hex(), identity.hex()[:8]):
            info: CircleInfo = await xi.ask("circle.show", CircleName(name))
            assert (info.id, info.blacklisted) == (identity.hex(), True)
            assert info.reputation is not None
            assert info.reputation < 0.2
        said = await xi.within(_status)
        assert said.routing is not None
        assert (said.routing.blacklisted, said.circles.discovered_circle_count, said.circles.discovered_capacity) == (1, 1, 2)
        forgiven: CircleInfo = await xi.ask("circle.forgive", CircleName("big"))
        assert forgiven.reputation is None
        assert unpack((await call(xi, "custom:echo", "again")).payload or b"") == "again"
        theirs = await beta.within(_status)
        assert theirs.routing is not None
        assert (theirs.routing.circle_count, theirs.circles.local_circle_count) == (1, 1)


async def _status(node: Node) -> Any:
    return status(node)


@simulated
async def test_a_circle_that_says_somebody_is_available_and_has_nobody_pays_for_it() -> None:
    async with apart("circle-hollow") as (world, _, beta, xi):
        await found(world, xi, "custom:echo")
        identity = beta.node.circles.named("big").id

        async def nobody(*_: Any, **__: Any) -> TaskResult:
            raise Unreachable("none of them is there", code=Code.NO_CANDIDATE)

        beta.node.dispatcher.call = nobody  # type: ignore[method-assign]
        assert await refusal(xi, "custom:echo", 1) == Code.NO_CANDIDATE
        score = xi.node.dispatcher.reputation.get_circle_reputation(identity, now_ms=xi.clock.now_ms())
        assert score == pytest.approx(1 / 3, rel=0.01)
