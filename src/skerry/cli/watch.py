"""`skerry status --watch`: the same view again and again, until q or Ctrl-C.

The rule: a node that goes away is said, and looked for again; the terminal is left as it was found. Nothing is wider than the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from skerry.agents.verbs import AgentInfo, AgentList
from skerry.cli.output import age, print_json
from skerry.client.mesh import connect
from skerry.errors import SkerryError, UsageError
from skerry.node.verbs import Nothing, StatusReply

EVERY_S = 1.0
ASK_TIMEOUT_S = 5.0
NAME_WIDTH_MAX = 24  # columns of 80: two of them, a status and a list fit beside each other
_GOOD = frozenset({"alive", "available", "self", "up", "valid"})
_BAD = frozenset({"failed", "gone", "unhealthy", "revoked", "expired"})


def watch(home: Path) -> None:
    """Draw until told to end. Raises UsageError where stdout is no terminal."""
    if not sys.stdout.isatty():
        raise UsageError("--watch draws on a terminal, and this is none", hint="use -o jsonl for one line a second")
    with _keys() as keys, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_draw(home, keys))


def lines(home: Path) -> None:
    """One JSON object a second, for programs."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_print(home))


async def _print(home: Path) -> None:
    while True:
        async with connect(home) as mesh:
            while True:
                print_json(await mesh.ask("node.status", Nothing(), StatusReply, timeout=ASK_TIMEOUT_S))
                await asyncio.sleep(EVERY_S)


async def _draw(home: Path, keys: int | None) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    if keys is not None:
        loop.add_reader(keys, lambda: _key(keys, over))
    try:
        with Live(Text("..."), console=Console(), screen=True, auto_refresh=False) as live:
            while not over.is_set():
                try:
                    await _draw_from(home, live, over)
                except SkerryError as error:
                    live.update(Group(Text(error.message, style="bold red"), Text("looking again; q ends", style="dim")), refresh=True)
                    await _wait(over)
    finally:
        if keys is not None:
            loop.remove_reader(keys)


async def _draw_from(home: Path, live: Live, over: asyncio.Event) -> None:
    async with connect(home) as mesh:
        while not over.is_set():
            status = await mesh.ask("node.status", Nothing(), StatusReply, timeout=ASK_TIMEOUT_S)
            agents = await mesh.ask("agent.list", Nothing(), AgentList, timeout=ASK_TIMEOUT_S)
            live.update(picture(status, agents.agents, at=time.strftime("%H:%M:%S")), refresh=True)
            await _wait(over)


async def _wait(over: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EVERY_S):
            await over.wait()


def picture(status: StatusReply, agents: list[AgentInfo], *, at: str) -> RenderableType:
    """One node's view of the mesh."""
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(status.name, style="bold")
    head.append(f" ({status.id[:10]})  {status.role or 'no member'} of {status.formation[:10]}  up {age(status.started_at)}")
    doors = Text(f"mesh {status.listen}   http {status.http}   {status.connections} connections", no_wrap=True, overflow="ellipsis")
    nodes = _table("NODE", "ROLE", "GRANT", "IS", "AGENTS", "LINK")
    for info in status.nodes:
        nodes.add_row(info.name or info.id[:10], info.role, _state(info.state), _state(info.presence), str(info.agents), _state(info.link))
    listed = _table("AGENT", "NODE", "STATUS", "OFFERS")
    for agent in agents:
        stands = _state(agent.status) if agent.reachable else Text(f"{agent.status}?", style="yellow")
        listed.add_row(agent.name, agent.node_name, stands, ", ".join(agent.capabilities) or agent.detail)
    warnings = [Text(f"warning: {warning}", style="yellow") for warning in status.warnings]
    parts: list[RenderableType] = [head, doors, Text(), nodes, Text(), listed if agents else Text("no agents", style="dim")]
    return Group(*parts, *([Text(), *warnings] if warnings else []), Text(), Text(f"{at}  q ends", style="dim"))


def _table(*columns: str) -> Table:
    """The last column takes what the others leave; a name of any length leaves them room."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=NAME_WIDTH_MAX)
    table.add_column(columns[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _state(text: str) -> Text:
    return Text(text, style="green" if text in _GOOD else "red" if text in _BAD else "yellow")


def _key(descriptor: int, over: asyncio.Event) -> None:
    pressed = os.read(descriptor, 64)
    if not pressed or pressed[:1] in b"qQ\x03\x04":
        over.set()


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """The terminal's keys one by one, and not shown; None where stdin is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before: Any = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
