"""What goes wrong: machines, processes, ways, clocks and disks, in a mix by name.

`none` is a quiet network; `light` is what a year brings; `heavy` is that year in a minute.

The rule: every fault is one that a real machine or network shows, and each one ends: `mend` leaves a healthy world.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from skerry.errors import SkerryError
from skerry.sim.clock import SimRandom
from skerry.sim.link import Link
from skerry.sim.machine import Machine
from skerry.sim.network import LAN
from skerry.sim.process import Died
from skerry.sim.world import World

AGAIN_S = 2.0  # until a start that failed is tried again
STEP_MS_MAX = 100_000  # of two clocks together less than the five minutes that the protocol allows
DRIFT_MAX = 2e-4  # 17 s a day: a bad quartz


@dataclass(frozen=True, slots=True)
class Weather:
    """A mix. `every_s` between two faults, weights by the name of the fault, how long one lasts, what a link is like."""

    every_s: float
    weights: dict[str, int]
    lasts_s: float
    link: Link


WEATHERS: dict[str, Weather] = {
    "none": Weather(0.0, {}, 0.0, LAN),
    "light": Weather(
        12.0,
        {"cut": 3, "one_way": 2, "partition": 1, "reset": 3, "half_open": 1, "stop": 2, "kill": 2, "worker": 2},
        8.0,
        Link(delay_s=0.005, jitter_s=0.005, loss=0.002, split=0.2),
    ),
    "heavy": Weather(
        3.0,
        {
            "cut": 4,
            "one_way": 4,
            "partition": 2,
            "reset": 4,
            "half_open": 3,
            "slow_link": 2,
            "stop": 2,
            "kill": 3,
            "crash": 4,
            "worker": 3,
            "clock": 2,
            "full_disk": 1,
        },
        12.0,
        Link(delay_s=0.02, jitter_s=0.03, loss=0.02, split=0.3, reset=0.0002),
    ),
}
SLOW = Link(delay_s=0.4, jitter_s=0.4, loss=0.2, split=0.5)


class Faults:
    """Whoever makes trouble."""

    def __init__(self, world: World, weather: Weather) -> None:
        self._world = world
        self._weather = weather
        self._random = SimRandom(f"{world.seed}/faults")
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._mended = asyncio.Event()
        self.clocks_stepped = False

    async def run(self, seconds: float) -> None:
        """Trouble for so long. `mend` ends it."""
        ends = self._world.now_s + seconds
        weights = self._weather.weights
        while weights and self._world.now_s < ends:
            await asyncio.sleep(self._random.expovariate(1 / self._weather.every_s))
            (name,) = self._random.choices(list(weights), list(weights.values()))
            fault: Callable[[], Coroutine[Any, Any, None]] = getattr(self, f"_{name}")
            self._start(fault())

    async def mend(self) -> None:
        """Everything is well again: ways, links, disks, clocks' pace, and every node that was down serves."""
        self._mended.set()
        world = self._world
        world.heal()
        names = list(world.machines)
        for a in names:
            world.machines[a].disk.is_full = False
            world.machines[a].clock.set_drift(0)
            for b in names:
                if a != b:
                    world.network.set_link(a, b, LAN, one_way=True)
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        for machine in world.machines.values():
            await self._up_again(machine)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._world.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _while(self) -> None:
        """As long as a fault lasts, or until the world is mended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._mended.wait(), self._random.expovariate(1 / self._weather.lasts_s))

    async def _up_again(self, machine: Machine) -> None:
        """Start its node, as often as it takes."""
        while not machine.is_up and not machine.is_starting and machine.belongs:
            try:
                await machine.start()
            except (SkerryError, Died) as error:
                self._world.note(machine.name, f"start failed: {getattr(error, 'code', 'died')}")
                await asyncio.sleep(AGAIN_S)

    def _someone(self) -> Machine | None:
        up = self._world.up()
        return self._random.choice(up) if up else None

    def _two(self) -> tuple[str, str] | None:
        names = list(self._world.machines)
        if len(names) < 2:
            return None
        a, b = self._random.sample(names, 2)
        return a, b

    # --- ways -----------------------------------------------------------------------------------------------------------------

    async def _cut(self, *, one_way: bool = False) -> None:
        pair = self._two()
        if pair is not None:
            self._world.network.cut(*pair, one_way=one_way)
            await self._while()
            self._world.heal(*pair)

    async def _one_way(self) -> None:
        await self._cut(one_way=True)

    async def _partition(self) -> None:
        names = list(self._world.machines)
        self._random.shuffle(names)
        if len(names) < 2:
            return
        at = self._random.randrange(1, len(names))
        self._world.network.partition(names[:at], names[at:])
        await self._while()
        for a in names[:at]:
            for b in names[at:]:
                self._world.heal(a, b)

    async def _reset(self, *, half_open: bool = False) -> None:
        pair = self._two()
        if pair is not None:
            self._world.note(pair[0], f"reset {pair[1]}{' half-open' if half_open else ''}")
            self._world.network.reset(*pair, half_open=half_open)

    async def _half_open(self) -> None:
        await self._reset(half_open=True)

    async def _slow_link(self) -> None:
        pair = self._two()
        if pair is not None:
            self._world.network.set_link(*pair, SLOW)
            await self._while()
            self._world.network.set_link(*pair, self._weather.link if not self._mended.is_set() else LAN)

    # --- machines -------------------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        machine = self._someone()
        if machine is not None:
            try:
                await machine.stop()
            except (SkerryError, Died) as error:
                self._world.note(machine.name, f"stop failed: {getattr(error, 'code', 'died')}")
                if machine.runs:
                    machine.kill()
            await self._while()
            await self._up_again(machine)

    async def _kill(self) -> None:
        await self._down(lambda machine: machine.kill())

    async def _crash(self) -> None:
        await self._down(lambda machine: machine.crash())

    async def _down(self, end: Callable[[Machine], None]) -> None:
        machine = self._someone()
        if machine is not None:
            end(machine)
            await self._while()
            await self._up_again(machine)

    async def _worker(self) -> None:
        machine = self._someone()
        workers = machine.executor.workers() if machine is not None else []
        if machine is not None and workers:
            worker = self._random.choice(workers)
            self._world.note(machine.name, f"worker {worker.pid} is killed")
            worker.kill()

    async def _clock(self) -> None:
        machine = self._random.choice(list(self._world.machines.values()))
        machine.clock.set_drift(self._random.uniform(-DRIFT_MAX, DRIFT_MAX))
        by_ms = self._random.randint(-STEP_MS_MAX, STEP_MS_MAX)
        self._world.note(machine.name, f"clock steps by {by_ms} ms")
        self.clocks_stepped = True
        machine.clock.step(by_ms)
        await self._while()
        machine.clock.step(-by_ms)

    async def _full_disk(self) -> None:
        machine = self._someone()
        if machine is not None:
            self._world.note(machine.name, "the disk is full")
            machine.disk.is_full = True
            await self._while()
            machine.disk.is_full = False
