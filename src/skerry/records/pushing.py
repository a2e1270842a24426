"""What is new goes out: gathered for a moment for each link, then sent as calls of one frame each.

The rule: a push that is lost is nobody's loss: what a peer did not take a comparison finds (`exchange.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from skerry.channel.link import Link
from skerry.channel.messages import pack_message
from skerry.errors import SkerryError
from skerry.identity.keys import short
from skerry.records.verbs import PushRequest

PUSH_AFTER_S = 0.01  # what comes within this time leaves as one push
PUSH_BYTES_MAX = 40 * 1024  # so that a push stays one frame
PUSH_TIMEOUT_S = 30.0
log = logging.getLogger(__name__)


class Pushes:
    """One node's outbox."""

    def __init__(self, nodes: Callable[[], list[Link]], *, heard_until: Callable[[], int]) -> None:
        self._nodes = nodes
        self._heard_until = heard_until
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[bool]] = set()
        self.outbox: dict[bytes, dict[bytes, None]] = {}  # link token -> records, in order

    def queue(self, link: Link, records: Iterable[bytes]) -> None:
        self.outbox.setdefault(link.token, {}).update(dict.fromkeys(records))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUSH_AFTER_S, self._send_all)

    def withdraw(self, peer: bytes, signed: bytes) -> None:
        """A peer has that record: it was on its way to us and to it."""
        for link in self._nodes():
            if link.id == peer and link.token in self.outbox:
                self.outbox[link.token].pop(signed, None)

    def drop(self, link: Link) -> None:
        self.outbox.pop(link.token, None)

    async def flushed(self, *, timeout_s: float) -> int:
        """Send what waits; returns how many nodes have taken all of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        outbox, self.outbox = self.outbox, {}
        links = [link for link in self._nodes() if link.token in outbox]
        pushes = [asyncio.ensure_future(self.send(link, list(outbox[link.token]))) for link in links]
        if not pushes:
            return 0
        done, late = await asyncio.wait(pushes, timeout=timeout_s)
        for push in late:
            push.cancel()
        return sum(push.result() for push in done)

    async def send(self, link: Link, records: list[bytes]) -> bool:
        """Whether the peer has taken all."""
        batch: list[bytes] = []
        size = 0
        for signed in [*records, b""]:
            if batch and (not signed or size + len(signed) > PUSH_BYTES_MAX):
                try:
                    await link.call("records.push", pack_message(PushRequest(batch, self._heard_until())), timeout_s=PUSH_TIMEOUT_S)
                except SkerryError as error:
                    log.info("a push to %s ended: %s", short(link.id), error)
                    return False
                batch, size = [], 0
            batch.append(signed)
            size += len(signed)
        return True

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send_all(self) -> None:
        self._timer = None
        outbox, self.outbox = self.outbox, {}
        for link in self._nodes():
            records = outbox.get(link.token)
            if records:
                task = asyncio.get_running_loop().create_task(self.send(link, list(records)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
