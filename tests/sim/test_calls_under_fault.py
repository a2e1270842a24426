"""Calls while things break: each ends once, in time, and what may have been done is said."""

from __future__ import annotations

import asyncio

import pytest

from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.sim.link import Link
from skerry.sim.world import World
from tests.support.links import simulated

LARGE_BYTES = 30 * 1024 * 1024
UNREACHED_S = 5.0  # SPEC 3
CROWD = 100  # more tasks than an agent has places for


@simulated
async def test_a_node_that_dies_in_the_middle_of_an_idempotent_task_is_replaced() -> None:
    world = World("failover")
    alpha, beta, gamma = await world.formation(3)
    for machine in (beta, gamma):
        await machine.run_agent("Slow")
    await world.until(lambda: len(alpha.node.catalogue.find("custom:slow")) == 2)
    call = world.loop.create_task(alpha.call("custom:slow", 3, timeout_s=20))
    await world.until(lambda: world.witness.runs)
    ((run,),) = world.witness.runs.values()
    world.machines[run.node].kill()
    assert await call == 3
    ((first, second),) = world.witness.runs.values()
    assert {first.node, second.node} == {"beta", "gamma"}
    await world.close()


@simulated
async def test_a_task_that_may_be_done_once_is_not_repeated_and_its_caller_is_told() -> None:
    world = World("once")
    alpha, beta, gamma = await world.formation(3)
    for machine in (beta, gamma):
        await machine.run_agent("Job")
    await world.until(lambda: len(alpha.node.catalogue.find("custom:job")) == 2)
    call = world.loop.create_task(alpha.call("custom:job", 3, timeout_s=20))
    await world.until(lambda: world.witness.runs)
    ((run,),) = world.witness.runs.values()
    world.machines[run.node].kill()
    with pytest.raises(Unreachable) as failed:
        await call
    assert failed.value.outcome_unknown
    await asyncio.sleep(30)
    assert len(world.witness.runs) == 1
    assert [len(runs) for runs in world.witness.runs.values()] == [1]
    await world.close()


@simulated
async def test_what_goes_wrong_in_an_agents_own_call_does_not_start_its_task_anew() -> None:
    """ "Nobody offers that" inside a task is not "this task never started"."""
    world = World("inner")
    alpha, beta, gamma = await world.formation(3)
    for machine in (beta, gamma):
        await machine.run_agent("Relay")
    await world.until(lambda: len(alpha.node.catalogue.find("custom:relay")) == 2)
    with pytest.raises(SkerryError, match="nobody in this formation offers"):
        await alpha.call("custom:relay", ["custom:nobody", 1])
    assert [len(runs) for runs in world.witness.runs.values()] == [1]
    await world.close()


@simulated
async def test_another_agent_of_the_same_node_takes_over_as_a_task_of_its_own() -> None:
    world = World("same-node")
    (alpha,) = await world.formation(1)
    for name in ("one", "two"):
        await alpha.run_agent("Slow", name)
    call = world.loop.create_task(alpha.call("custom:slow", 2, timeout_s=20))
    await world.until(lambda: world.witness.runs)
    ((run,),) = world.witness.runs.values()
    position = [resident.spec.name for resident in alpha.node.host.all()].index(run.agent)
    alpha.executor.workers()[position].kill()
    assert await call == 2
    assert [len(runs) for runs in world.witness.runs.values()] == [1, 1], "a node runs an id once"
    await world.close()


@pytest.mark.parametrize("cut", ["both ways", "one way", "power"])
def test_a_call_whose_only_candidate_is_silent_ends_within_five_seconds(cut: str) -> None:
    @simulated
    async def scene() -> None:
        world = World(f"silent/{cut}")
        alpha, beta = await world.formation(2)
        await beta.run_agent("Echo")
        await world.until(lambda: alpha.knows_agent("echo"))
        if cut == "power":
            beta.crash()
        else:
            world.network.cut("beta", "alpha", one_way=cut == "one way")
        began = world.now_s
        with pytest.raises(Unreachable):
            await alpha.call("custom:echo", 1, timeout_s=60)
        assert world.now_s - began <= UNREACHED_S
        world.heal()
        if cut == "power":
            await beta.start()
        await world.until(lambda: world.is_whole([alpha, beta]), 90.0)
        assert await alpha.call("custom:echo", 2) == 2
        await world.close()

    scene()


@simulated
async def test_a_deadline_counts_the_dial_and_the_queue() -> None:
    world = World("deadline")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Slow")
    await world.until(lambda: alpha.knows_agent("slow"))
    crowd = [world.loop.create_task(beta.call("custom:slow", 30, timeout_s=60)) for _ in range(CROWD)]
    await asyncio.sleep(0.1)
    began = world.now_s
    with pytest.raises(Refused) as failed:
        await beta.call("custom:slow", 1, timeout_s=5)
    assert failed.value.code == Code.DEADLINE_EXCEEDED
    assert world.now_s - began == pytest.approx(5, abs=0.1)
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    await world.close()


@simulated
async def test_thirty_megabytes_arrive_whole_however_reads_are_split() -> None:
    world = World("large", link=Link(split=0.9))
    alpha, beta = await world.formation(2)
    await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    payload = world.random.token(LARGE_BYTES)
    assert await alpha.call("custom:echo", payload, timeout_s=120) == payload
    await world.close()


@simulated
async def test_a_half_open_link_is_found_and_replaced() -> None:
    world = World("half-open")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    await asyncio.sleep(5)
    before = alpha.node.links.get(beta.key.public)
    world.network.reset("beta", "alpha", half_open=True)  # beta knows; alpha is told when it next writes
    await world.until(lambda: alpha.node.links.get(beta.key.public) not in (None, before), 20.0, what="another link is there")
    assert await alpha.call("custom:echo", 1) == 1
    assert await beta.call("custom:echo", 2) == 2
    await world.close()


@simulated
async def test_a_stream_that_is_cut_after_its_first_part_says_so() -> None:
    world = World("stream")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Count")
    await world.until(lambda: alpha.knows_agent("count"))
    stream = world.loop.create_task(alpha.parts("custom:count", 50, timeout_s=30))
    await asyncio.sleep(2)
    beta.kill()
    with pytest.raises(SkerryError) as failed:
        await stream
    assert failed.value.code == Code.STREAM_INTERRUPTED
    await world.close()
