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

    def __init__(self, *, heard_until: Callable[[], int]) -> None:
        self._heard_until = heard_until
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[bool]] = set()
        self.outbox: dict[Link, dict[bytes, None]] = {}  # records, in order

    def queue(self, link: Link, records: Iterable[bytes]) -> None:
        self.outbox.setdefault(link, {}).update(dict.fromkeys(records))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUSH_AFTER_S, self._send_all)

    def withdraw(self, link: Link, signed: bytes) -> None:
        """A peer has that record: it was on its way to us and to it."""
        if link in self.outbox:
            self.outbox[link].pop(signed, None)

    def drop(self, link: Link) -> None:
        self.outbox.pop(link, None)

    async def flushed(self, *, timeout_s: float) -> int:
        """Send what waits; returns how many nodes have taken all of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pushes = [asyncio.ensure_future(self.send(link, records)) for link, records in self._taken_out()]
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
        for link, records in self._taken_out():
            task = asyncio.get_running_loop().create_task(self.send(link, records))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _taken_out(self) -> list[tuple[Link, list[bytes]]]:
        """What waits for links that are open, in the order of their nodes."""
        outbox, self.outbox = self.outbox, {}
        return [(link, list(outbox[link])) for link in sorted(outbox, key=lambda link: link.id) if outbox[link] and not link.closed]
