"""How records spread through a simulated formation, and what it costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from blake3 import blake3

from skerry.identity.keys import KeyPair, agent_id
from skerry.identity.statement import Statement, state
from skerry.records.card import AgentCard, CardOffer, sign_card
from skerry.records.record import KINDS
from skerry.sim.link import Link
from skerry.sim.machine import Machine
from skerry.sim.world import World

LOSSY = Link(delay_s=0.02, jitter_s=0.002, loss=0.02, split=0.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """How long it took until the last node had a record; how often a node was sent it too often, on average and at most."""

    took_s: float
    duplicates: float
    duplicates_most: int


def say(machine: Machine, name: str, *, lifetime_s: float = 86_400.0) -> Statement:
    """An agent's record as a node writes it, without an agent; the node is kept from taking it back for that. Its id derives from its
    name."""
    machine.node.advertiser.renew = machine.node.advertiser.say_node  # type: ignore[method-assign]
    now_ms = machine.clock.now_ms()
    key = KeyPair.from_seed(blake3(name.encode()).digest())
    offer = CardOffer("custom:echo", description="gives back what it is given")
    endpoint = f"skerry://{machine.key.public.hex()}/{name}"
    card = AgentCard(agent_id(key.public), name, key.public, endpoint=endpoint, capabilities=("custom:echo",), offers=(offer,))
    replica = machine.node.replica
    said = state(
        machine.key,
        kind="agent",
        name=card.id,
        formation=machine.node.formation,
        audience="formation",
        stamp=replica.next_stamp(now_ms=now_ms),
        expires=now_ms + int(lifetime_s * 1000),
        body={"card": sign_card(card, key)[1], "status": "healthy"},
    )
    return replica.publish(said)


async def spread(world: World, machines: list[Machine], first: Machine, name: str, *, timeout_s: float = 20.0) -> Spread:
    """Let one node say something new, and wait until all have it."""
    sent: Counter[str] = Counter()
    for machine in machines:
        _count_pushes(machine, sent, name)
    began_s = world.now_s

    async def say_it(_: object) -> Statement:
        return say(first, name)

    said = await first.within(say_it)

    def has(machine: Machine) -> bool:
        return machine.node.ports.store.at(said.stamp, said.hash) is not None

    while not all(has(machine) for machine in machines):
        assert world.now_s < began_s + timeout_s, f"{sum(map(has, machines))} of {len(machines)} have it after {timeout_s:g} s"
        await asyncio.sleep(0.005)
    took_s = world.now_s - began_s
    settle_s = 2.0
    await asyncio.sleep(settle_s)
    needed = len(machines) - 1
    return Spread(took_s, (sum(sent.values()) - needed) / len(machines), max(sent.values(), default=1) - 1)


def _count_pushes(machine: Machine, sent: Counter[str], name: str) -> None:
    federation = machine.node.federation
    serve = federation.serve_push

    def counted(request: object, *, sender: bytes) -> object:
        sent[machine.name] += sum(name.encode() in record for record in request.records)  # type: ignore[attr-defined]
        return serve(request, sender=sender)  # type: ignore[arg-type]

    federation.serve_push = counted  # type: ignore[method-assign, assignment]


class Traffic:
    """What travels in a world, in bytes of frames."""

    def __init__(self, world: World) -> None:
        self._sent = 0
        note = world.network.note

        def counted(host: str, event: str, data: bytes = b"") -> None:
            self._sent += len(data)
            note(host, event, data)

        world.network.note = counted  # type: ignore[method-assign]

    async def bytes_s(self, *, seconds: float) -> float:
        """Per second, of all nodes together, once what they began is done."""
        settle_s = 90.0
        await asyncio.sleep(settle_s)
        before = self._sent
        await asyncio.sleep(seconds)
        return (self._sent - before) / seconds


async def late_joiner_s(world: World, machines: list[Machine], *, agents: int) -> float:
    """How long a node that joins takes from its first word until it holds every agent of a formation."""
    for number in range(agents):
        say(machines[number % len(machines)], f"agent-{number}")
    await world.until(lambda: equal(machines), 30.0, what="all have all agents")
    late = world.machine("late")
    ticket = await machines[0].invite()
    began_s = world.now_s
    await late.start(ticket)
    while _agents_at(late) < _agents_at(machines[0]):
        assert world.now_s < began_s + 60.0, "not within a minute"
        await asyncio.sleep(0.01)
    return world.now_s - began_s


async def after_partition_s(world: World, machines: list[Machine], *, seconds: float, writes: int) -> float:
    """How long after a partition in two halves, with so many writes on each side, all nodes take until they hold the same."""
    half = len(machines) // 2
    sides = machines[:half], machines[half:]
    world.network.partition([machine.name for machine in sides[0]], [machine.name for machine in sides[1]])
    for number in range(writes):
        for name, side in zip(("one", "other"), sides, strict=True):
            say(side[number % len(side)], f"{name}-side-{number}")
        await asyncio.sleep(seconds / writes)
    assert not equal(machines), "the sides are apart"
    world.heal()
    began_s = world.now_s
    await world.until(lambda: equal(machines) and _agents_at(machines[0]) == 2 * writes, 600.0, what="all nodes are equal")
    return world.now_s - began_s


def _agents_at(machine: Machine) -> int:
    """Of how many agents a node holds a record that stands."""
    return sum(not row.tombstone for row in machine.node.ports.store.of_kind("agent"))


def equal(machines: list[Machine]) -> bool:
    """Whether all hold the same records."""
    return len({_held(machine) for machine in machines}) == 1


def _held(machine: Machine) -> frozenset[bytes]:
    return frozenset(row.hash for kind in KINDS for row in machine.node.ports.store.of_kind(kind))
