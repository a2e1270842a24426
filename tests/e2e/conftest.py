"""Fixtures of the tests with real processes, and what a failed one shows."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.support.nodes import Node, Nodes

_worlds: list[Nodes] = []


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Fresh nodes for one test."""
    yield from _world()


@pytest.fixture(scope="module")
def world() -> Iterator[Nodes]:
    """Nodes that the tests of one module share."""
    yield from _world()


@pytest.fixture(scope="module")
def mesh(world: Nodes) -> list[Node]:
    """Three linked nodes that the tests of one module share: alpha, who founded, beta and gamma."""
    return world.mesh("alpha", "beta", "gamma")


def _world() -> Iterator[Nodes]:
    world = Nodes()
    _worlds.append(world)
    try:
        yield world
    finally:
        _worlds.remove(world)
        world.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside a failure stands what the nodes had to say."""
    report = yield
    if report.failed and call.when != "teardown":
        report.sections.extend(("what the nodes wrote", world.log_text()) for world in _worlds)
    return report
