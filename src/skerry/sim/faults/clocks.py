"""Faults of wall clocks: they drift, are set a little or a lot, and begin in 1970 where no battery kept them.

The rule: a clock that was wrong is set right again, as NTP would; what was signed by it meanwhile stays signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.sim.machine import Machine

if TYPE_CHECKING:
    from skerry.sim.faults import Faults

STEP_MS_MAX = 100_000  # of two clocks together less than the five minutes that the protocol allows
DRIFT_MAX = 2e-4  # 17 s a day: a bad quartz
FAST_DRIFT_MAX = 0.05  # three seconds a minute: a virtual machine without a clock source of its own
MINUTE_MS = 60_000
JUMPS_MS = (6 * MINUTE_MS, 90 * MINUTE_MS, 3 * 24 * 60 * MINUTE_MS, 45 * 24 * 60 * MINUTE_MS)  # a quarter: longer than tombstones live


async def step(faults: Faults) -> None:
    """A clock is set by up to 100 s, and back."""
    machine = _any(faults)
    machine.clock.set_drift(faults.random.uniform(-DRIFT_MAX, DRIFT_MAX))
    await _off_by(faults, machine, faults.random.randint(-STEP_MS_MAX, STEP_MS_MAX))


async def drift(faults: Faults) -> None:
    """A clock runs wrong by up to three seconds a minute; what it gained stays until the fault ends."""
    machine = _any(faults)
    drift = faults.random.uniform(-FAST_DRIFT_MAX, FAST_DRIFT_MAX)
    began_s, began_ms = faults.world.now_s, machine.clock.now_ms()
    faults.world.note(machine.name, f"clock drifts by {drift:+.4f}")
    machine.clock.set_drift(drift)
    await faults.lasts()
    machine.clock.set_drift(0)
    gained_ms = machine.clock.now_ms() - began_ms - int((faults.world.now_s - began_s) * 1000)
    if abs(gained_ms) < STEP_MS_MAX:  # where somebody set it meanwhile, whoever did so sets it right
        machine.clock.step(-gained_ms)


async def jump(faults: Faults) -> None:
    """A clock is set by more than the five minutes that are allowed, up to 45 days, either way, and set right later."""
    machine = _any(faults)
    by_ms = faults.random.choice(JUMPS_MS) + faults.random.randrange(MINUTE_MS)
    await _off_by(faults, machine, by_ms if faults.random.random() < 0.5 else -by_ms)


async def first_of_january_1970(faults: Faults) -> None:
    """The power goes, the machine comes back in 1970, and learns the time later."""
    machine = faults.someone()
    if machine is not None:
        machine.crash()
        await _off_by(faults, machine, -machine.clock.now_ms(), starts=True)


async def _off_by(faults: Faults, machine: Machine, by_ms: int, *, starts: bool = False) -> None:
    faults.world.note(machine.name, f"clock steps by {by_ms} ms")
    faults.clocks_stepped = True
    machine.clock.step(by_ms)
    if starts:
        await faults.up_again(machine)
    await faults.lasts()
    machine.clock.step(-by_ms)
    faults.world.note(machine.name, "clock is set right")


def _any(faults: Faults) -> Machine:
    return faults.random.choice(list(faults.world.machines.values()))
