"""Replicas over simulated disks, and the records that go into them."""

from __future__ import annotations

from typing import Any

from skerry.identity.grants import Roster
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Audience, Statement, state
from skerry.ports import Store
from skerry.records.replica import Replica
from skerry.sim.disk import SimDisk
from tests.support.formation import DAY_MS, FORMATION, NOW_MS, OPERATOR


def said(
    author: KeyPair = OPERATOR,
    *,
    kind: str = "agent",
    name: str = "one",
    at_ms: int = NOW_MS,
    counter: int = 0,
    body: dict[str, Any] | None = None,
    expires: int = NOW_MS + DAY_MS,
    formation: bytes = FORMATION,
    audience: Audience = "formation",
) -> Statement:
    """A record. Its body matters to nobody here; an empty one is a tombstone."""
    return state(
        author,
        kind=kind,
        name=name,
        formation=formation,
        audience=audience,
        stamp=stamp_at(at_ms) + counter,
        expires=expires,
        body={"x": 1} if body is None else body,
    )


class Home:
    """A replica, its roster and its store."""

    def __init__(self, ours: KeyPair = OPERATOR, *, disk: SimDisk | None = None, incarnation: str = "sim") -> None:
        self.disk = disk or SimDisk(incarnation=incarnation)
        self.store: Store = self.disk.open()
        self.roster = Roster(FORMATION)
        self.replica = Replica(self.store, formation=FORMATION, roster=self.roster, ours=ours.public)
        self.heard: list[tuple[Statement, bytes]] = []
        self.replica.watch(lambda statement, sender: self.heard.append((statement, sender)))

    def takes(self, *statements: Statement, now_ms: int = NOW_MS) -> list[str]:
        """What came of each: "" where it was taken in, else the reason why not."""
        outcomes = [self.replica.ingest(statement.signed, now_ms=now_ms) for statement in statements]
        return ["" if isinstance(outcome, Statement) else outcome.reason.value for outcome in outcomes]

    def holds(self) -> list[tuple[bytes, str, str, bytes]]:
        """Everything, in an order of its own."""
        kinds = ("revocation", "departure", "grant", "node", "agent")
        return sorted((row.author, row.kind, row.name, row.signed) for kind in kinds for row in self.store.of_kind(kind))
