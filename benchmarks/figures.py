"""A figure: what was asked for, what was measured, and how that compares with a peer measured in turns with it.

The rule: a figure that was not measured is absent, never a guess; medians of rounds, so that one disturbed round decides nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """What a figure should reach."""

    at_most: float | None = None
    at_least: float | None = None

    def met_by(self, measured: float) -> bool:
        return (self.at_most is None or measured <= self.at_most) and (self.at_least is None or measured >= self.at_least)

    def __str__(self) -> str:
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `rounds`: the values that `measured` is the median of; `ratio`: measured / peer, median of the rounds."""

    name: str
    unit: str
    measured: float
    asked: Asked | None = None
    peer: str = ""
    peer_measured: float | None = None
    ratio: float | None = None
    rounds: Sequence[float] = field(default_factory=tuple)

    @property
    def met(self) -> bool | None:
        """Whether it is what was asked for; None where nothing was."""
        return self.asked.met_by(self.measured) if self.asked is not None else None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "met": self.met}


def figure(name: str, unit: str, rounds: Sequence[float], *, asked: Asked | None = None) -> Figure:
    """The median of several rounds."""
    return Figure(name, unit, statistics.median(rounds), asked, rounds=tuple(rounds))


def beside(name: str, unit: str, rounds: Sequence[float], *, peer: str, peer_rounds: Sequence[float], asked: Asked | None = None) -> Figure:
    """The same, with the rounds of a peer that took turns with it: round by round, so that a change of the machine's mood cancels out."""
    ratios = [ours / theirs for ours, theirs in zip(rounds, peer_rounds, strict=True)]
    return Figure(
        name, unit, statistics.median(rounds), asked, peer, statistics.median(peer_rounds), statistics.median(ratios), tuple(rounds)
    )


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least `percent` of all do not exceed (nearest rank)."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]


def shown(value: float) -> str:
    """Three digits that matter, thousands apart: a benchmark knows no more."""
    if value == 0:
        return "0"
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{digits}f}"
