"""A quiet hour: nodes that are all up, with agents that are asked now and then, and nothing that goes wrong but for strangers at the door.

What the nodes hold after the first minutes is counted and counted again at the end: records, connections, tasks, timers, and every table
of every object (`checkers/tables.py`). An hour of heartbeats, renewals, calls and hostile connections must leave all of it as it was.

The rule: whatever grows with time alone is a leak.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from skerry.errors import SkerryError
from skerry.sim import loop as virtual
from skerry.sim.adversary import Adversary
from skerry.sim.checkers.tables import Sizes, grown, sizes
from skerry.sim.machine import Machine
from skerry.sim.world import World

STEADY_NODES = 20
STEADY_S = 3600.0
WARM_S = 900.0  # results are remembered for ten minutes, and chores that come seldom have come once
CALL_EVERY_S = 2.0
ATTACK_EVERY_S = 30.0
CALM_S = 60.0  # what strangers left open has ended


@dataclass(frozen=True, slots=True)
class Steady:
    """`grown` says what grew, `pace` how much faster than real time it went once the formation stood, on a processor of its own."""

    nodes: int
    virtual_s: float
    formed_real_s: float
    pace: float
    calls: int
    attacks: int
    before: Sizes
    after: Sizes

    @property
    def grown(self) -> list[str]:
        return grown(self.before, self.after)

    def __str__(self) -> str:
        went = f"{self.nodes} nodes, {self.virtual_s:.0f} s with {self.calls} calls and {self.attacks} attacks: {self.pace:.0f} x real time"
        return f"{went}; formed in {self.formed_real_s:.1f} s; of {len(self.after)} counts: {', '.join(self.grown) or 'nothing grew'}"


def live(nodes: int, *, seconds: float, seed: int | str = "steady", attacked: bool = True) -> Steady:
    """Form, warm up, count, go on, count again. `attacked`: strangers try all that they can from outside."""
    found: list[Steady] = []
    virtual.run(_live(nodes, seconds, seed, attacked, found))
    return found[0]


async def _live(nodes: int, seconds: float, seed: int | str, attacked: bool, found: list[Steady]) -> None:
    world, began = World(seed), time.process_time()
    adversary = Adversary(world, gets_in=False) if attacked else None
    machines = await world.formation(nodes)
    for machine in machines[:3]:
        await machine.run_agent("Echo", f"echo-{machine.name}")
    await world.until(lambda: all(machine.knows_agent(f"echo-{machines[2].name}") for machine in machines))
    formed_s, steady_from, from_s = time.process_time() - began, time.process_time(), world.now_s
    warm_s = min(WARM_S, seconds / 4)
    calls = await _go_on(world, machines, warm_s, adversary)
    before = count(world, machines)
    calls += await _go_on(world, machines, seconds - warm_s, adversary)
    after, lasted_s = count(world, machines), world.now_s - from_s
    pace = lasted_s / (time.process_time() - steady_from)
    attacks = adversary.acts_done if adversary is not None else 0
    assert not world.breaches, world.breaches
    found.append(Steady(nodes, lasted_s, formed_s, pace, calls, attacks, before, after))
    if adversary is not None:
        await adversary.leave()
    await world.close()


async def _go_on(world: World, machines: list[Machine], seconds: float, adversary: Adversary | None) -> int:
    """Calls all the time, attacks until a little before the end. Returns how many calls there were."""
    attacks = world.loop.create_task(_attack(world, adversary, seconds - CALM_S)) if adversary is not None else None
    calls = await _call_for(world, machines, seconds)
    if attacks is not None:
        await attacks
    return calls


async def _attack(world: World, adversary: Adversary, seconds: float) -> None:
    ends = world.now_s + seconds
    while world.now_s < ends:
        await asyncio.sleep(world.random.expovariate(1 / ATTACK_EVERY_S))
        await adversary.act()


async def _call_for(world: World, machines: list[Machine], seconds: float) -> int:
    ends, done = world.now_s + seconds, 0
    while world.now_s < ends:
        await asyncio.sleep(world.random.expovariate(1 / CALL_EVERY_S))
        try:
            await world.random.choice(machines).call("custom:echo", "still there?")
            done += 1
        except SkerryError as error:
            raise AssertionError(f"in a quiet world a call failed: {error}") from error
    return done


def count(world: World, machines: list[Machine]) -> Sizes:
    """What all the nodes hold, by sort."""
    world.network.sweep()
    return sizes() | {
        "records": sum(len(machine.store.since(0, 10**9)) for machine in machines),
        "connections": sum(len(world.network.open_ends(machine.name)) for machine in machines),
        "tasks": sum(len(machine.process.tasks()) for machine in machines),
        "timers": sum(len(machine.process.timers()) for machine in machines),
        "kilobytes remembered": sum(machine.node.tasks._ledger.held_bytes for machine in machines) // 1000,
    }
