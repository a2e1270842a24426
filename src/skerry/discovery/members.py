"""The other nodes of the formation, as one node sees them.

The rule: there is one entry for each node that belongs, and none for anybody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from skerry.discovery.claims import Claim
from skerry.discovery.moves import PRESENT, State
from skerry.discovery.suspicion import Suspicion

NEVER_S = float("-inf")


@dataclass(slots=True)
class Member:
    """One other node. `incarnation` 0: it never said one to us.

    said       its own last word
    suspicion  while it is a suspect; without witnesses where it was never heard of
    epitaph    what was said when it was gone, so that it can refute that when it comes back
    heard_s    when a probe began that it answered
    """

    node: bytes
    state: State
    incarnation: int = 0
    said: Claim | None = None
    suspicion: Suspicion | None = None
    epitaph: Claim | None = None
    heard_s: float = NEVER_S

    @property
    def is_present(self) -> bool:
        return self.state in PRESENT


class Members:
    """All of them. `ring`: the ids of those that are present, sorted."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, Member] = {}
        self._ring: list[bytes] | None = None
        self._suspects: dict[bytes, Suspicion] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, node: object) -> bool:
        return node in self._by_id

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_id.values())

    def get(self, node: bytes | None) -> Member | None:
        return self._by_id.get(node) if node is not None else None

    @property
    def ring(self) -> list[bytes]:
        if self._ring is None:
            self._ring = sorted(node for node, member in self._by_id.items() if member.is_present)
        return self._ring

    def suspects(self) -> list[tuple[Member, Suspicion]]:
        return [(self._by_id[node], suspicion) for node, suspicion in self._suspects.items()]

    def add(self, node: bytes, suspicion: Suspicion) -> None:
        """Somebody who was not heard of yet: it has as long as a suspect to show itself."""
        self._by_id[node] = Member(node, State.SUSPECT, suspicion=suspicion)
        self._suspects[node] = suspicion
        self._ring = None

    def drop(self, nodes: list[bytes]) -> None:
        for node in nodes:
            del self._by_id[node]
            self._suspects.pop(node, None)
        self._ring = None

    def turn(self, member: Member, state: State, *, suspicion: Suspicion | None = None, epitaph: Claim | None = None) -> State:
        """It stands otherwise now; returns how it stood before."""
        before, member.state, member.suspicion, member.epitaph = member.state, state, suspicion, epitaph
        self._suspects.pop(member.node, None)
        if suspicion is not None:
            self._suspects[member.node] = suspicion
        if state is not before:
            self._ring = None
        return before
