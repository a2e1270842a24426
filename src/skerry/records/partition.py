"""One formation's part of a store, as if it were a store of its own.

The rule: whoever is handed a partition sees, counts, changes and deletes what is in it and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from skerry.ports import Fact, Row, Store


class Partition:
    """A store as one other formation's replica sees it: that formation's records, and nothing else's."""

    def __init__(self, store: Store, formation: bytes) -> None:
        self._store = store
        self._formation = formation

    @property
    def incarnation(self) -> str:
        return self._store.incarnation

    def put(self, row: Row, *, durable: bool = False) -> int:
        return self._store.put(row._replace(formation=self._formation), durable=durable)

    def add(self, row: Row, *, durable: bool = False) -> int | None:
        return self._store.add(row._replace(formation=self._formation), durable=durable)

    def get(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> Row | None:
        return self._store.get(author, kind, name, formation=self._formation)

    def since(self, seq: int, limit: int, *, formation: bytes = b"") -> list[Row]:
        return self._store.since(seq, limit, formation=self._formation)

    def of_kind(self, kind: str, *, author: bytes | None = None, formation: bytes = b"") -> list[Row]:
        return self._store.of_kind(kind, author=author, formation=self._formation)

    def at(self, stamp: int, digest: bytes, *, formation: bytes = b"") -> Row | None:
        return self._store.at(stamp, digest, formation=self._formation)

    def of_author(self, author: bytes, *, after_stamp: int, limit: int, formation: bytes = b"") -> list[Row]:
        return self._store.of_author(author, after_stamp=after_stamp, limit=limit, formation=self._formation)

    def ending(self, kind: str, *, after_ms: int, until_ms: int, limit: int, formation: bytes = b"") -> list[Row]:
        return self._store.ending(kind, after_ms=after_ms, until_ms=until_ms, limit=limit, formation=self._formation)

    def newest_stamp(self, *, formation: bytes = b"") -> int:
        return self._store.newest_stamp(formation=self._formation)

    def authors(self, *, formation: bytes = b"") -> list[bytes]:
        return self._store.authors(formation=self._formation)

    @property
    def losses(self) -> int:
        return self._store.losses

    def count(self, author: bytes, kind: str, *, tombstone: bool = False, formation: bytes = b"") -> int:
        return self._store.count(author, kind, tombstone=tombstone, formation=self._formation)

    def first_tombstone(self, author: bytes, kind: str, *, formation: bytes = b"") -> Row | None:
        return self._store.first_tombstone(author, kind, formation=self._formation)

    def delete(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> None:
        self._store.delete(author, kind, name, formation=self._formation)

    def formations(self) -> list[bytes]:
        return [self._formation]

    def set_offers(self, author: bytes, agent: str, capabilities: Sequence[str], *, formation: bytes = b"") -> None:
        self._store.set_offers(author, agent, capabilities, formation=self._formation)

    def offering(self, low: str, high: str, *, formation: bytes = b"") -> list[Row]:
        return self._store.offering(low, high, formation=self._formation)

    def last_seq(self) -> int:
        return self._store.last_seq()

    def fact(self, space: str, key: str) -> bytes | None:
        return self._store.fact(f"{self._formation.hex()}/{space}", key)

    def set_fact(self, space: str, key: str, value: bytes | None, *, durable: bool = False) -> None:
        self._store.set_fact(f"{self._formation.hex()}/{space}", key, value, durable=durable)

    def keep_together(self, facts: Sequence[Fact]) -> None:
        self._store.keep_together([(f"{self._formation.hex()}/{space}", key, value) for space, key, value in facts])

    def facts(self, space: str) -> list[tuple[str, bytes]]:
        return self._store.facts(f"{self._formation.hex()}/{space}")

    def commit(self) -> None:
        self._store.commit()

    def close(self) -> None:
        """The store is its owner's to close."""
