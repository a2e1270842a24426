"""Faults of machines and processes: orderly ends, kills, losses of power, workers that die, machines that stand still.

The rule: whoever ends is started again, as its owner would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from skerry.errors import SkerryError
from skerry.sim.machine import Machine
from skerry.sim.process import Died

if TYPE_CHECKING:
    from skerry.sim.faults import Faults

STALL_S = (0.2, 8.0)  # a suspended virtual machine, a laptop's lid for a moment


async def stop(faults: Faults) -> None:
    """A node ends in order, and is started again later."""
    machine = faults.someone()
    if machine is not None:
        try:
            await machine.stop()
        except (SkerryError, Died) as error:
            faults.world.note(machine.name, f"stop failed: {getattr(error, 'code', 'died')}")
            if machine.runs:
                machine.kill()
        await faults.lasts()
        await faults.up_again(machine)


async def kill(faults: Faults) -> None:
    """`kill -9`: what was committed is there."""
    await _down(faults, lambda machine: machine.kill())


async def crash(faults: Faults) -> None:
    """The power goes, and with it what was not synced; nobody is told."""
    await _down(faults, lambda machine: machine.crash())


async def _down(faults: Faults, end: Callable[[Machine], None]) -> None:
    machine = faults.someone()
    if machine is not None:
        end(machine)
        await faults.lasts()
        await faults.up_again(machine)


async def stall(faults: Faults) -> None:
    """A process stands still for a while, and does not know."""
    machine = faults.someone()
    if machine is not None:
        seconds = faults.random.uniform(*STALL_S)
        faults.world.note(machine.name, f"stands still for {seconds:.3f} s")
        machine.process.stall(seconds)


async def worker(faults: Faults) -> None:
    """An agent's process dies."""
    machine = faults.someone()
    workers = machine.executor.workers() if machine is not None else []
    if machine is not None and workers:
        chosen = faults.random.choice(workers)
        faults.world.note(machine.name, f"worker {chosen.pid} is killed")
        chosen.kill()
