"""How much is measured: enough to judge a change by, or just enough for CI to see that everything can be measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Plan:
    """`folder` is a benchmark's own; `seconds`: of one turn; `starts`: how often something is started anew."""

    folder: Path
    rounds: int
    seconds: float
    starts: int
    idle_s: float
    peers: bool

    @classmethod
    def of(cls, folder: Path, *, short: bool, peers: bool) -> Plan:
        if short:
            return cls(folder, rounds=2, seconds=0.4, starts=2, idle_s=2.0, peers=peers)
        return cls(folder, rounds=7, seconds=1.0, starts=10, idle_s=10.0, peers=peers)
