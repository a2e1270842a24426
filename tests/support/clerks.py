"""Clerks of a simulated world, what they kept, and the wires between them."""

from __future__ import annotations

from typing import Any

from skerry.agents.launch import STATES
from skerry.agents.verbs import AgentInfo
from skerry.identity.codec import unpack
from skerry.sim.checkers.letters import NOTHING_YET
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.verbs import WireAddRequest, WireInfo


async def desks(world: World, *machines: Machine) -> list[AgentInfo]:
    """A clerk on each, known to all."""
    infos = [await machine.run_agent("Clerk", f"{machine.name}-clerk") for machine in machines]
    for info in infos:
        await world.until(lambda info=info: all(machine.knows_agent(info.name) for machine in machines))  # type: ignore[misc]
    return infos


def address(machine: Machine, info: AgentInfo) -> str:
    return f"{info.id}@{machine.key.public.hex()}"


async def tell(machine: Machine, own: AgentInfo, to: str, count: int = 1, *, echo: bool = False) -> None:
    await machine.call("custom:tell", [to, count, echo], agent=own.id, timeout_s=60.0)


def state(machine: Machine, info: AgentInfo) -> dict[str, Any]:
    kept = machine.disk.fact(STATES, info.id)
    found: dict[str, Any] = unpack(kept) if kept else NOTHING_YET
    return found


def heard(machine: Machine, info: AgentInfo, of: str) -> int:
    number: int = state(machine, info)["heard"].get(of, 0)
    return number


async def wire(machine: Machine, agent: str, peer: str) -> WireInfo:
    info: WireInfo = await machine.ask("wire.add", WireAddRequest(agent, peer))
    return info


def wires(machine: Machine) -> list[tuple[str, str, str]]:
    return [(info.agent, info.peer, info.state) for info in machine.node.wires.infos()]
