"""Faults of disks: full, and slow. What a disk loses with the power is a part of every crash.

The rule: a disk that is slow makes its node wait, as a synchronous write does; nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.sim.disk import Slowness
from skerry.sim.machine import Machine

if TYPE_CHECKING:
    from skerry.sim.faults import Faults

# A spinning disk under load; a card that is worn out; network storage that hangs now and then.
SLOW = (Slowness(0.05, 0.02, 0.05), Slowness(0.6, 0.1, 0.02), Slowness(2.5, 0.5, 0.005))


async def full(faults: Faults) -> None:
    """Every write fails."""
    machine = faults.someone()
    if machine is not None:
        faults.world.note(machine.name, "the disk is full")
        machine.disk.is_full = True
        await faults.lasts()
        machine.disk.is_full = False


async def slow(faults: Faults) -> None:
    """Commits take their time, and so do some reads; the node stands still meanwhile."""
    machine = faults.someone()
    if machine is not None:
        slowness = faults.random.choice(SLOW)
        faults.world.note(machine.name, f"the disk is slow: a commit up to {slowness.commit_s:g} s")
        machine.disk.slowness = slowness
        await faults.lasts()
        machine.disk.slowness = None


def mend(machine: Machine) -> None:
    machine.disk.is_full = False
    machine.disk.slowness = None
