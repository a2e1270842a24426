"""What the systems before this one left out or got wrong in routing, where only whole nodes show it. The other fixes stand beside the
modules that hold them: `grep -r "def test_fix" tests`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.errors import Code, SkerryError
from skerry.identity.codec import pack
from skerry.node import views
from skerry.node.node import Node
from skerry.routing.pool import Candidate
from skerry.routing.receipt import read_receipt
from skerry.routing.task import Request, TaskResult
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.links import simulated

SLOW_MS = 250
SPARE_MS = 100  # of virtual time, for what a network and an idle loop add


async def done(machine: Machine, capability: str, payload: object, *, receipt: bool = False, **more: int) -> TaskResult:
    async def go(node: Node) -> TaskResult:
        request = Request(capability, pack(payload), receipt=receipt, max_latency_ms=more.get("max_latency_ms", 0))
        return await node.dispatcher.call(request, timeout_s=20.0)

    return await machine.within(go)


@simulated
async def test_fix_a_remote_target_is_reached_and_the_task_is_executed_there() -> None:
    world = World("fix-remote")
    alpha, beta = await world.formation(2)
    info = await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    result = await done(alpha, "custom:echo", "hello")
    assert (result.node, result.completed_by, result.payload) == (beta.key.public, info.id, pack("hello"))
    ((run,),) = world.witness.runs.values()
    assert (run.node, run.capability) == ("beta", "custom:echo")
    await world.close()


@simulated
async def test_fix_an_offer_that_expired_is_never_routed_to() -> None:
    world = World("fix-expired")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))

    async def expire(node: Node) -> Candidate:
        (held,) = node.catalogue.find("custom:echo")
        ended = replace(held, expires=node.ports.clock.now_ms())
        node.catalogue.set(held.node, held.agent, [ended])
        return ended

    ended = await alpha.within(expire)
    for capability in ("custom:echo", "custom:*"):
        with pytest.raises(SkerryError) as caught:
            await done(alpha, capability, "hello")
        assert caught.value.code == Code.UNKNOWN_CAPABILITY
    assert not world.witness.runs

    async def renew(node: Node) -> None:
        node.catalogue.set(ended.node, ended.agent, [replace(ended, expires=node.ports.clock.now_ms() + 60_000)])

    await alpha.within(renew)
    assert (await done(alpha, "custom:echo", "hello")).success
    await world.close()


@simulated
async def test_fix_there_is_one_unit_of_time() -> None:
    """Milliseconds: in tasks, results, receipts, limits, scores and lists."""
    world = World("fix-units")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Slow")
    await world.until(lambda: alpha.knows_agent("slow"))
    began_ms = alpha.clock.now_ms()
    result = await done(alpha, "custom:slow", SLOW_MS / 1000, receipt=True)
    ended_ms = alpha.clock.now_ms()
    assert SLOW_MS <= ended_ms - began_ms <= SLOW_MS + SPARE_MS
    assert SLOW_MS <= result.execution_time_ms <= SLOW_MS + SPARE_MS
    assert began_ms <= result.completed_at <= ended_ms
    assert result.receipt is not None
    receipt = read_receipt(result.receipt)
    assert SLOW_MS <= receipt.took_ms <= SLOW_MS + SPARE_MS
    assert began_ms <= receipt.completed_at <= ended_ms

    async def listed(node: Node) -> float | None:
        return views.capabilities(node, "custom:slow")[0].latency_ms

    latency_ms = await alpha.within(listed)
    assert latency_ms is not None
    assert SLOW_MS <= latency_ms <= SLOW_MS + SPARE_MS
    with pytest.raises(SkerryError) as caught:
        await done(alpha, "custom:slow", 5, max_latency_ms=SLOW_MS)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert SLOW_MS <= alpha.clock.now_ms() - ended_ms <= SLOW_MS + SPARE_MS
    await world.close()
