"""How records travel: a pull of everything when two nodes connect, a push of everything new.

Each node pulls from the other by a cursor that it keeps, so that a reconnect costs only what is new, and pushes what it learns to
all others that are connected. What was pushed meanwhile and comes again is recognised and goes no further.

The rule: losing a push loses nothing: the cursor moves only over what was pulled.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import SkerryError, StorageError
from skerry.identity.grants import Roster, digest_of_revocations
from skerry.identity.keys import short
from skerry.identity.statement import Statement
from skerry.ports import Clock, Store
from skerry.records.record import Refusal
from skerry.records.replica import Replica
from skerry.records.verbs import PullReply, PullRequest, PushReply, PushRequest

PUSH_AFTER_S = 0.01  # what comes within this time leaves as one push
PUSH_BYTES_MAX = 40 * 1024  # so that a push stays one frame
PULL_TIMEOUT_S = 30.0
RETRY_S = 5.0
CURSORS = "cursor"  # the space of facts where cursors are kept
log = logging.getLogger(__name__)


class Federation:
    """The sync of one node with all that it is connected to."""

    def __init__(self, replica: Replica, roster: Roster, *, store: Store, clock: Clock, nodes: Callable[[], list[Link]]) -> None:
        self._replica = replica
        self._roster = roster
        self._store = store
        self._clock = clock
        self._nodes = nodes
        self._outbox: dict[bytes, list[bytes]] = {}  # link token -> records to push
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush: asyncio.TimerHandle | None = None
        self.refused: Counter[str] = Counter()  # records that were not taken in, by reason, since the start
        self.in_sync: set[bytes] = set()  # node ids whose records we have pulled since they connected
        self.touched = asyncio.Event()  # a first pull was finished
        replica.watch(self._learned)

    def link_up(self, link: Link) -> None:
        """Pull from a node that is connected now; say first which revocations it may not know."""
        assert link.peer is not None
        revocations = self._roster.revocations()
        if revocations and link.peer.revocations != digest_of_revocations(revocations):
            self._queue(link, [revocation.statement.signed for revocation in revocations])
        self._spawn(self._pull(link))

    def link_down(self, link: Link) -> None:
        self._outbox.pop(link.token, None)
        self.in_sync.discard(link.id)

    async def close(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- verbs ----------------------------------------------------------------------------------------------------------------

    def serve_pull(self, request: PullRequest, *, reader: bytes) -> PullReply:
        records, cursor, more = self._replica.page(request.cursor, reader=reader, limit=max(1, request.limit))
        return PullReply(records, cursor, more)

    def serve_push(self, request: PushRequest, *, sender: bytes) -> PushReply:
        taken, refused = self._ingest(request.records, sender)
        return PushReply(taken, refused)

    # --- inside ---------------------------------------------------------------------------------------------------------------

    async def _pull(self, link: Link) -> None:
        key = link.id.hex()
        while not link.closed:
            cursor = (self._store.fact(CURSORS, key) or b"").decode()
            try:
                body = await link.call("records.pull", pack_message(PullRequest(cursor)), timeout_s=PULL_TIMEOUT_S)
                reply = unpack_message(PullReply, body)
                self._ingest(reply.records, link.id)
                self._store.set_fact(CURSORS, key, reply.cursor.encode())
            except StorageError as error:
                log.warning("records of %s can't be kept: %s", short(link.id), error)
                await asyncio.sleep(RETRY_S)
                continue
            except SkerryError as error:
                log.info("the pull from %s ended: %s", short(link.id), error)
                return
            if not reply.more:
                self.in_sync.add(link.id)
                self.touched.set()
                return

    def _ingest(self, records: list[bytes], sender: bytes) -> tuple[int, dict[str, int]]:
        taken, refused = 0, dict[str, int]()
        for signed in records:
            outcome = self._replica.ingest(signed, now_ms=self._clock.now_ms(), sender=sender)
            if isinstance(outcome, Refusal):
                refused[outcome.reason.value] = refused.get(outcome.reason.value, 0) + 1
                self.refused[outcome.reason.value] += 1
            else:
                taken += 1
        return taken, refused

    def _learned(self, statement: Statement, sender: bytes) -> None:
        for link in self._nodes():
            if link.id not in (sender, statement.author) and _may_have(statement, link.id):
                self._queue(link, [statement.signed])

    def _queue(self, link: Link, records: list[bytes]) -> None:
        self._outbox.setdefault(link.token, []).extend(records)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(PUSH_AFTER_S, self._push_all)

    def _push_all(self) -> None:
        self._flush = None
        outbox, self._outbox = self._outbox, {}
        for link in self._nodes():
            records = outbox.get(link.token)
            if records:
                self._spawn(self._push(link, records))

    async def _push(self, link: Link, records: list[bytes]) -> None:
        batch: list[bytes] = []
        size = 0
        for signed in [*records, b""]:
            if batch and (not signed or size + len(signed) > PUSH_BYTES_MAX):
                try:
                    await link.call("records.push", pack_message(PushRequest(batch)), timeout_s=PULL_TIMEOUT_S)
                except SkerryError as error:
                    log.info("a push to %s ended: %s", short(link.id), error)  # it pulls when it is back
                    return
                batch, size = [], 0
            batch.append(signed)
            size += len(signed)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _may_have(statement: Statement, reader: bytes) -> bool:
    return isinstance(statement.audience, str) or reader in statement.audience
