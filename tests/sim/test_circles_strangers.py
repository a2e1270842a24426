"""What strangers may do to a circle, and what they can't: be more urgent than its own, send what is too large, take its name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.channel.calls import CALLER
from skerry.errors import Code, SkerryError
from skerry.identity.codec import pack
from skerry.node.node import Node
from skerry.node.tasks import HANDED_ON
from skerry.routing.task import Task, TaskResult, new_task_id
from skerry.routing.verbs import CircleName
from skerry.sim.machine import Machine
from tests.support.apart import apart, call, create, found, join_in
from tests.support.links import simulated


async def refusal(machine: Machine, capability: str, payload: object = None) -> str:
    try:
        await call(machine, capability, payload)
    except SkerryError as error:
        return error.code
    return ""


@simulated
async def test_what_strangers_call_urgent_does_not_stand_before_what_the_formation_asks_itself() -> None:
    async with apart("circle-urgent") as (world, alpha, beta, xi):
        gamma = world.machine("gamma")
        await gamma.start(await alpha.invite())
        await join_in(world, gamma, "big", "Slow")
        await world.until(lambda: "custom:slow" in beta.node.circles.named("big").capabilities, what="beta knows who is in it")
        member = "circle:" + beta.node.circles.named("big").id.hex()
        (slow,) = gamma.node.host.all()
        callers, run = [], gamma.node.tasks.run

        async def noted(task: Task, *, timeout_s: float) -> TaskResult:
            callers.append(CALLER.get())
            return await run(task, timeout_s=timeout_s)

        gamma.node.tasks.run = noted  # type: ignore[method-assign]

        async def urgent(node: Node) -> list[Any]:
            link = await node.links.probe("tcp://beta:7420", expected=beta.key.public, timeout_s=5.0)
            now_ms, token = node.ports.clock.now_ms(), node.ports.random.token
            ids = [new_task_id(node.key.public, token(16)) for _ in range(8)]
            tasks = [Task(one, "custom:slow", member, pack(2.0), node.key.public, now_ms, priority=10) for one in ids]
            return await asyncio.gather(*(link.call("task.run", one.to_bytes(), timeout_s=60.0) for one in tasks))

        under_way = asyncio.ensure_future(xi.within(urgent))
        await world.until(lambda: slow.load == 8, what="gamma's agent has all of it")
        began = asyncio.get_running_loop().time()
        await call(beta, "custom:slow", 0.1, reach="formation", priority=6, timeout_s=60.0)
        assert asyncio.get_running_loop().time() - began < 2.0 + 1.0, "it came next"
        assert len(await under_way) == 8
        assert callers == [beta.node.key.public + HANDED_ON] * 8 + [beta.node.key.public], "they take turns where there are more"


@simulated
async def test_a_task_that_is_too_large_for_strangers_is_said_to_be() -> None:
    async with apart("circle-large") as (world, _, beta, xi):
        await found(world, xi, "custom:echo")
        with pytest.raises(SkerryError) as caught:
            await call(xi, "custom:echo", b"x" * 200_000)
        assert caught.value.code == Code.TOO_LARGE
        assert caught.value.hint
        assert not world.witness.runs
        await join_in(world, beta, "big", "Swell")
        await found(world, xi, "custom:swell")
        assert (await call(xi, "custom:swell", 40_000)).success
        began = asyncio.get_running_loop().time()
        assert await refusal(xi, "custom:swell", 200_000) == Code.TOO_LARGE, "what comes back too"
        assert asyncio.get_running_loop().time() - began < 2.0
        assert xi.node.dispatcher.reputation.blacklisted_circles(now_ms=xi.clock.now_ms()) == []


@simulated
async def test_circles_of_others_that_took_the_same_name_are_told_apart_by_their_ids() -> None:
    async with apart("circle-namesakes") as (world, _, beta, xi):
        await create(beta, "namesake", callable_by="anyone", open=True)
        omicron = world.machine("omicron")
        omicron.bootstrap = (f"{world.network.number_of('beta')}:7422",)
        await omicron.start()
        await create(omicron, "namesake", callable_by="anyone", open=True)
        for machine in (beta, omicron):
            await join_in(world, machine, "namesake", "Count")
        await found(world, xi, "custom:count", speakers=2)
        with pytest.raises(SkerryError, match="may be any of") as caught:
            await xi.ask("circle.show", CircleName("namesake"))
        assert caught.value.code == Code.CONFLICT
        theirs = omicron.node.circles.named("namesake").id.hex()
        assert (await xi.ask("circle.show", CircleName(theirs[:10]))).formation == omicron.node.formation.hex()
        await create(xi, "namesake", open=True)
        assert not (await xi.ask("circle.show", CircleName("namesake"))).foreign, "ours first"
