"""What goes wrong: ways, machines, disks, clocks and peers, drawn from a mix by name (`weather.py`).

Each sort of fault has a name, and is a coroutine that begins it, waits as long as it lasts, and ends it. The sorts stand in files by what
they happen to: `ways.py`, `machines.py`, `disks.py`, `clocks.py`; the hostile peer is `sim/adversary.py`'s.

The rule: every fault is one that a real machine, network or peer shows, and each one ends: `mend` leaves a healthy world.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from skerry.errors import SkerryError
from skerry.sim.adversary import Adversary
from skerry.sim.clock import SimRandom
from skerry.sim.faults import clocks, disks, machines, ways
from skerry.sim.faults.weather import Weather
from skerry.sim.machine import Machine
from skerry.sim.network import LAN
from skerry.sim.process import Died
from skerry.sim.world import World

AGAIN_S = 2.0  # until a start that failed is tried again


class Faults:
    """Whoever makes trouble."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.world = world
        self.weather = weather
        self.random = SimRandom(f"{world.seed}/faults")
        self.clocks_stepped = False
        self.mended = asyncio.Event()
        self.adversary: Adversary | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}

    async def run(self, seconds: float) -> None:
        """Trouble for so long. `mend` ends it."""
        ends = self.world.now_s + seconds
        weights = self.weather.weights
        while weights and self.world.now_s < ends:
            await asyncio.sleep(self.random.expovariate(1 / self.weather.every_s))
            (name,) = self.random.choices(list(weights), list(weights.values()))
            self._start(SORTS[name](self))

    async def mend(self) -> None:
        """Everything is well again: ways, links, disks, clocks' pace, and every node that was down serves."""
        self.mended.set()
        world = self.world
        world.heal()
        names = list(world.machines)
        for a in names:
            disks.mend(world.machines[a])
            world.machines[a].clock.set_drift(0)
            for b in names:
                if a != b:
                    world.network.set_link(a, b, LAN, one_way=True)
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        if self.adversary is not None:
            await self.adversary.leave()
        for machine in world.machines.values():
            await self.up_again(machine)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.world.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    # --- for the sorts --------------------------------------------------------------------------------------------------------

    async def lasts(self) -> None:
        """As long as a fault lasts, or until the world is mended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.mended.wait(), self.random.expovariate(1 / self.weather.lasts_s))

    async def up_again(self, machine: Machine) -> None:
        """Start its node, as often as it takes."""
        while not machine.is_up and not machine.is_starting and machine.belongs:
            try:
                await machine.start()
            except (SkerryError, Died) as error:
                self.world.note(machine.name, f"start failed: {getattr(error, 'code', 'died')}")
                await asyncio.sleep(AGAIN_S)

    def someone(self) -> Machine | None:
        up = self.world.up()
        return self.random.choice(up) if up else None

    def two(self) -> tuple[str, str] | None:
        names = list(self.world.machines)
        if len(names) < 2:
            return None
        a, b = self.random.sample(names, 2)
        return a, b


async def _adversary(faults: Faults) -> None:
    if faults.adversary is None:
        faults.adversary = Adversary(faults.world)
    await faults.adversary.act()


SORTS: dict[str, Callable[[Faults], Coroutine[Any, Any, None]]] = {
    "cut": ways.cut,
    "one_way": ways.one_way,
    "partition": ways.partition,
    "deaf_partition": ways.deaf_partition,
    "reset": ways.reset,
    "half_open": ways.half_open,
    "slow_link": ways.slow_link,
    "lossy_link": ways.lossy_link,
    "stop": machines.stop,
    "kill": machines.kill,
    "crash": machines.crash,
    "stall": machines.stall,
    "worker": machines.worker,
    "clock": clocks.step,
    "clock_drift": clocks.drift,
    "clock_jump": clocks.jump,
    "clock_1970": clocks.first_of_january_1970,
    "full_disk": disks.full,
    "slow_disk": disks.slow,
    "adversary": _adversary,
}
