"""How a command asks the local node: connect, ask, hand the reply on.

The rule: a command holds a connection no longer than it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from skerry.cli.options import home_of
from skerry.client.mesh import Mesh, connect

T = TypeVar("T")
R = TypeVar("R")


def ask(home: Path | None, verb: str, request: Any, reply: type[T], *, timeout_s: float = 30.0) -> T:
    """One verb, one reply."""

    async def go(mesh: Mesh) -> T:
        return await mesh.ask(verb, request, reply, timeout=timeout_s)

    return with_mesh(home, go)


def with_mesh(home: Path | None, work: Callable[[Mesh], Coroutine[Any, Any, R]]) -> R:
    """Run `work` with a connection to the local node."""

    async def go() -> R:
        async with connect(home_of(home)) as mesh:
            return await work(mesh)

    return asyncio.run(go())
