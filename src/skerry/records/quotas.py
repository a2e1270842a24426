"""How many records each author has here: what stands, and what it took back, apart.

What an author has taken back must be remembered for 30 days, or it would come back; but who makes and removes many agents must not be
refused new ones for that. So tombstones have a bound of their own, and there the oldest go: most of what they ended is over by itself.

The rule: what one author can make a node hold is bounded, and what was taken back makes room.
"""

from __future__ import annotations

from skerry.ports import Row, Store
from skerry.records.record import KINDS

TOMBSTONES_EACH = 4  # times what an author may have of a kind: so many more it may have taken back within 30 days
COUNTS_MAX = 10_000


class Quotas:
    """Counts of one store, remembered: a pull brings an author's records together, and each is counted again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._losses = store.losses
        self._counts: dict[tuple[bytes, str, bool], int] = {}

    def has_room(self, author: bytes, kind: str, *, tombstone: bool) -> bool:
        """Whether an author may have one more name of a kind. A tombstone always comes in: see `surplus`."""
        limits = KINDS.get(kind)
        return limits is None or tombstone or self._count(author, kind, False) < limits.author_max

    def surplus(self, author: bytes, kind: str) -> Row | None:
        """The tombstone that is to go because its author has too many: of all the first that was said."""
        if self._count(author, kind, True) <= TOMBSTONES_EACH * KINDS[kind].author_max:
            return None
        return self._store.first_tombstone(author, kind)

    def changed(self, old: Row | None, new: Row | None) -> None:
        """A row came, went or was replaced."""
        if old is not None and (counted := (old.author, old.kind, old.tombstone)) in self._counts:
            self._counts[counted] -= 1
        if new is not None and (counted := (new.author, new.kind, new.tombstone)) in self._counts:
            self._counts[counted] += 1

    def _count(self, author: bytes, kind: str, tombstone: bool) -> int:
        if self._losses != self._store.losses or len(self._counts) > COUNTS_MAX:
            self._counts, self._losses = {}, self._store.losses
        found = self._counts.get((author, kind, tombstone))
        if found is None:
            found = self._counts[author, kind, tombstone] = self._store.count(author, kind, tombstone=tombstone)
        return found
