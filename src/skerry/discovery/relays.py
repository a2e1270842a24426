"""Which two members an outbound node is reached over: near ones, that have been linked for a while, and for as long as they serve.

Everybody who wants to reach us has to hear of a change, so the ones we have stay while they answer, unless another is much nearer.

The rule: a relay that goes is replaced at once, one that is only a little slower never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RELAYS = 2  # one may go, and the other is there while a third is found
STEADY_S = 30.0  # linked for so long: it does not come and go
MUCH_NEARER = 0.5  # of the round trip of the one that it replaces
NEAR_MS = 5.0  # below it nobody is much nearer: that is chance


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that relays and has a straight link with us: its round trip, and since when it is linked."""

    node: bytes
    rtt_ms: float
    linked_s: float

    @property
    def cost(self) -> tuple[bool, float, bytes]:
        return self.linked_s < STEADY_S, self.rtt_ms, self.node


def chosen(current: Sequence[bytes], candidates: Sequence[Candidate]) -> tuple[bytes, ...]:
    """The relays from now on, the better one first among those that are new."""
    by_node = {candidate.node: candidate for candidate in candidates}
    kept = [by_node[node] for node in current if node in by_node][:RELAYS]
    others = sorted((c for c in candidates if c.node not in current), key=lambda c: c.cost)
    is_settled = len(kept) == RELAYS
    while len(kept) < RELAYS and others:
        kept.append(others.pop(0))
    if others and is_settled:  # one change at a time: whoever is on the way to us knows one of them still
        worst = max(kept, key=lambda c: c.rtt_ms)
        best = others[0]
        if best.linked_s >= STEADY_S and worst.rtt_ms > NEAR_MS and best.rtt_ms < worst.rtt_ms * MUCH_NEARER:
            kept[kept.index(worst)] = best
    return tuple(candidate.node for candidate in kept)
