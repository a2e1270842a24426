"""How a command asks the local node: connect, ask, hand the reply on.

The rule: a command holds a connection no longer than it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from skerry.channel.messages import pack_message, unpack_message
from skerry.cli.options import home_of, ticket_text
from skerry.client.mesh import Mesh, connect
from skerry.node.verbs import AskReply, AskRequest

T = TypeVar("T")
R = TypeVar("R")


def ask(
    home: Path | None,
    verb: str,
    request: Any,
    reply: type[T],
    *,
    node: str | None = None,
    ticket: str | None = None,
    timeout_s: float = 30.0,
) -> T:
    """One verb, one reply; put to another node, in the local one's name, where `node` names it."""
    return with_mesh(home, lambda mesh: ask_mesh(mesh, verb, request, reply, node=node, timeout_s=timeout_s), ticket=ticket)


async def ask_mesh(mesh: Mesh, verb: str, request: Any, reply: type[T], *, node: str | None = None, timeout_s: float = 30.0) -> T:
    """As `ask`, over a connection that is open."""
    if not node:
        return await mesh.ask(verb, request, reply, timeout=timeout_s)
    relayed = AskRequest(node, verb, pack_message(request), timeout_s)
    return unpack_message(reply, (await mesh.ask("node.ask", relayed, AskReply, timeout=timeout_s + 1)).body)


def with_mesh(home: Path | None, work: Callable[[Mesh], Coroutine[Any, Any, R]], *, ticket: str | None = None) -> R:
    """Run `work` with a connection to the local node; as a client of whichever node answers, where there is a ticket."""

    async def go() -> R:
        async with connect(home_of(home), ticket=ticket_text(ticket) if ticket else None) as mesh:
            return await work(mesh)

    return asyncio.run(go())
