"""Stays connected: every node that ours knows of is dialled, and dialled again after a loss, with jittered backoff.

Of two nodes the one with the lower id dials at once, the other one a little later, so that as a rule only one of them does.

Up to `MESH_MAX` nodes each keeps a link to each. Above, a node keeps those to the nodes that stand 1, 2, 4, 8 ... places beside it on the
ring of ids: any two are a few steps apart, both ends of a link come to the same answer, and their number grows with the logarithm. Other
links open when somebody wants them, and close when nobody used them for a while.

The rule: a node that is down costs one dial per wait, and the waits grow to half a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Protocol

from skerry.channel.links import Links
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.keys import short
from skerry.ports import Random, backoff, jitter

FIRST_S = 0.5
MOST_S = 30.0
DIAL_TIMEOUT_S = 5.0
MESH_MAX = 200  # nodes, ours counted, up to which all are linked with all: an idle link costs 70 KB and 2 B/s
POLITE_S = 0.4  # how long the higher id lets the lower one dial first
log = logging.getLogger(__name__)


class Wanted(Protocol):
    """The nodes to have links to, without our own."""

    def all(self) -> dict[bytes, tuple[str, ...]]:
        """Node id -> addresses."""

    def of(self, node: bytes) -> tuple[str, ...]:
        """The addresses of one; empty where it is none of them."""


class Keeper:
    """One task per node that we want a link to."""

    def __init__(self, ours: bytes, links: Links, wanted: Wanted, random: Random) -> None:
        self._ours = ours
        self._links = links
        self._wanted = wanted
        self._random = random
        self._known: set[bytes] = set()  # whom we wanted when we last looked
        self._kept: set[bytes] = self._known  # those of them to keep a link to
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._wake: dict[bytes, asyncio.Event] = {}
        self._used: set[bytes] = set()  # nodes that somebody wanted, or that asked something, since the last look for idle links
        self.last_error: dict[bytes, SkerryError] = {}

    def look(self, *, only: bytes = b"") -> None:
        """Whom we want changed, or a link went: see to it. `only`: all but that node stand as they stood."""
        if only and self._is_small_change(only):
            if only in self._kept:
                self._keep(only)
            elif only in self._tasks:
                self._tasks.pop(only).cancel()
            return
        self._know(set(self._wanted.all()))
        for node in sorted(self._kept):
            self._keep(node)
        for node in [node for node in self._tasks if node not in self._kept]:
            self._tasks.pop(node).cancel()

    def _is_small_change(self, node: bytes) -> bool:
        """Note whether a node is wanted. Where that decides with whom else we are linked, False, and all is to be looked at."""
        if bool(self._wanted.of(node)) != (node in self._known):
            if len(self._known) + 1 >= MESH_MAX:
                return False
            self._known ^= {node}  # in a mesh the same set as `_kept`
        return True

    def _know(self, wanted: set[bytes]) -> None:
        self._known = wanted
        self._kept = wanted if len(wanted) < MESH_MAX else beside(self._ours, wanted)

    def _keep(self, node: bytes) -> None:
        task = self._tasks.get(node)
        if self._links.get(node) is None and (task is None or task.done()):
            self._tasks[node] = asyncio.get_running_loop().create_task(self._connect(node))

    def note_use(self, node: bytes) -> None:
        """Somebody here wants the link to that node, or it asks us something."""
        self._used.add(node)

    def close_idle(self) -> None:
        """End the links that need not be kept and that nobody used since the last look."""
        self._know(set(self._wanted.all()))
        used, self._used = self._used, set()
        for link in self._links.nodes():
            if link.id not in self._kept and link.id not in used and not link.busy:
                link.say_away("nobody uses this link")
                link.away = True
                link.close(Refused("nobody used the link", code=Code.CONNECTION_LOST))

    def kick(self, node: bytes) -> None:
        """There is news of this node (a new address): try now."""
        event = self._wake.get(node)
        if event is not None:
            event.set()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, node: bytes) -> None:
        waits: Iterator[float] = backoff(self._random, first_s=FIRST_S, most_s=MOST_S)
        wake = self._wake[node] = asyncio.Event()
        await asyncio.sleep(0 if self._ours < node else jitter(self._random, POLITE_S / 2, POLITE_S))
        try:
            while self._links.get(node) is None:
                addresses = self._wanted.of(node)
                if not addresses:
                    return
                try:
                    await self._links.to(node, addresses, timeout_s=DIAL_TIMEOUT_S)
                    self.last_error.pop(node, None)
                    return
                except SkerryError as error:
                    self.last_error[node] = error
                    log.debug("no link to %s yet: %s", short(node), error)
                wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(next(waits)):
                        await wake.wait()
        finally:
            self._wake.pop(node, None)


def beside(ours: bytes, nodes: Iterable[bytes]) -> set[bytes]:
    """Those that stand 1, 2, 4, 8 ... places from ours on the ring of ids, on both sides."""
    ring = sorted({*nodes, ours})
    at, steps = ring.index(ours), [1 << power for power in range((len(ring) // 2).bit_length())]
    return {ring[(at + step) % len(ring)] for step in (*steps, *(-step for step in steps))} - {ours}
