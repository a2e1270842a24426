"""Runs `async def test_*` functions: a fresh loop for each, and nothing that goes wrong on it stays unseen.

What a loop would only log (a task whose exception nobody read, a callback that raised) fails the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class UnhandledOnLoop(AssertionError):
    """The event loop reported what no code handled."""


def run_test(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run it to its end on a loop of its own; a test that sets an exception handler of its own takes this over."""
    reports: list[dict[str, Any]] = []
    with asyncio.Runner(debug=False) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: reports.append(context))
        runner.run(coroutine)
    if reports:
        told = "; ".join(f"{report['message']}: {report.get('exception')!r}" for report in reports)
        raise UnhandledOnLoop(told) from reports[0].get("exception")
