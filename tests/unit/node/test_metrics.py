"""What a node counts: the text format, the closed lists of labels, and what counting costs."""

from __future__ import annotations

import asyncio
import re
import timeit
from pathlib import Path

import pytest

from skerry.errors import Code, Refused, StorageError
from skerry.node import operations
from skerry.node.metrics import OTHER, TASK_BUCKETS_S, NodeMetrics, Registry
from skerry.routing.dispatch import OK
from skerry.routing.task import Request
from tests.support.node_here import node_here

COST_S_MAX = 1e-6  # of one count, which every call pays


def test_a_counter_and_its_labels() -> None:
    registry = Registry()
    counter = registry.counter("x_total", "What x is.", "verb", "outcome")
    counter.add("b", OK)
    counter.add("a", 'q"\\\n')
    counter.add("b", OK)
    assert registry.text() == (
        '# HELP x_total What x is.\n# TYPE x_total counter\nx_total{verb="a",outcome="q\\"\\\\\\n"} 1\nx_total{verb="b",outcome="ok"} 2\n'
    )


def test_a_histogram_counts_what_is_below_each_bound() -> None:
    registry = Registry()
    histogram = registry.histogram("t_seconds", "Times.", bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert registry.text().splitlines()[2:] == [
        't_seconds_bucket{le="0.1"} 2',
        't_seconds_bucket{le="1"} 3',
        't_seconds_bucket{le="+Inf"} 4',
        "t_seconds_sum 7.65",
        "t_seconds_count 4",
    ]


def test_a_reading_is_taken_when_somebody_asks() -> None:
    registry = Registry()
    now = {"": 1.5}
    registry.gauge("g", "A gauge.", lambda: now)
    assert registry.text().endswith("\ng 1.5\n")
    now[""] = 123456789.0
    assert registry.text().endswith("\ng 123456789\n")


async def test_a_node_counts_what_it_does(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        with pytest.raises(Refused):
            await node.dispatcher.call(Request("custom:nobody", b"", ""), timeout_s=1)
        node.metrics.called("ping")
        node.metrics.failed("node.show", Refused("no", code=Code.NOT_FOUND))
        node.metrics.failed("node.revoke", StorageError("full", code=Code.DISK_FULL))
        lines = node.metrics.text().splitlines()
    assert 'skerry_calls_total{verb="ping",outcome="ok"} 1' in lines
    assert 'skerry_calls_total{verb="node.show",outcome="not_found"} 1' in lines
    assert "skerry_store_errors_total 1" in lines
    assert 'skerry_task_seconds_count{outcome="unknown_capability"} 1' in lines
    assert 'skerry_links{to="node"} 0' in lines
    assert 'skerry_nodes{link="up"} 1' in lines
    assert 'skerry_records{kind="node"} 1' in lines
    assert 'skerry_agents{status="available"} 0' in lines
    assert all(re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{[^{}]+\})? -?[\d.e+-]+", line) for line in lines)


async def test_a_record_that_is_refused_is_counted(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        node.federation._ingest([b"garbage"], b"\1" * 32)
        assert 'skerry_records_refused_total{reason="malformed"} 1' in node.metrics.text()


async def test_nobody_makes_up_labels(tmp_path: Path) -> None:
    """What a peer says is no label: neither its verbs nor its codes."""
    async with node_here(tmp_path) as node:
        for number in range(100):
            node.metrics.called(f"verb-{number}", f"code-{number}")
            node.metrics.task_ended(f"code-{number}", 0.1)
        text = node.metrics.text()
    assert f'verb="{OTHER}",outcome="{OTHER}"}} 100' in text
    assert "verb-1" not in text
    assert "code-1" not in text


async def test_counting_costs_less_than_a_microsecond(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        metrics: NodeMetrics = node.metrics
        times = 20_000
        called = min(timeit.repeat(lambda: metrics.called("task.run"), number=times, repeat=5)) / times
        ended = min(timeit.repeat(lambda: metrics.task_ended(OK, 0.0005), number=times, repeat=5)) / times
    assert max(called, ended) < COST_S_MAX


async def test_every_metric_is_documented(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    async with node_here(tmp_path) as node:
        names = node.metrics.registry.names()
    assert len(names) > 10
    assert [name for name in names if f"`{name}`" not in page] == []


def test_buckets_cover_a_call_and_a_long_generation() -> None:
    assert tuple(sorted(set(TASK_BUCKETS_S))) == TASK_BUCKETS_S
    assert TASK_BUCKETS_S[0] <= 0.001
    assert TASK_BUCKETS_S[-1] >= 60
    assert set(operations.VERBS) >= {"task.run", "task.call"}
    assert not asyncio.iscoroutinefunction(NodeMetrics.called)
