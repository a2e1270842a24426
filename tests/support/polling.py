"""Waiting for something to become true, with a deadline: the only place in the tests that sleeps.

A fixed sleep is either too short on a busy machine or too long on a quick one. A poll is as long as it has to be.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

INTERVAL_S = 0.01  # short beside what we wait for, long beside what a check costs


def poll_until(predicate: Callable[[], T], timeout_s: float = 10.0, *, what: str = "") -> T:
    """The first true value of `predicate`. Fails the test, naming `what` was awaited and the last value, after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(_too_late(predicate, timeout_s, what, value))
        time.sleep(INTERVAL_S)


@overload
async def async_poll_until(predicate: Callable[[], Awaitable[T]], timeout_s: float = ..., *, what: str = ...) -> T: ...
@overload
async def async_poll_until(predicate: Callable[[], T], timeout_s: float = ..., *, what: str = ...) -> T: ...
async def async_poll_until(predicate: Callable[[], Any], timeout_s: float = 10.0, *, what: str = "") -> Any:
    """`poll_until` on the running loop; `predicate` may be async. Time is the loop's, so it works in virtual time too."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while True:
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if loop.time() >= end:
            raise AssertionError(_too_late(predicate, timeout_s, what, value))
        await asyncio.sleep(INTERVAL_S)


def _too_late(predicate: object, timeout_s: float, what: str, value: object) -> str:
    return f"not true within {timeout_s:g} s: {what or getattr(predicate, '__qualname__', predicate)}; last seen: {value!r}"
