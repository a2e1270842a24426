"""The short form of `make soak`: a few nodes, some seconds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.formation import MARGINS, Held, Plan, Report, formed, soak, table

PLAN = Plan(nodes=6, seconds=15.0, rate=40.0, clients=3, report_s=5.0)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it looks at processes from outside, which only Linux lets it")
def test_nodes_that_are_called_steadily_fail_nothing_and_do_not_grow() -> None:
    said: list[str] = []
    with formed(PLAN.nodes, said.append) as nodes:
        report = asyncio.run(soak(nodes, PLAN, said.append))
    assert report.good, "\n".join([*said, table(report), str(report.failed), *report.grown])
    assert report.calls > PLAN.rate * PLAN.seconds / 2
    assert len(report.end) == PLAN.nodes


def test_what_fails_or_grows_is_seen() -> None:
    held = Held(60.0, 30, 10, 40, 1.0)
    assert Report(calls=1, warm={"a": held}, end={"a": held}).good
    assert not Report(calls=0, warm={"a": held}, end={"a": held}).good
    for what, margin in MARGINS.items():
        within = Report(calls=1, warm={"a": held}, end={"a": replace(held, **{what: getattr(held, what) + margin})})
        assert within.good
        beyond = Report(calls=1, warm={"a": held}, end={"a": replace(held, **{what: getattr(held, what) + margin + 1})})
        assert what in beyond.grown[0]
        assert not beyond.good
    report = Report(calls=1)
    report.failed["busy: no"] += 1
    assert not report.good
