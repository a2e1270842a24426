"""What can't be done is said by whole nodes with its code, the reason and what to do.

Blacklisted agents stand in tests/e2e/test_strategies.py, results that somebody else signed in tests/unit/routing/test_dispatch.py, and
values beyond 256 MiB in tests/unit/channel/test_link.py.
"""

from __future__ import annotations

import asyncio

import pytest

from skerry.agents.resident import QUEUE_MAX
from skerry.agents.verbs import AgentName
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.codec import pack
from skerry.node.node import Node
from skerry.routing.ledger import REMEMBER_MS
from skerry.routing.task import Task, TaskResult, new_task_id
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.links import simulated


async def refusal(machine: Machine, capability: str, payload: object = None) -> SkerryError:
    with pytest.raises(SkerryError) as caught:
        await machine.call(capability, payload)
    return caught.value


@simulated
async def test_an_unknown_capability_is_refused_with_the_closest_known_names() -> None:
    world = World("bad-unknown")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Count")
    await world.until(lambda: alpha.knows_agent("count"))
    error = await refusal(alpha, "custom:cuont")
    assert (error.code, error.hint) == (Code.UNKNOWN_CAPABILITY, "did you mean custom:count?")
    assert "'custom:cuont'" in error.message
    far = await refusal(alpha, "inference:qwertz")
    assert (far.code, far.hint) == (Code.UNKNOWN_CAPABILITY, "`skerry capability list` shows what there is")
    assert (await refusal(alpha, "no such thing")).code == Code.BAD_INPUT, "what is no capability at all"
    await world.close()


@simulated
async def test_where_no_agent_is_available_it_says_why_of_each() -> None:
    world = World("bad-unavailable")
    alpha, beta, gamma = await world.formation(3)
    for machine in (beta, gamma):
        await machine.run_agent("Echo")
    await world.until(lambda: len(alpha.node.catalogue.find("custom:echo")) == 2)
    await beta.ask("agent.pause", AgentName("echo"))
    await gamma.stop()
    await world.until(lambda: not alpha.node.catalogue.find("custom:echo"), 60.0)
    error = await refusal(alpha, "custom:echo", 1)
    assert error.code == Code.NOT_AVAILABLE
    assert "echo on beta is paused" in error.message
    assert "echo is on gamma, which is away" in error.message
    assert "agent resume" in error.hint
    await beta.ask("agent.resume", AgentName("echo"))
    await world.until(lambda: alpha.node.catalogue.find("custom:echo"), 60.0)
    assert await alpha.call("custom:echo", 1) == 1
    await world.close()


@simulated
async def test_where_all_are_busy_it_says_when_to_ask_again() -> None:
    world = World("bad-busy")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Job")
    await world.until(lambda: alpha.knows_agent("job"))
    assert await alpha.call("custom:job", 0.5) == 0.5
    waiting = [asyncio.ensure_future(alpha.call("custom:job", 60.0, timeout_s=300.0)) for _ in range(QUEUE_MAX)]
    await asyncio.sleep(1.0)
    error = await refusal(alpha, "custom:job", 1)
    assert error.code == Code.BUSY
    assert error.retry_after_s > 0
    assert "try again" in error.hint
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(1.0)
    assert await alpha.call("custom:job", 0.5) == 0.5
    await world.close()


@simulated
async def test_a_stale_task_id_is_refused_and_never_run_again() -> None:
    world = World("bad-stale")
    alpha, beta = await world.formation(2)
    info = await beta.run_agent("Once")
    await world.until(lambda: alpha.knows_agent("once"))
    requester = alpha.key.public
    task = Task(new_task_id(requester, b"n" * 16), "custom:once", info.id, pack(1), requester, alpha.clock.now_ms())

    async def run(node: Node) -> TaskResult:
        link = node.links.get(beta.key.public)
        assert link is not None
        return TaskResult.from_bytes(await link.call("task.run", task.to_bytes(), timeout_s=5.0))

    first = await alpha.within(run)
    assert await alpha.within(run) == first, "while it is remembered"
    await asyncio.sleep(REMEMBER_MS / 1000 + 60)
    with pytest.raises(Refused) as caught:
        await alpha.within(run)
    assert caught.value.code == Code.STALE_TASK
    assert "more than it remembers" in caught.value.message
    assert "ask anew" in caught.value.hint
    assert len(world.witness.runs[task.id]) == 1
    assert await alpha.call("custom:once", 2) == 2, "another one is done"
    await world.close()
