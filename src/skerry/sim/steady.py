"""A quiet hour: nodes that are all up, with agents that are asked now and then, and nothing that goes wrong.

What a node holds after the first minutes is counted and counted again at the end: records, links, connections, tasks, timers, what waits,
what is remembered. An hour of heartbeats, renewals and calls must leave all of it as it was.

The rule: whatever grows with time alone is a leak.
"""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass

from skerry.errors import SkerryError
from skerry.sim import loop as virtual
from skerry.sim.machine import Machine
from skerry.sim.world import World

STEADY_NODES = 20
STEADY_S = 3600.0
WARM_S = 900.0  # results are remembered for ten minutes, and chores that come seldom have come once
CALL_EVERY_S = 2.0
SLACK = 1.1  # the counts of one moment differ a little from those of another
SLACK_EACH = 16


@dataclass(frozen=True, slots=True)
class Steady:
    """`grown` says what grew, `pace` how much faster than real time it went once the formation stood."""

    nodes: int
    virtual_s: float
    formed_real_s: float
    pace: float
    calls: int
    before: dict[str, int]
    after: dict[str, int]

    @property
    def grown(self) -> list[str]:
        pairs = ((what, self.before[what], count) for what, count in self.after.items())
        return [f"{what}: {before}, then {count}" for what, before, count in pairs if count > before * SLACK + SLACK_EACH]

    def __str__(self) -> str:
        went = f"{self.nodes} nodes, {self.virtual_s:.0f} s in a steady state with {self.calls} calls: {self.pace:.0f} x real time"
        return f"{went}; formed in {self.formed_real_s:.1f} s of real time; {', '.join(self.grown) or 'nothing grew'}"


def live(nodes: int, *, seconds: float, seed: int | str = "steady") -> Steady:
    """Form, warm up, count, go on, count again."""
    found: list[Steady] = []
    virtual.run(_live(nodes, seconds, seed, found))
    return found[0]


async def _live(nodes: int, seconds: float, seed: int | str, found: list[Steady]) -> None:
    world, began = World(seed), time.perf_counter()
    machines = await world.formation(nodes)
    for machine in machines[:3]:
        await machine.run_agent("Echo", f"echo-{machine.name}")
    await world.until(lambda: all(machine.knows_agent(f"echo-{machines[2].name}") for machine in machines))
    formed_s, steady_from, from_s = time.perf_counter() - began, time.perf_counter(), world.now_s
    calls = await _call_for(world, machines, min(WARM_S, seconds / 4))
    before = count(world, machines)
    calls += await _call_for(world, machines, seconds - min(WARM_S, seconds / 4))
    after, lasted_s = count(world, machines), world.now_s - from_s
    pace = lasted_s / (time.perf_counter() - steady_from)
    found.append(Steady(nodes, lasted_s, formed_s, pace, calls, before, after))
    await world.close()


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


def count(world: World, machines: list[Machine]) -> dict[str, int]:
    """What all the nodes hold, by sort."""
    nodes = [machine.node for machine in machines]
    gc.collect()
    return {
        "records": sum(len(machine.store.since(0, 10**9)) for machine in machines),
        "links": sum(len(node.links.all()) for node in nodes),
        "connections": sum(len(world.network.open_ends(machine.name)) for machine in machines),
        "tasks": sum(len(machine.process.tasks()) for machine in machines),
        "timers": sum(len(machine.process.timers()) for machine in machines),
        "results remembered": sum(len(node.tasks._ledger._entries) for node in nodes),
        "bytes remembered": sum(node.tasks._ledger.held_bytes for node in nodes) // 1000,
        "records to push": sum(len(waiting) for node in nodes for waiting in node.federation._outbox.values()),
        "warnings": sum(len(node.warnings) for node in nodes),
        "objects, in thousands": len(gc.get_objects()) // 1000,
    }
