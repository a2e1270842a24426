"""An hour of virtual time leaves everything as it was, and what grows is seen."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.node.tasks import Tasks
from skerry.routing.ledger import Entry, Ledger
from skerry.sim.checkers.tables import grown, sizes
from skerry.sim.steady import live


def test_nothing_grows_over_an_hour() -> None:
    steady = live(5, seconds=3600)
    assert steady.virtual_s >= 3600
    assert steady.calls > 1000
    assert steady.attacks > 50
    assert steady.grown == [], str(steady)
    assert steady.pace > 20, f"slow even for a busy machine: {steady}"


def test_a_table_that_nobody_told_the_checker_of_is_seen_to_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Tasks.run

    async def run_and_keep(self: Any, task: Any, **options: Any) -> Any:
        self._seen = [*getattr(self, "_seen", []), task.id]
        return await run(self, task, **options)

    monkeypatch.setattr(Tasks, "run", run_and_keep)
    steady = live(3, seconds=600, attacked=False)
    assert any(what.startswith("Tasks._seen: ") for what in steady.grown), str(steady)


def test_what_is_counted_is_there() -> None:
    before = sizes()
    more = [Ledger(start_ms=0) for _ in range(100)]
    more[0]._entries.update({(b"", bytes([number])): Entry(0, 0) for number in range(100)})
    after = sizes()
    found = [what.partition(":")[0] for what in grown(before, after)]
    assert {"objects of Ledger", "objects of Entry", "Ledger._entries"} <= set(found)
    assert not grown(after, after)
