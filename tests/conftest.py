"""For every test: profiles of Hypothesis, coroutine tests, and the guard that keeps packets on loopback."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import loopback
from tests.support.coroutines import run_test

# ci: the same examples every time, so that a red run is red again. fuzz: fresh ones, many, found failures are kept in .hypothesis/.
settings.register_profile(
    "ci", max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "fuzz",
    max_examples=5000,
    stateful_step_count=100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("SKERRY_TEST_PROFILE", "ci"))

loopback.install()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine functions; with `@given` each example on a loop of its own."""
    test = pyfuncitem.obj
    inner = getattr(getattr(test, "hypothesis", None), "inner_test", None)
    if inner is not None and inspect.iscoroutinefunction(inner):
        test.hypothesis.inner_test = _on_loop(inner)
        return None  # then it is a plain function
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    run_test(test(**arguments))
    return True


def _on_loop(inner: Any) -> Any:
    @functools.wraps(inner)
    def example(*args: Any, **kwargs: Any) -> None:
        run_test(inner(*args, **kwargs))

    return example


@pytest.fixture(autouse=True)
def _stay_on_loopback() -> Iterator[None]:
    loopback.take_escapes()
    yield
    escapes = loopback.take_escapes()
    if escapes:
        pytest.fail(f"a packet would have left this machine: {', '.join(escapes)}")
