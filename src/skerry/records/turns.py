"""With whom a node compares its records next.

In each round: with its neighbours, one of the two with the other; and with one drawn among the rest, so that no circle of neighbours can
shut it in. Who lies or stalls costs a comparison each time, so it is left out of the next 2 rounds, then 4, and so on; of itself it may
ask as before.

The rule: with one node one comparison is under way at a time, and nobody is left out for ever. Chance is a parameter.
"""

from __future__ import annotations

from skerry.records.neighbours import Neighbours

VAIN_ROUNDS_MAX = 64  # left out with a peer whose comparisons lead nowhere: half an hour


class Turns:
    """One node's."""

    def __init__(self, ours: bytes, neighbours: Neighbours) -> None:
        self._ours = ours
        self._neighbours = neighbours
        self._vain: dict[bytes, tuple[int, int]] = {}  # node id -> comparisons with it in a row that led nowhere, rounds to leave it out
        self._under_way: set[bytes] = set()

    def draw(self, linked: set[bytes], *, chance: float) -> list[bytes]:
        """A round begins. `chance`: uniform in [0, 1)."""
        free = {node for node in linked if node not in self._under_way and self._is_its_turn(node)}
        eager = self._neighbours.eager()
        others = sorted(free - eager)
        drawn = [others[int(chance * len(others))]] if others else []
        return [*(node for node in sorted(free & eager) if self._ours < node), *drawn]

    def begin(self, node: bytes) -> None:
        self._under_way.add(node)

    def end(self, node: bytes) -> None:
        self._under_way.discard(node)

    def note(self, node: bytes, *, is_vain: bool) -> None:
        """Whether a comparison led nowhere."""
        times = self._vain.pop(node, (0, 0))[0] + 1
        if is_vain:
            self._vain[node] = (times, min(2 ** min(times, 10), VAIN_ROUNDS_MAX))

    def forget(self, node: bytes) -> None:
        """It is not connected any more."""
        self._vain.pop(node, None)

    def _is_its_turn(self, node: bytes) -> bool:
        times, left = self._vain.get(node, (0, 0))
        if left:
            self._vain[node] = (times, left - 1)
        return not left
