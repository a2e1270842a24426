"""To whom a node passes on at once what is new: a few of those that it has links to, so that everybody hears it and few hear it twice.

All nodes lie on `RINGS` rings, on each in the order of a hash of the ring's number, the formation and their ids. A node's neighbours are
the next and the one before on each ring, among those that it has links to. Where all have links to all, both ends come to the same
result without a word, and the whole is a union of two random cycles: connected by its making, each node with 4 neighbours, and of a
diameter that grows with the logarithm (7 at 200 nodes, 9 at 2000). A record passes each edge once, or twice where it crosses itself, so a
node hears it about 2 and at most 4 times.

Where links are few, the two ends may see different rings; so a node tells those it chose, and they pass on to it too. Where a node has 4
links or fewer all are chosen, so a tree or a line of links carries a record to its last leaf.

The rule: who is linked decides, at once: a link that comes or goes mends the rings by itself. What is lost on the way, and what a
neighbour swallows, is for the comparisons of `exchange.py`, which also go to others than neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from blake3 import blake3

RINGS = 2  # one would carry everything too, in a hundred hops; with three each would hear it 3 times
ASKED_MAX = 256  # peers that may have us pass on to them beside our own choice: all of a formation at a node that all can reach


class Neighbours:
    """One node's choice."""

    def __init__(self, ours: bytes, *, formation: bytes) -> None:
        self._ours = ours
        self._formation = formation
        self._linked: set[bytes] = set()
        self._rings: list[list[tuple[bytes, bytes]]] = [[] for _ in range(RINGS)]  # (place, node), in order, without ourselves
        self._asked: dict[bytes, None] = {}
        self._told: set[bytes] = set()

    def link_up(self, node: bytes) -> None:
        """There is a link to a node."""
        if node not in self._linked:
            self._linked.add(node)
            for number, ring in enumerate(self._rings):
                insort(ring, (self._place(number, node), node))

    def link_down(self, node: bytes) -> None:
        if node in self._linked:
            self._linked.discard(node)
            for number, ring in enumerate(self._rings):
                del ring[bisect_left(ring, (self._place(number, node), node))]
        self._asked.pop(node, None)
        self._told.discard(node)

    def asks(self, node: bytes, *, wanted: bool) -> None:
        """A node says whether it chose us."""
        if not wanted:
            self._asked.pop(node, None)
        elif node in self._linked and len(self._asked) < ASKED_MAX:
            self._asked[node] = None

    def chosen(self) -> set[bytes]:
        """Those that we chose ourselves."""
        found: set[bytes] = set()
        for number, ring in enumerate(self._rings):
            if ring:
                at = bisect_left(ring, (self._place(number, self._ours), self._ours))
                found.update((ring[at % len(ring)][1], ring[at - 1][1]))
        return found if len(self._linked) > 2 * RINGS else set(self._linked)

    def eager(self) -> set[bytes]:
        """All to whom what is new goes at once."""
        return self.chosen() | self._asked.keys()

    def to_tell(self) -> list[tuple[bytes, bool]]:
        """Whom to tell that we chose them, or do no more, since this was last asked."""
        chosen = self.chosen()
        news = [(node, node in chosen) for node in sorted(chosen ^ self._told)]
        self._told = chosen
        return news

    def _place(self, ring: int, node: bytes) -> bytes:
        return blake3(bytes([ring]) + self._formation + node).digest(length=16)
