"""Which agents offer a capability, by an index of the store, so that a look-up costs the same among a thousand records and a million.

Cards are read once, when their record comes, and what they offer is noted beside it; looking up reads the few records that offer it. A
note says where to look and nothing else: what stands there now is judged when it is read, as with every record.

The rule: nothing is found that its record does not say. `now_ms` is a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from skerry.identity.statement import Statement, parse_unverified
from skerry.ports import Store
from skerry.records.record import expired

FACTS = "offers"  # the space of facts
NOTED = "noted"  # every record that was here has been read: homes of earlier releases have none noted
_LAST = "\U0010ffff"


class Offers:
    """Of one node's own formation."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def are_noted(self) -> bool:
        """Whether all records that came before now have been noted."""
        return self._store.fact(FACTS, NOTED) is not None

    def all_noted(self) -> None:
        self._store.set_fact(FACTS, NOTED, b"1")

    def note(self, author: bytes, agent: str, capabilities: Sequence[str]) -> None:
        """What an agent's record offers from now on; nothing withdraws it."""
        self._store.set_offers(author, agent, capabilities)

    def find(self, query: str, *, now_ms: int) -> Iterator[Statement]:
        """The records of agents that offer a capability, or one that begins so where the query ends in `*`; each once, none that is gone
        or expired. Whoever reads them judges the author."""
        is_open = query.endswith("*")
        low, high = (query[:-1], query[:-1] + _LAST) if is_open else (query, query + "\0")
        for row in self._store.offering(low, high):
            if not row.tombstone and not expired(row.expires, now_ms=now_ms):
                yield parse_unverified(row.signed)[0]
