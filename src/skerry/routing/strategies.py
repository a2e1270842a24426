"""Choose one: plain functions over candidates and what this node has measured itself.

The rule: whoever was measured last is not punished for having been measured, and a node that did not answer is asked last, not never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from skerry.routing.catalogue import Candidate

DECAY_S = 10.0  # the time constant of the moving average
DOWN_S = 5.0  # how long a node that could not be reached is asked last


class Latency:
    """A peak-aware moving average of the latency of one target, in seconds (as in Finagle's peak EWMA).

    A sample above the average replaces it at once, one below draws it down: value = value * w + sample * (1 - w), w = exp(-elapsed / 10 s).
    """

    __slots__ = ("_at", "value_s")

    def __init__(self) -> None:
        self.value_s = 0.0
        self._at = 0.0

    def observe(self, sample_s: float, *, now_s: float) -> None:
        if sample_s > self.value_s:
            self.value_s = sample_s
        else:
            weight = math.exp(-(now_s - self._at) / DECAY_S)
            self.value_s = self.value_s * weight + sample_s * (1 - weight)
        self._at = now_s


class Measured:
    """What this node saw of its own calls: latency by target, and who was down when."""

    def __init__(self) -> None:
        self._latency: dict[tuple[bytes, str, str], Latency] = {}
        self._down: dict[bytes, float] = {}

    def succeeded(self, candidate: Candidate, *, latency_s: float, now_s: float) -> None:
        self._latency.setdefault(_key(candidate), Latency()).observe(latency_s, now_s=now_s)
        self._down.pop(candidate.node, None)

    def unreachable(self, node: bytes, *, now_s: float) -> None:
        self._down[node] = now_s

    def is_down(self, node: bytes, *, now_s: float) -> bool:
        at = self._down.get(node)
        return at is not None and now_s - at < DOWN_S

    def latency_s(self, candidate: Candidate) -> float | None:
        """None where nothing was measured yet."""
        known = self._latency.get(_key(candidate))
        return known.value_s if known is not None else None

    def forget(self, agent: str) -> None:
        for key in [key for key in self._latency if key[1] == agent]:
            del self._latency[key]


def by_lowest_latency(
    candidates: Sequence[Candidate], measured: Measured, *, ours: bytes, fraction: Callable[[], float], now_s: float
) -> list[Candidate]:
    """Best first: nodes that answer, agents that are up, local ones, the unmeasured (so that they are), the quickest; then chance."""

    def rank(candidate: Candidate) -> tuple[bool, bool, bool, float, float]:
        latency_s = measured.latency_s(candidate)
        return (
            measured.is_down(candidate.node, now_s=now_s),
            candidate.restarting,
            candidate.node != ours,
            latency_s if latency_s is not None else 0.0,
            fraction() if len(candidates) > 1 else 0.0,
        )

    return list(candidates) if len(candidates) == 1 else sorted(candidates, key=rank)


def _key(candidate: Candidate) -> tuple[bytes, str, str]:
    return (candidate.node, candidate.agent, candidate.capability)
