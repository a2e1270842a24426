"""Clerks of a simulated world, what they kept, and the wires between them."""

from __future__ import annotations

from typing import Any

from skerry.agents.launch import STATES
from skerry.agents.letters import Letter, session_of
from skerry.agents.verbs import AgentInfo
from skerry.identity.codec import pack, unpack
from skerry.sim.checkers.letters import NOTHING_YET
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.verbs import DeliverRequest, WireAddRequest, WireInfo
from skerry.wiring.vouchers import agent_voucher


async def desks(world: World, *machines: Machine) -> list[AgentInfo]:
    """A clerk on each, known to all."""
    infos = [await machine.run_agent("Clerk", f"{machine.name}-clerk") for machine in machines]
    for info in infos:
        await world.until(lambda info=info: all(machine.knows_agent(info.name) for machine in machines))  # type: ignore[misc]
    return infos


def address(machine: Machine, info: AgentInfo) -> str:
    return f"{info.id}@{machine.key.public.hex()}"


def people(machine: Machine, agent: str, *, who: bytes = bytes(range(32))) -> tuple[str, bytes]:
    """The session with an agent that people have at a node, and what vouches for it."""
    return session_of(who + machine.key.public, agent), who


def delivered(machine: Machine, own: AgentInfo, agent: str, *numbers: int, **changed: Any) -> DeliverRequest:
    """Letters by an agent of that machine, as its node delivers them. `changed`: fields of all of them that are not as they should be."""
    resident = machine.node.host.get(own.id)
    assert resident is not None
    session = session_of(resident.key.public, agent)
    voucher = agent_voucher(resident.key, session, node=machine.key.public)
    fields = {"session": session, "sender": f"{machine.name}/{own.name}", "reply_to": address(machine, own), **changed}
    letters = [Letter(seq=(1 << 40) + n, content=pack([f"{machine.name}/x", n, None]), **fields) for n in numbers]
    return DeliverRequest(agent, letters, voucher)


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
