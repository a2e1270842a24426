"""Days that pass for every node of a simulated world."""

from __future__ import annotations

import asyncio

from skerry.sim.world import World

DAY_MS = 24 * 3600 * 1000
STEP_MS = DAY_MS // 2
CHORES_S = 45.0  # every node has done its chores once


async def days(world: World, count: float) -> None:
    for _ in range(int(count * DAY_MS / STEP_MS)):
        for machine in world.machines.values():
            machine.clock.step(STEP_MS)
        await asyncio.sleep(CHORES_S)
