"""Having a task done: choosing, failing over where that is safe, and ending in time with one outcome."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.codec import pack
from skerry.identity.keys import KeyPair, agent_id
from skerry.routing.dispatch import RUN_VERB
from skerry.routing.pool import Candidate
from skerry.routing.strategies import Strategy
from skerry.routing.task import HOPS_MAX, RESTARTED, Request, TaskResult
from skerry.routing.trial import REACH_S
from tests.support import async_poll_until
from tests.support.dispatching import FAR_OFF_MS, Mesh, outcome
from tests.support.links import simulated

# --- who does it ----------------------------------------------------------------------------------------------------------------------


@simulated
async def test_one_that_offers_it_does_it() -> None:
    mesh = await Mesh().open(("beta", False))
    done = await mesh.call()
    assert done.success
    assert done.node == mesh.beta.id
    task = mesh.nodes["beta"].tasks[0]
    assert (task.requester, task.capability, task.agent) == (mesh.alpha.id, "web", "agent-beta")
    assert mesh.ended == ["ok"]


@simulated
async def test_our_own_agents_come_first() -> None:
    mesh = await Mesh().open(("beta", True), ("alpha", True))
    assert (await mesh.call()).node == mesh.alpha.id
    assert mesh.asked() == {"beta": 0, "gamma": 0}


@simulated
async def test_an_agent_can_be_named_by_name_or_id() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    for agent in ("gammas", "agent-gamma"):
        assert (await mesh.call(agent=agent)).node == mesh.gamma.id
    with pytest.raises(Refused, match="'nobody'"):
        await mesh.call(agent="nobody")


@simulated
async def test_what_nobody_offers_is_refused_with_the_closest_name() -> None:
    mesh = await Mesh().open(("beta", True))
    mesh.catalogue.set(mesh.beta.id, "x", [Candidate("x", "x", mesh.beta.id, "custom:greet", True, FAR_OFF_MS)])
    with pytest.raises(Refused) as caught:
        await mesh.call(capability="custom:great")
    assert caught.value.code == Code.UNKNOWN_CAPABILITY
    assert "custom:greet" in caught.value.hint
    mesh.outsiders.add(mesh.beta.id)
    assert (await outcome(mesh)).code == Code.UNKNOWN_CAPABILITY, "who does not belong is not asked"


# --- failing over -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [Code.BUSY, Code.UNKNOWN_AGENT, Code.SHUTTING_DOWN, Code.UNKNOWN_CAPABILITY])
@simulated
async def test_what_was_never_started_is_tried_elsewhere(code: str) -> None:
    mesh = await Mesh().open(("beta", False), ("gamma", False))
    mesh.prefer("beta", "gamma")
    mesh.nodes["beta"].does = [code]
    assert (await mesh.call()).node == mesh.gamma.id
    assert mesh.asked() == {"beta": 1, "gamma": 1}


@simulated
async def test_a_cut_connection_is_tried_elsewhere_only_where_twice_does_no_harm() -> None:
    for idempotent in (True, False):
        mesh = await Mesh().open(("beta", idempotent), ("gamma", idempotent))
        mesh.prefer("beta", "gamma")
        mesh.nodes["beta"].does = ["lost"]
        if idempotent:
            assert (await mesh.call()).node == mesh.gamma.id
        else:
            error = await outcome(mesh)
            assert isinstance(error, Unreachable)
            assert error.outcome_unknown
            assert mesh.asked() == {"beta": 1, "gamma": 0}


@simulated
async def test_a_task_that_failed_has_its_outcome() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    mesh.prefer("beta", "gamma")
    mesh.nodes["beta"].does = ["failed:task_failed"]
    done = await mesh.call()
    assert not done.success
    assert mesh.asked() == {"beta": 1, "gamma": 0}
    assert mesh.ended == ["task_failed"]


@simulated
async def test_a_node_that_nobody_can_reach_is_passed_over_and_then_asked_last() -> None:
    mesh = await Mesh().open(("beta", False), ("gamma", False))
    mesh.prefer("beta", "gamma")
    mesh.world.network.kill("beta")
    assert (await mesh.call()).node == mesh.gamma.id
    assert mesh.dispatcher.silent.has(mesh.beta.id, now_s=asyncio.get_running_loop().time())


@pytest.mark.parametrize("idempotent", [True, False])
@simulated
async def test_where_nobody_can_be_reached_it_ends_within_5_seconds(idempotent: bool) -> None:
    mesh = await Mesh().open(("beta", idempotent), ("gamma", idempotent))
    mesh.world.network.crash("beta")
    mesh.world.network.crash("gamma")
    loop = asyncio.get_running_loop()
    started = loop.time()
    error = await outcome(mesh, timeout_s=60)
    assert loop.time() - started <= 5.0
    assert loop.time() - started >= REACH_S - 0.1
    assert isinstance(error, Unreachable)
    assert error.code == Code.NO_CANDIDATE
    assert not error.outcome_unknown


@simulated
async def test_a_node_that_dies_while_it_works_ends_the_call_within_5_seconds() -> None:
    mesh = await Mesh().open(("beta", False))
    mesh.nodes["beta"].does = ["never"]
    call = asyncio.create_task(outcome(mesh, timeout_s=60))
    await async_poll_until(lambda: mesh.nodes["beta"].tasks)
    loop = asyncio.get_running_loop()
    mesh.world.network.crash("beta")
    started = loop.time()
    error = await call
    assert loop.time() - started <= 5.0
    assert isinstance(error, Unreachable)
    assert error.outcome_unknown


@simulated
async def test_when_all_are_busy_it_says_so() -> None:
    mesh = await Mesh().open(("beta", False), ("gamma", False))
    for node in mesh.nodes.values():
        node.does = ["busy"]
    error = await outcome(mesh)
    assert error.code == Code.BUSY
    assert mesh.asked() == {"beta": 1, "gamma": 1}


@simulated
async def test_one_refusal_of_the_only_one_is_told_as_it_is() -> None:
    mesh = await Mesh().open(("beta", False))
    mesh.nodes["beta"].does = ["a_new_code"]
    assert (await outcome(mesh)).code == "a_new_code"


@simulated
async def test_a_deadline_ends_it() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    for node in mesh.nodes.values():
        node.does = ["never"]
    loop = asyncio.get_running_loop()
    started = loop.time()
    error = await outcome(mesh, timeout_s=2.0)
    assert error.code == Code.DEADLINE_EXCEEDED
    assert loop.time() - started < 2.2
    await async_poll_until(lambda: sum(node.cancelled.count(RUN_VERB) for node in mesh.nodes.values()) == sum(mesh.asked().values()))


@simulated
async def test_a_node_runs_one_id_once_so_another_agent_there_gets_another() -> None:
    mesh = await Mesh().open()
    for agent in ("one", "two"):
        mesh.offer("beta", idempotent=True, agent=agent)
    mesh.nodes["beta"].does = ["lost"]
    await outcome(mesh)
    ids = [task.id for task in mesh.nodes["beta"].tasks]
    assert len(ids) == len(set(ids)) == 2


# --- streams --------------------------------------------------------------------------------------------------------------------------


async def streamed(mesh: Mesh, *, restart: bool = False) -> list[object]:
    return [item async for item in mesh.dispatcher.stream(Request("web", pack("x"), restart=restart), timeout_s=30)]


@simulated
async def test_a_stream_brings_its_parts_and_its_result() -> None:
    mesh = await Mesh().open(("beta", False))
    mesh.nodes["beta"].does = ["parts:3", "ok"]
    *parts, last = await streamed(mesh)
    assert parts == [pack(number) for number in range(3)]
    assert isinstance(last, TaskResult)
    assert last.success


@simulated
async def test_a_stream_of_our_own() -> None:
    mesh = await Mesh().open(("alpha", False))
    *parts, last = await streamed(mesh)
    assert len(parts) == 3
    assert isinstance(last, TaskResult)


@simulated
async def test_a_stream_fails_over_before_its_first_part_and_never_after() -> None:
    for does, asked in ((["lost"], 1), (["busy"], 1), (["parts:2", "lost"], 0)):
        mesh = await Mesh().open(("beta", True), ("gamma", True))
        mesh.prefer("beta", "gamma")
        mesh.nodes["beta"].does = does
        mesh.nodes["gamma"].does = ["parts:2", "ok"]
        if asked:
            assert len(await streamed(mesh)) == 3
        else:
            with pytest.raises(Refused) as caught:
                await streamed(mesh)
            assert caught.value.code == Code.STREAM_INTERRUPTED
        assert mesh.asked()["gamma"] == asked


@simulated
async def test_who_stops_reading_ends_the_work() -> None:
    mesh = await Mesh().open(("beta", False))
    mesh.nodes["beta"].does = ["parts:1000", "ok"]
    stream = mesh.dispatcher.stream(Request("web", pack("x")), timeout_s=30)
    assert await anext(stream) == pack(0)
    await stream.aclose()  # type: ignore[attr-defined]
    await async_poll_until(lambda: mesh.nodes["beta"].cancelled == [RUN_VERB])


@simulated
async def test_a_stream_that_may_restart_begins_anew_at_another_agent_and_says_so() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    mesh.prefer("beta", "gamma")
    mesh.nodes["beta"].does = ["parts:2", "lost"]
    mesh.nodes["gamma"].does = ["parts:3", "ok"]
    *items, last = await streamed(mesh, restart=True)
    assert items == [pack(0), pack(1), RESTARTED, pack(0), pack(1), pack(2)]
    assert isinstance(last, TaskResult)
    assert last.success
    assert mesh.dispatcher.restarts == 1


@simulated
async def test_a_stream_that_may_be_done_once_alone_does_not_restart() -> None:
    mesh = await Mesh().open(("beta", False), ("gamma", False))
    mesh.prefer("beta", "gamma")
    mesh.nodes["beta"].does = ["parts:2", "lost"]
    with pytest.raises(Refused) as caught:
        await streamed(mesh, restart=True)
    assert caught.value.code == Code.STREAM_INTERRUPTED
    assert mesh.asked()["gamma"] == 0


# --- wishes -----------------------------------------------------------------------------------------------------------------------------


@simulated
async def test_round_robin_turns_in_the_node_whoever_asks() -> None:
    mesh = await Mesh().open(("alpha", True), ("beta", True), ("gamma", True))
    nodes = [(await mesh.call(strategy="round-robin")).node for _ in range(6)]
    assert nodes == [mesh.alpha.id, mesh.beta.id, mesh.gamma.id] * 2
    assert mesh.dispatcher.choices["round-robin"] == 6


@simulated
async def test_a_strategy_that_is_none_is_refused() -> None:
    mesh = await Mesh().open(("beta", True))
    error = await outcome(mesh, strategy="fastest")
    assert error.code == Code.BAD_INPUT
    assert "round-robin" in error.hint


@simulated
async def test_the_node_has_a_strategy_of_its_own() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    mesh.dispatcher.strategy = Strategy.ROUND_ROBIN
    assert [(await mesh.call()).node for _ in range(4)] == [mesh.beta.id, mesh.gamma.id] * 2


@simulated
async def test_attributes_are_asked_for_and_what_there_is_is_told() -> None:
    mesh = await Mesh().open(("beta", True))
    one = Candidate("x", "x", mesh.gamma.id, "web", True, FAR_OFF_MS, attributes={"quantization": "Q4_K_M"})
    mesh.catalogue.set(mesh.gamma.id, "x", [one])
    for _ in range(5):
        assert (await mesh.call(where={"quantization": "q4*"})).node == mesh.gamma.id
    error = await outcome(mesh, where={"quantization": "Q8"})
    assert error.code == Code.UNKNOWN_CAPABILITY
    assert "quantization=Q8" in error.message
    assert "quantization=Q4_K_M" in error.hint


@simulated
async def test_a_slow_first_agent_is_hedged_and_told_to_stop() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    mesh.prefer("beta", "gamma")
    slow, quick = mesh.nodes["beta"], mesh.nodes["gamma"]
    slow.does, quick.does = ["never"], ["slow:0.01"]
    mesh.catalogue.pool_of("betas", "web").options[0].latency.value_s = 0.05  # type: ignore[union-attr]
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert (await mesh.call(hedge=True)).node == mesh.gamma.id
    assert loop.time() - started < 0.3
    assert mesh.dispatcher.hedges == {"won": 1}
    await async_poll_until(lambda: slow.cancelled == [RUN_VERB])
    assert len({task.id for node in (slow, quick) for task in node.tasks}) <= 2


@simulated
async def test_a_quick_first_agent_is_not_hedged() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    mesh.prefer("beta", "gamma")
    assert (await mesh.call(hedge=True)).node == mesh.beta.id
    assert sum(mesh.asked().values()) == 1
    assert mesh.dispatcher.hedges == {}


@simulated
async def test_what_may_be_done_once_alone_is_never_hedged() -> None:
    mesh = await Mesh().open(("beta", False), ("gamma", False))
    mesh.prefer("beta", "gamma")
    mesh.nodes["beta"].does = ["slow:5"]
    assert (await mesh.call(hedge=True)).node == mesh.beta.id
    assert mesh.asked() == {"beta": 1, "gamma": 0}


@simulated
async def test_a_hedged_task_outlives_either_of_its_agents() -> None:
    for first, second in ((["lost"], ["slow:2"]), (["slow:2"], ["lost"])):
        mesh = await Mesh().open(("beta", True), ("gamma", True))
        mesh.prefer("beta", "gamma")
        for option in mesh.catalogue.options("web"):
            option.latency.value_s = 0.02 if option.provider.node == mesh.beta.id else 0.03
        mesh.nodes["beta"].does, mesh.nodes["gamma"].does = first, second
        assert (await mesh.call(hedge=True)).success


@simulated
async def test_fix_max_latency_ms_is_obeyed() -> None:
    mesh = await Mesh().open(("beta", True))
    mesh.nodes["beta"].does = ["slow:5"]
    assert (await outcome(mesh, max_latency_ms=200)).code == Code.DEADLINE_EXCEEDED


@simulated
async def test_when_all_are_busy_it_says_when_to_ask_again() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    mesh.nodes["beta"].does, mesh.nodes["gamma"].does = ["busy-for:7.5"], ["busy-for:2.5"]
    error = await outcome(mesh)
    assert (error.code, error.retry_after_s) == (Code.BUSY, 2.5)
    assert "2.5 s" in error.hint


# --- what this node makes of them ---------------------------------------------------------------------------------------------------------


@simulated
async def test_fix_blacklisted_targets_are_never_chosen_while_others_exist() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    mesh.nodes["beta"].does = ["failed:task_failed"]
    for _ in range(5):
        await mesh.call(agent="betas")
    for strategy in Strategy:
        for _ in range(5):
            assert (await mesh.call(strategy=strategy)).node == mesh.gamma.id


@simulated
async def test_where_all_are_blacklisted_it_says_so_and_one_that_is_named_is_asked() -> None:
    mesh = await Mesh().open(("beta", True))
    mesh.nodes["beta"].does = ["failed:task_failed"]
    for _ in range(5):
        await mesh.call()
    error = await outcome(mesh)
    assert error.code == Code.BLACKLISTED
    assert "betas" in error.message
    assert "forgive" in error.hint
    mesh.nodes["beta"].does = ["ok"]
    assert (await mesh.call(agent="betas")).success
    mesh.dispatcher.reputation.forgive("agent:agent-beta")
    assert (await mesh.call()).success


@pytest.mark.parametrize("does", ["busy", "bad_payload", "failed:bad_payload", "unknown_agent"])
@simulated
async def test_what_is_not_its_fault_costs_an_agent_nothing(does: str) -> None:
    mesh = await Mesh().open(("beta", False))
    mesh.nodes["beta"].does = [does]
    with contextlib.suppress(SkerryError):
        await mesh.call()
    assert mesh.asked()["beta"] == 1
    assert len(mesh.dispatcher.reputation) == 0


@simulated
async def test_a_time_out_costs_half_a_failure_where_the_agent_had_a_second() -> None:
    mesh = await Mesh().open(("beta", False))
    mesh.nodes["beta"].does = ["never"]
    scores = mesh.dispatcher.reputation
    await outcome(mesh, timeout_s=0.5)
    assert len(scores) == 0
    await outcome(mesh, timeout_s=1.5)
    assert scores.score("agent:agent-beta", now_ms=mesh.dispatcher.clock.now_ms()) == pytest.approx(1 / 2.5)


@simulated
async def test_a_success_is_measured_and_scored() -> None:
    mesh = await Mesh().open(("beta", False))
    mesh.nodes["beta"].does = ["slow:0.25"]
    await mesh.call()
    (option,) = mesh.catalogue.options("web")
    assert option.latency.value_s == pytest.approx(0.25, abs=0.05)
    assert option.provider.in_flight == 0
    assert mesh.dispatcher.reputation.score("agent:agent-beta", now_ms=mesh.dispatcher.clock.now_ms()) == pytest.approx(2 / 3)


# --- agents that call agents --------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_task_says_who_waits_for_it_and_those_are_asked_last() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    request = Request("web", pack("x"))
    for _ in range(5):
        await mesh.dispatcher.call(request, timeout_s=5, chain=("agent-beta",))
    assert mesh.asked() == {"beta": 0, "gamma": 5}
    assert mesh.nodes["gamma"].tasks[0].chain == ["agent-beta"]
    mesh.nodes["gamma"].does = ["call_cycle"]
    assert (await mesh.dispatcher.call(request, timeout_s=5, chain=("agent-gamma",))).node == mesh.beta.id
    assert (await mesh.dispatcher.call(request, timeout_s=5, chain=("agent-beta", "agent-gamma"))).node == mesh.beta.id


@simulated
async def test_who_calls_for_ever_is_stopped() -> None:
    mesh = await Mesh().open(("beta", True))
    with pytest.raises(Refused) as caught:
        await mesh.dispatcher.call(Request("web", pack("x")), timeout_s=5, chain=["agent"] * HOPS_MAX)
    assert caught.value.code == Code.HOP_LIMIT
    assert mesh.asked()["beta"] == 0


@simulated
async def test_a_result_without_its_receipt_costs_the_node_that_sent_it_four_failures() -> None:
    mesh = await Mesh().open(("beta", True))
    error = await outcome(mesh, receipt=True)
    assert error.code == Code.BAD_SIGNATURE
    scores, now_ms = mesh.dispatcher.reputation, mesh.dispatcher.clock.now_ms()
    assert scores.score(f"node:{mesh.beta.id.hex()}", now_ms=now_ms) == pytest.approx(1 / 6)
    assert scores.get("agent:agent-beta", now_ms=now_ms) is None


@pytest.mark.parametrize("hedge", [False, True])
@simulated
async def test_a_result_signed_by_someone_else_is_refused_and_not_tried_elsewhere(hedge: bool) -> None:
    """Whoever answers with somebody else's signature had the task: it may be done."""
    mesh = await Mesh().open()
    theirs, other = KeyPair.from_seed(b"t" * 32), KeyPair.from_seed(b"o" * 32)
    for name in ("beta", "gamma"):
        mesh.offer(name, idempotent=True, agent=agent_id(theirs.public))
    mesh.prefer("beta", "gamma")
    mesh.nodes["beta"].key, mesh.nodes["gamma"].key = other, theirs
    error = await outcome(mesh, receipt=True, hedge=hedge)
    assert error.code == Code.BAD_SIGNATURE
    assert "not signed by the agent that it names" in error.message or "another task" in error.message
    assert "don't trust" in error.hint
    assert mesh.asked() == {"beta": 1, "gamma": 0}
    scores, now_ms = mesh.dispatcher.reputation, mesh.dispatcher.clock.now_ms()
    assert scores.score(f"node:{mesh.beta.id.hex()}", now_ms=now_ms) == pytest.approx(1 / 6)
    assert mesh.dispatcher.reputation.get(f"node:{mesh.gamma.id.hex()}", now_ms=now_ms) is None
    mesh.nodes["beta"].key = theirs
    assert (await mesh.call(receipt=True)).receipt is not None


@simulated
async def test_a_stream_signed_by_someone_else_ends_as_what_it_is() -> None:
    mesh = await Mesh().open(("beta", True), ("gamma", True))
    mesh.prefer("beta", "gamma")
    mesh.nodes["beta"].does = ["parts:2", "ok"]
    items = mesh.dispatcher.stream(Request("web", pack("x"), receipt=True, restart=True), timeout_s=30)
    assert [await anext(items), await anext(items)] == [pack(0), pack(1)]
    with pytest.raises(SkerryError) as caught:
        await anext(items)
    assert caught.value.code == Code.BAD_SIGNATURE, "not as interrupted: who has heard it all should not ask again there"
    assert mesh.asked() == {"beta": 1, "gamma": 0}
