"""What a node thinks of others outlives it, and is in none of its records."""

from __future__ import annotations

from pathlib import Path

from skerry.node import scores
from skerry.records.store import SqliteStore
from skerry.routing.reputation import Deed, Reputation, TaskRecord
from tests.support.formation import NOW_MS
from tests.support.node_here import node_here


def test_scores_come_back_and_who_was_forgiven_does_not(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "skerry.db")
    before = Reputation()
    for subject in ("agent:one", "agent:two"):
        before.record(subject, TaskRecord(Deed.FAILURE), now_ms=NOW_MS)
    scores.keep(before, store)
    before.forgive("agent:two")
    scores.keep(before, store)
    store.commit()
    store.close()
    store = SqliteStore(tmp_path / "skerry.db")
    after = Reputation()
    scores.restore(after, store)
    store.close()
    assert after.top(9, now_ms=NOW_MS) == before.top(9, now_ms=NOW_MS)
    assert len(after.top(9, now_ms=NOW_MS)) == 1


async def test_a_node_that_ends_in_order_writes_them_down(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        node.dispatcher.reputation.record("agent:one", TaskRecord(Deed.SUCCESS), now_ms=NOW_MS)
        records = {row.kind for row in node.ports.store.since(0, 99)}
        path = next(tmp_path.glob("*.db"))
    store = SqliteStore(path)
    assert [subject for subject, _ in store.facts(scores.SPACE)] == ["agent:one"]
    assert records <= {"node", "grant"}
    store.close()
