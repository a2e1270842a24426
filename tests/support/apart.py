"""Two simulated formations that know each other through a DHT alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Unpack

from skerry.errors import Refused
from skerry.identity.codec import pack
from skerry.routing.task import Request, TaskResult, Wishes
from skerry.routing.verbs import CircleCreateRequest, CircleInfo, CircleMember
from skerry.sim.machine import Machine
from skerry.sim.world import World


@asynccontextmanager
async def apart(seed: str, *, callable_by: str = "anyone", public: bool = True) -> AsyncIterator[tuple[World, Machine, Machine, Machine]]:
    """alpha and its member beta, whose Echo is in a circle; xi, which founded another formation and knows where alpha's DHT is."""
    world = World(seed)
    alpha, beta = await world.formation(2)
    await beta.run_agent("Echo")
    await create(alpha, "big", callable_by=callable_by, public=public, open=True)
    await world.until(beta.node.circles.router.local_circles, what="beta knows the circle")
    await beta.ask("circle.enter", CircleMember("big", "echo"))
    if public:
        await world.until(lambda: beta.node.explorer.dht_address, what="beta's DHT is open")
    xi = world.machine("xi")
    xi.bootstrap = (f"{world.network.number_of('beta')}:7422",)
    await xi.start()
    try:
        yield world, alpha, beta, xi
    finally:
        world.heal()
        await world.close()


async def create(machine: Machine, name: str, **how: Any) -> CircleInfo:
    made: CircleInfo = await machine.ask("circle.create", CircleCreateRequest(name, **how))
    return made


async def call(
    machine: Machine, capability: str, payload: object = None, *, agent: str = "", timeout_s: float = 10.0, **wishes: Unpack[Wishes]
) -> TaskResult:
    """A task that may go anywhere, where nothing else is wished for."""
    wishes.setdefault("reach", "public")
    request = Request(capability, pack(payload), agent, **wishes)
    result = await machine.within(lambda node: node.dispatcher.call(request, timeout_s=timeout_s))
    result.raise_error()
    return result


async def enter_in_time(world: World, machine: Machine, circle: str, agent: str) -> None:
    """An invitation takes a moment to come."""
    done = False
    for _ in range(20):
        try:
            await machine.ask("circle.enter", CircleMember(circle, agent))
            done = True
            break
        except Refused:
            await world.until(lambda at=world.now_s: world.now_s > at + 0.2)  # type: ignore[misc]
    assert done


async def join_in(world: World, machine: Machine, circle: str, script: str, name: str = "") -> str:
    """Host an agent that enters a circle; returns its id."""
    info = await machine.run_agent(script, name or f"{script.lower()}-{machine.name}")
    await enter_in_time(world, machine, circle, info.name)
    return info.id


async def found(world: World, machine: Machine, capability: str, *, speakers: int = 1) -> None:
    """Wait until a node knows circles of others that offer something, and so many nodes that speak for them."""

    def known() -> bool:
        node = machine.node
        node.spawn(node.explorer.search(query=capability))
        circles = node.circles.router.find_capable_circles(capability, now_ms=node.ports.clock.now_ms()).discovered_circles
        return sum(len(one.announcement.speakers) for one in circles) >= speakers

    await world.until(known, 90.0, what=f"{machine.name} finds circles that offer {capability}")
