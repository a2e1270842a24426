"""Work that would hold up the event loop, beside it: sync handlers, model runs, token generation.

A thread can't be ended from outside, only asked. So a cancelled call asks (`on_cancel`), and comes back when the work has really
ended: two tasks never run in one agent by accident. Work that does not listen is ended with its process, by the host.

The rule: when `run` returns or raises, nothing of that work runs any more.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """A small pool of its own, so that no library's use of the loop's default pool gets in its way."""

    def __init__(self, name: str, *, count: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)

    async def run(self, work: Callable[..., T], *arguments: Any, on_cancel: Callable[[], None] | None = None) -> T:
        """`work(*arguments)` in a thread, with this task's context variables."""
        context = contextvars.copy_context()
        future = self._pool.submit(context.run, work, *arguments)
        waiting = asyncio.wrap_future(future)
        cancelled: asyncio.CancelledError | None = None
        while not waiting.done():
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError as error:
                cancelled = error
                future.cancel()  # takes it out of the queue, if it has not begun
                if on_cancel is not None:
                    on_cancel()
        if cancelled is not None:
            if not waiting.cancelled():
                waiting.exception()  # the caller is gone: nobody is left to tell
            raise cancelled
        return waiting.result()

    def close(self) -> None:
        """Take no more. What runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
