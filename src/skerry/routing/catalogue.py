"""Capability -> candidates, kept as agent records come and go.

Exact queries are one look-up; those that end in `*` walk the sorted capabilities from their prefix. Whether a node may be believed is
judged when the catalogue is asked, by the caller's `standing`, because grants and revocations come in any order.

The rule: registering twice does not double, and what is withdrawn leaves nothing behind.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Any

CLOSEST_MAX = 3  # names offered where a capability is not known


@dataclass(frozen=True, slots=True)
class Candidate:
    """One agent that offers one capability. `expires` (Unix ms) is its record's.

    formation, contact   of an agent of another formation: its id, and what we call it; empty for ours
    """

    agent: str
    name: str
    node: bytes
    capability: str
    idempotent: bool
    expires: int
    description: str = ""
    streams: bool = False
    restarting: bool = False  # asked last: it may be back by then
    formation: bytes = b""
    contact: str = ""
    payload: dict[str, Any] | None = field(default=None, compare=False)
    result: dict[str, Any] | None = field(default=None, compare=False)
    example: Any = field(default=None, compare=False)
    attributes: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def place(self) -> bytes:
        """Where a task for it is remembered: its node, or at another formation the node that lets us in, whichever that is."""
        return self.formation or self.node


Source = tuple[bytes, str]  # node, agent id: whose offers they are


class Catalogue:
    """All offers that this node knows of."""

    def __init__(self) -> None:
        self._by_capability: dict[str, dict[Source, Candidate]] = {}
        self._by_source: dict[Source, tuple[str, ...]] = {}
        self._sorted: list[str] = []

    def set(self, node: bytes, agent: str, candidates: list[Candidate]) -> None:
        """Everything that an agent offers now; an empty list withdraws it."""
        source = (node, agent)
        for capability in self._by_source.pop(source, ()):
            held = self._by_capability[capability]
            del held[source]
            if not held:
                del self._by_capability[capability]
                del self._sorted[bisect_left(self._sorted, capability)]
        offered = {candidate.capability: candidate for candidate in candidates}  # a card may name one twice
        for candidate in offered.values():
            if candidate.capability not in self._by_capability:
                self._by_capability[candidate.capability] = {}
                insort(self._sorted, candidate.capability)
            self._by_capability[candidate.capability][source] = candidate
        if candidates:
            self._by_source[source] = tuple(offered)

    def find(self, query: str) -> list[Candidate]:
        """All that answer a query, in the order of capability, node and agent."""
        if not query.endswith("*"):
            held = self._by_capability.get(query)
            return _in_order(held) if held else []
        found: list[Candidate] = []
        prefix = query[:-1]
        for capability in self._sorted[bisect_left(self._sorted, prefix) :]:
            if not capability.startswith(prefix):
                break
            found.extend(_in_order(self._by_capability[capability]))
        return found

    def capabilities(self) -> list[str]:
        """All capabilities that somebody offers, sorted."""
        return list(self._sorted)

    def closest(self, query: str) -> list[str]:
        """Known capabilities that somebody may have meant: those of a similar name, whatever their kind."""
        names = {capability: _name(capability) for capability in self._sorted}
        alike = difflib.get_close_matches(_name(query.rstrip("*")), list(dict.fromkeys(names.values())), n=CLOSEST_MAX)
        return [capability for name in alike for capability in self._sorted if names[capability] == name][:CLOSEST_MAX]

    def __len__(self) -> int:
        return len(self._by_source)


def _name(capability: str) -> str:
    """What people remember of a capability, without its kind and without case."""
    return (capability.partition(":")[2] or capability).lower()


def _in_order(held: dict[Source, Candidate]) -> list[Candidate]:
    return [candidate for _, candidate in sorted(held.items(), key=_source)] if len(held) > 1 else list(held.values())


def _source(item: tuple[Source, Candidate]) -> Source:
    return item[0]
