"""Mixes of faults, by name: what `FAULTS=` takes.

`none` is a quiet network; `light` is what a year brings; `heavy` is that year in a minute, and stays as it is, because the seeds that were
found with it mean something with it alone; `wild` is everything that there is. Names of faults with commas between them are a mix too.

The rule: a mix is its name: what is drawn from it depends on the seed and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.errors import UsageError
from skerry.sim.link import Link
from skerry.sim.network import LAN


@dataclass(frozen=True, slots=True)
class Weather:
    """A mix. `every_s` between two faults, weights by the name of the fault, how long one lasts, what a link is like; `upheaval`: operators
    are made and revoked, and nodes leave and come back."""

    every_s: float
    weights: dict[str, int]
    lasts_s: float
    link: Link
    upheaval: bool = False


_LIGHT = {"cut": 3, "one_way": 2, "partition": 1, "reset": 3, "half_open": 1, "stop": 2, "kill": 2, "worker": 2}
_HEAVY = {
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
}
_ALL_ELSE = {
    "deaf_partition": 2,
    "lossy_link": 2,
    "stall": 2,
    "clock_drift": 1,
    "clock_jump": 1,
    "clock_1970": 1,
    "slow_disk": 3,
    "adversary": 8,
}
_BAD_WAY = Link(delay_s=0.02, jitter_s=0.03, loss=0.02, split=0.3, reset=0.0002)

WEATHERS: dict[str, Weather] = {
    "none": Weather(0.0, {}, 0.0, LAN),
    "light": Weather(12.0, _LIGHT, 8.0, Link(delay_s=0.005, jitter_s=0.005, loss=0.002, split=0.2)),
    "heavy": Weather(3.0, _HEAVY, 12.0, _BAD_WAY),
    "wild": Weather(2.0, _HEAVY | _ALL_ELSE, 12.0, _BAD_WAY, upheaval=True),
}
ALONE_EVERY_S = 3.0  # between two faults that were asked for by name
ALONE_LASTS_S = 12.0


def weather_of(name: str, *, sorts: frozenset[str]) -> Weather:
    """The mix of that name, or of those faults. Raises UsageError where there is none."""
    if name in WEATHERS:
        return WEATHERS[name]
    chosen = name.split(",")
    unknown = [one for one in chosen if one not in sorts]
    if unknown:
        raise UsageError(f"there is no fault {unknown[0]!r}", hint=f"use {', '.join(WEATHERS)}, or some of: {', '.join(sorted(sorts))}")
    return Weather(ALONE_EVERY_S, dict.fromkeys(chosen, 1), ALONE_LASTS_S, LAN, upheaval=True)
