"""The probes under way, and whom to probe next.

Two kinds, each once a probe interval: the next one on the ring of ids, so that each node is asked by somebody every interval, and everyone
in turn in an order that is shuffled each time round, so that no fault of one neighbour hides another one's end.

The rule: at most one probe of a node is under way, and each ends by its time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection
from dataclasses import dataclass

Fraction = Callable[[], float]


@dataclass(slots=True)
class Probe:
    """`helpers_s`: when others are asked to help; `ends_s`: when it has failed. Of the helpers asked, so many said no, or nothing."""

    node: bytes
    number: int
    began_s: float
    helpers_s: float
    ends_s: float
    asked: int = 0
    nacks: int = 0
    lost: int = 0
    is_refused: bool = False  # nobody answers at its addresses

    @property
    def has_failed(self) -> bool:
        """Before its time: nobody is left who might reach it."""
        return self.is_refused and self.nacks + self.lost >= self.asked


class Probes:
    """Those of one node."""

    def __init__(self, ours: bytes, fraction: Fraction) -> None:
        self._ours = ours
        self._fraction = fraction
        self._by_number: dict[int, Probe] = {}
        self._by_node: dict[bytes, Probe] = {}
        self._next_number = 1
        self._round: list[bytes] = []

    def all(self) -> list[Probe]:
        return list(self._by_number.values())

    def get(self, number: int) -> Probe | None:
        return self._by_number.get(number)

    def of(self, node: bytes) -> Probe | None:
        return self._by_node.get(node)

    def begin(self, node: bytes, *, now_s: float, direct_s: float, limit_s: float) -> Probe:
        assert node not in self._by_node, "one at a time"
        probe = Probe(node, self._next_number, now_s, now_s + direct_s, now_s + limit_s)
        self._next_number += 1
        self._by_number[probe.number] = self._by_node[node] = probe
        return probe

    def end(self, probe: Probe) -> None:
        self._by_number.pop(probe.number, None)
        if self._by_node.get(probe.node) is probe:
            del self._by_node[probe.node]

    def drop(self, node: bytes) -> None:
        """Nobody wants to know any more whether it is there."""
        probe = self._by_node.get(node)
        if probe is not None:
            self.end(probe)

    def shift(self, by_s: float) -> None:
        """So long nothing was heard because we stood still ourselves."""
        for probe in self._by_number.values():
            probe.helpers_s += by_s
            probe.ends_s += by_s

    @property
    def next_s(self) -> float:
        """When one of them has to be looked at."""
        return min((min(p.ends_s, p.helpers_s if not p.asked else p.ends_s) for p in self._by_number.values()), default=float("inf"))

    def neighbour(self, ring: list[bytes]) -> bytes | None:
        """The next one after us on the ring (sorted ids)."""
        return ring[bisect_right(ring, self._ours) % len(ring)] if ring else None

    def in_turn(self, present: Collection[bytes]) -> bytes | None:
        """Each once before one comes again."""
        wanted = set(present)
        while self._round:
            node = self._round.pop()
            if node in wanted:
                return node
        self._round = shuffled(sorted(present), self._fraction)
        return self._round.pop() if self._round else None


def shuffled(nodes: list[bytes], fraction: Fraction) -> list[bytes]:
    """A new list, in an order of chance."""
    return [node for _, node in sorted((fraction(), node) for node in nodes)]
