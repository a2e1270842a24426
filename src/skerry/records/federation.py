"""How records travel: a pull of everything when two nodes connect, a push of everything new.

Each node pulls from the other by a cursor that it keeps, so that a reconnect costs only what is new, and pushes what it learns to
all others that are connected. What was pushed meanwhile and comes again is recognised and goes no further.

A node that starts asks the first one it meets for what it said itself: its home may have come back from a backup. A node that was away
for longer than tombstones live pulls all, and drops what did not come (`attendance.py`).

The rule: losing a push loses nothing: the cursor moves only over what was pulled.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import SkerryError, StorageError
from skerry.identity.grants import NEVER_MS, Roster, digest_of_revocations
from skerry.identity.keys import short
from skerry.identity.stamps import AHEAD_MS_MAX, stamp_ms
from skerry.identity.statement import Statement, parse_unverified
from skerry.ports import Clock, Store
from skerry.records.attendance import Attendance
from skerry.records.record import KINDS, Refusal, Rejection
from skerry.records.replica import Replica, may_have
from skerry.records.verbs import PullReply, PullRequest, PushReply, PushRequest

PUSH_AFTER_S = 0.01  # what comes within this time leaves as one push
PUSH_BYTES_MAX = 40 * 1024  # so that a push stays one frame
PULL_TIMEOUT_S = 30.0
OWN_LIMIT = 200  # records of our own in one answer
RETRY_S = 5.0
CURSORS = "cursor"  # the space of facts where cursors are kept
FACTS = "federation"
KNOWN_KINDS = "kinds"
RIPE = "ripe"  # when the first of what was refused as of the future may be asked for again (Unix ms)
log = logging.getLogger(__name__)


class Signatory(Protocol):
    """Whoever signs here. What was said by a clock that was ahead is dropped, and said again by whom it can be."""

    def signs(self) -> frozenset[bytes]:
        """The authors whose keys are here."""

    def say_again(self, dropped: list[Statement]) -> None: ...


class Federation:
    """The sync of one node with all that it is connected to."""

    def __init__(
        self, ours: bytes, replica: Replica, roster: Roster, *, store: Store, clock: Clock, nodes: Callable[[], list[Link]]
    ) -> None:
        self._ours = ours
        self._replica = replica
        self._roster = roster
        self._store = store
        self._clock = clock
        self._nodes = nodes
        self._outbox: dict[bytes, list[bytes]] = {}  # link token -> records to push
        self._tasks: set[asyncio.Task[object]] = set()
        self._flush: asyncio.TimerHandle | None = None
        self.refused: Counter[str] = Counter()  # records that were not taken in, by reason, since the start
        self._owed: set[bytes] = set()  # node ids from which we have a pull to do
        self.in_sync: set[bytes] = set()  # node ids whose records we have pulled since they connected
        self.touched = asyncio.Event()  # a first pull was finished
        self.attendance = Attendance(store, now_ms=clock.now_ms())
        self._own_newest = replica.own_newest()  # as this home was when it started: what we say meanwhile must not hide what it lacks
        self.own_known = asyncio.Event()  # somebody told us all that he has of ours
        self.on_regained: Callable[[list[Statement]], None] | None = None  # others held records of ours that this home did not
        self.signatory: Signatory | None = None
        replica.watch(self._learned)
        kinds = ",".join(sorted(KINDS)).encode()
        if store.fact(FACTS, KNOWN_KINDS) != kinds:  # what an older release refused must be offered again
            self.forget_cursors()
            store.set_fact(FACTS, KNOWN_KINDS, kinds)

    def forget_cursors(self, *, but: bytes = b"") -> None:
        """The next pull from each node is one of everything."""
        for key, _ in self._store.facts(CURSORS):
            if key != but.hex():
                self._store.set_fact(CURSORS, key, None)

    def tick(self, *, alone: bool) -> None:
        """Once in a while: note that we are still in touch. `alone`: there is nobody else to be in touch with."""
        now_ms = self._clock.now_ms()
        set_back = self.attendance.tick(in_touch=alone or bool(self.in_sync), now_ms=now_ms)
        if self.signatory is not None and self._replica.is_ahead(now_ms=now_ms, signs=self.signatory.signs()):
            self.signatory.say_again(self._replica.forget_future(now_ms=now_ms))
            set_back = True
        if self._ripened() or set_back:
            log.warning("this machine's clock was set: records are asked for again")
            self._pull_all_again()

    async def tell(self, link: Link, statement: Statement) -> None:
        """Tell a peer one record, whether we are in sync with it or not."""
        await self._push(link, [statement.signed])

    async def flushed(self, *, timeout_s: float) -> int:
        """Send what waits to be pushed; returns how many nodes have taken all of it."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        outbox, self._outbox = self._outbox, {}
        links = [link for link in self._nodes() if link.token in outbox]
        pushes = [asyncio.ensure_future(self._push(link, outbox[link.token])) for link in links]
        if not pushes:
            return 0
        done, late = await asyncio.wait(pushes, timeout=timeout_s)
        for push in late:
            push.cancel()
        return sum(push.result() for push in done)

    def link_up(self, link: Link) -> None:
        """Pull from a node that is connected now; say first which revocations it may not know."""
        assert link.peer is not None
        revocations = self._roster.revocations()
        if revocations and link.peer.revocations != digest_of_revocations(revocations):
            self._queue(link, [revocation.statement.signed for revocation in revocations])
        self._spawn(self._sync(link))

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
        limit = max(1, request.limit)
        heard = self.attendance.heard_until
        if request.author:
            rows = self._replica.said_by(request.author, after=request.newer_than)[:limit]
            return PullReply([row.signed for row in rows if may_have(row, reader)], "", len(rows) == limit, heard)
        records, cursor, more = self._replica.page(request.cursor, reader=reader, limit=limit)
        return PullReply(records, cursor, more, heard)

    def serve_push(self, request: PushRequest, *, sender: bytes) -> PushReply:
        try:
            taken, refused = self._ingest(request.records, sender, stale=self.attendance.is_stale(request.heard_until))
        except StorageError:
            self._pull_later(sender)
            raise
        return PushReply(taken, refused)

    # --- inside ---------------------------------------------------------------------------------------------------------------

    async def _sync(self, link: Link) -> None:
        if not self.own_known.is_set():
            await self._pull_own(link)
        await self._pull(link)

    async def _pull_own(self, link: Link) -> None:
        """What this peer has of ours that this home had not when it started."""
        newest = self._own_newest
        try:
            while True:
                request = PullRequest(author=self._ours, newer_than=newest, limit=OWN_LIMIT)
                reply = unpack_message(PullReply, await link.call("records.pull", pack_message(request), timeout_s=PULL_TIMEOUT_S))
                taken, newest = self._replica.regain(reply.records, now_ms=self._clock.now_ms(), sender=link.id)
                if taken and self.on_regained is not None:
                    self.on_regained(taken)
                if not reply.more or not reply.records:
                    break
        except SkerryError as error:
            log.info("%s could not say what it has of ours: %s", short(link.id), error)
            return
        self.own_known.set()

    def _pull_later(self, sender: bytes) -> None:
        """What was pushed could not be kept, and is not pushed again: the cursor still stands before it."""
        for link in self._nodes():
            if link.id == sender and sender not in self._owed:
                self._owed.add(sender)
                self._spawn(self._pull_owed(link))

    async def _pull_owed(self, link: Link) -> None:
        try:
            await asyncio.sleep(RETRY_S)
            await self._pull(link)
        finally:
            self._owed.discard(link.id)

    async def _pull(self, link: Link) -> None:
        key = link.id.hex()
        snapshot = False
        while not link.closed:
            cursor = (self._store.fact(CURSORS, key) or b"").decode()
            try:
                body = await link.call("records.pull", pack_message(PullRequest(cursor)), timeout_s=PULL_TIMEOUT_S)
                reply = unpack_message(PullReply, body)
                if self.attendance.is_behind(reply.heard_until, now_ms=self._clock.now_ms()) and not snapshot:
                    log.info("this node was away for longer than tombstones live: it takes all anew from %s", short(link.id))
                    snapshot = True
                    self._replica.begin_snapshot()
                    self._store.set_fact(CURSORS, key, None)
                    continue
                self._ingest(reply.records, link.id, stale=self.attendance.is_stale(reply.heard_until))
                self._store.set_fact(CURSORS, key, reply.cursor.encode())
            except StorageError as error:
                log.warning("records of %s can't be kept: %s", short(link.id), error)
                await asyncio.sleep(RETRY_S)
                continue
            except SkerryError as error:
                log.info("the pull from %s ended: %s", short(link.id), error)
                return
            if not reply.more or reply.cursor == cursor:  # a peer that never comes to an end is no reason not to
                if snapshot:
                    self._drop_unnamed(link)
                self.attendance.caught_up(reply.heard_until, now_ms=self._clock.now_ms())
                self.in_sync.add(link.id)
                self.touched.set()
                return

    def _drop_unnamed(self, source: Link) -> None:
        """A snapshot is complete. Whoever else is here is asked for all again: one peer may not know of what another said, or be silent
        about it."""
        dropped = self._replica.end_snapshot()
        log.info("%d records that %s does not hold were dropped", dropped, short(source.id))
        if dropped:
            self._pull_all_again(source.id)

    def _pull_all_again(self, but: bytes = b"") -> None:
        self.forget_cursors(but=but)
        for link in self._nodes():
            if link.id != but:
                self._spawn(self._pull(link))

    def _ingest(self, records: list[bytes], sender: bytes, *, stale: bool = False) -> tuple[int, dict[str, int]]:
        taken, refused = 0, dict[str, int]()
        for signed in records:
            outcome = self._replica.ingest(signed, now_ms=self._clock.now_ms(), sender=sender, stale=stale)
            if isinstance(outcome, Refusal):
                self._note_time(outcome.reason, signed)
                refused[outcome.reason.value] = refused.get(outcome.reason.value, 0) + 1
                self.refused[outcome.reason.value] += 1
            else:
                taken += 1
        return taken, refused

    def _note_time(self, reason: Rejection, signed: bytes) -> None:
        """What our clock alone refuses is asked for again when it says otherwise."""
        if reason is Rejection.EXPIRED:
            self.attendance.judged_by(self._clock.now_ms())
        elif reason is Rejection.TOO_FAR_AHEAD:
            ripe_ms = stamp_ms(parse_unverified(signed)[0].stamp) - AHEAD_MS_MAX
            held = int(self._store.fact(FACTS, RIPE) or NEVER_MS)
            if ripe_ms < held:
                self._store.set_fact(FACTS, RIPE, str(ripe_ms).encode())

    def _ripened(self) -> bool:
        """Whether the time of something has come that was refused as of the future: mostly because our clock was set forward."""
        ripe = self._store.fact(FACTS, RIPE)
        if ripe is None or self._clock.now_ms() < int(ripe):
            return False
        self._store.set_fact(FACTS, RIPE, None)
        return True

    def _learned(self, statement: Statement, sender: bytes) -> None:
        for link in self._nodes():  # its author too, if it came by somebody else: it may not be his who is connected here
            if link.id != sender and _may_have(statement, link.id):
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

    async def _push(self, link: Link, records: list[bytes]) -> bool:
        """Whether the peer has taken all."""
        batch: list[bytes] = []
        size = 0
        for signed in [*records, b""]:
            if batch and (not signed or size + len(signed) > PUSH_BYTES_MAX):
                try:
                    await link.call("records.push", pack_message(PushRequest(batch, self.attendance.heard_until)), timeout_s=PULL_TIMEOUT_S)
                except SkerryError as error:
                    log.info("a push to %s ended: %s", short(link.id), error)  # it pulls when it is back
                    return False
                batch, size = [], 0
            batch.append(signed)
            size += len(signed)
        return True

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _may_have(statement: Statement, reader: bytes) -> bool:
    return isinstance(statement.audience, str) or reader in statement.audience
