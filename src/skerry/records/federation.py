"""How records travel: a comparison when two nodes connect, a push of what is new to a few neighbours, comparisons from time to time.

Who connects compares with the other (`exchange.py`) and fetches what it lacks; where that is most of it, it pulls a copy, by a cursor in
the other's order of arrival. What a node learns it passes on to its neighbours (`neighbours.py`), revocations and departures to all.
What a push lost, or a neighbour swallowed, is found by the comparisons that each node makes about every half minute, with its neighbours
and with one that it draws among all others.

A node that starts asks the first one it meets for what it said itself: its home may have come back from a backup. A node that was away
for longer than tombstones live pulls all, and drops what did not come (`attendance.py`).

The rule: losing a push loses nothing: a cursor moves only over what was pulled or compared.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from skerry.channel.link import Link
from skerry.channel.links import Links
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import SkerryError, StorageError
from skerry.identity.grants import Roster, digest_of_revocations
from skerry.identity.keys import short
from skerry.identity.stamps import AHEAD_MS_MAX, stamp_ms
from skerry.identity.statement import Statement, parse_unverified
from skerry.ports import Ports
from skerry.records.attendance import Attendance
from skerry.records.exchange import Compared, Exchange, Outcome
from skerry.records.holdings import Holdings
from skerry.records.items import item_of
from skerry.records.neighbours import Neighbours
from skerry.records.pushing import Pushes
from skerry.records.record import KINDS, Refusal, Rejection
from skerry.records.replica import PAGE_RECORDS_MAX, Replica, may_have
from skerry.records.turns import Turns
from skerry.records.verbs import NeighbourRequest, PullReply, PullRequest, PushReply, PushRequest

PULL_TIMEOUT_S = 30.0
OWN_LIMIT = 200  # records of our own in one answer
RETRY_S = 5.0
TELL_AFTER_S = 0.5  # links come and go in swarms: the neighbours hear what came of it
COMPARED_AT_ONCE = 4  # comparisons that we drive: the second finds what the first has fetched
COPY_LOOK_S = 0.1
COPY_LOOKS_MAX = 30  # so long others wait for a copy that is under way
IDLE_PAGES_MAX = 50  # of a pull that bring nothing new
TO_ALL = ("revocation", "departure")  # who is out is out everywhere, and at once
CURSORS = "cursor"  # the space of facts where cursors are kept
FACTS = "federation"
KNOWN_KINDS = "kinds"
_TOO_DIFFERENT = (Outcome.COPY, Outcome.BEHIND)
log = logging.getLogger(__name__)


class Signatory(Protocol):
    """Whoever signs here. What was said by a clock that was ahead is dropped, and said again by whom it can be."""

    def signs(self) -> frozenset[bytes]:
        """The authors whose keys are here."""

    def say_again(self, dropped: list[Statement]) -> None: ...


class Federation:
    """The sync of one node with all that it is connected to."""

    def __init__(self, ours: bytes, replica: Replica, roster: Roster, *, ports: Ports, links: Links) -> None:
        store, clock = ports.store, ports.clock
        self._ours = ours
        self._replica = replica
        self._roster = roster
        self._store = store
        self._clock = clock
        self._links = links
        self._random = ports.random
        self._closing = False
        self._tell: asyncio.TimerHandle | None = None
        self._driven = asyncio.Semaphore(COMPARED_AT_ONCE)
        self._copies = 0  # under way
        self._times_asked_again = 0  # for everything, because what was judged by a wrong clock does not count
        self._tasks: set[asyncio.Task[object]] = set()
        self.refused: Counter[str] = Counter()  # records that were not taken in, by reason, since the start
        self._owed: set[bytes] = set()  # node ids from which we have a pull to do
        self.in_sync: set[bytes] = set()  # node ids whose records we have pulled since they connected
        self.touched = asyncio.Event()  # a first pull was finished
        self.attendance = Attendance(store, now_ms=clock.now_ms())
        self.pushes = Pushes(heard_until=lambda: self.attendance.heard_until)
        self.neighbours = Neighbours(ours, formation=roster.formation)
        self._turns = Turns(ours, self.neighbours)
        self.holdings = Holdings(store, ours=ours, now_ms=clock.now_ms())
        self.exchange = Exchange(
            replica,
            self.holdings,
            clock=clock,
            ingest=lambda records, sender, heard: self._ingest(records, sender, stale=self.attendance.is_stale(heard)),
            heard_until=lambda: self.attendance.heard_until,
            is_behind=lambda heard: self.attendance.is_behind(heard, now_ms=clock.now_ms()),
        )
        replica.watch_rows(self.holdings.changed)
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
        is_set = self.attendance.tick(in_touch=alone or bool(self.in_sync), now_ms=now_ms)
        if self.signatory is not None and self._replica.is_ahead(now_ms=now_ms, signs=self.signatory.signs()):
            self.signatory.say_again(self._replica.forget_future(now_ms=now_ms))
            is_set = True
        if self.attendance.ripened(now_ms=now_ms) or is_set:
            log.warning("this machine's clock was set: records are asked for again")
            self._pull_all_again()
        for link in self._to_compare():
            self._spawn(self._compare_again(link))

    def _to_compare(self) -> list[Link]:
        links = {link.id: link for link in self._links.nodes()}
        return [links[node] for node in self._turns.draw(set(links), chance=self._random.fraction())]

    async def tell(self, link: Link, statement: Statement) -> None:
        """Tell a peer one record, whether we are in sync with it or not."""
        await self.pushes.send(link, [statement.signed])

    async def flushed(self, *, timeout_s: float) -> int:
        """Send what waits to be pushed; returns how many nodes have taken all of it."""
        return await self.pushes.flushed(timeout_s=timeout_s)

    def link_up(self, link: Link) -> None:
        """Catch up with a node that is connected now; say first which revocations it may not know."""
        assert link.peer is not None
        self.neighbours.link_up(link.id)
        self._tell_soon()
        revocations = self._roster.revocations()
        if revocations and link.peer.revocations != digest_of_revocations(revocations):
            self.pushes.queue(link, [revocation.statement.signed for revocation in revocations])
        self._spawn(self._sync(link))

    def link_down(self, link: Link) -> None:
        self.pushes.drop(link)
        self.in_sync.discard(link.id)
        if self._links.get(link.id) in (None, link):
            self._turns.forget(link.id)
            self.neighbours.link_down(link.id)
            self._tell_soon()

    async def close(self) -> None:
        self._closing = True
        if self._tell is not None:
            self._tell.cancel()
        await self.pushes.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- verbs ----------------------------------------------------------------------------------------------------------------

    def serve_pull(self, request: PullRequest, *, reader: bytes) -> PullReply:
        limit = max(1, request.limit)
        heard = self.attendance.heard_until
        if request.author:
            limit = min(limit, PAGE_RECORDS_MAX)
            rows = self._replica.said_by(request.author, after=request.newer_than, limit=limit)
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
        await self._catch_up(link)

    async def _catch_up(self, link: Link) -> None:
        compared = await self._compare(link, gives=False)  # what it lacks it fetches itself
        if compared is not None and compared.outcome in _TOO_DIFFERENT and await self._waited_for_a_copy():
            compared = await self._compare(link, gives=False)
        if compared is None or compared.outcome in _TOO_DIFFERENT:
            self._copies += 1
            try:
                await self._pull(link)
            finally:
                self._copies -= 1

    async def _waited_for_a_copy(self) -> bool:
        """A node that joins finds all ahead of it: it copies from one and compares with the rest. Not for ever, that one may stall."""
        looks = 0
        while self._copies and looks < COPY_LOOKS_MAX:
            looks += 1
            await asyncio.sleep(COPY_LOOK_S)
        return looks > 0

    async def _compare_again(self, link: Link) -> None:
        self._turns.begin(link.id)
        try:
            compared, taken = await self._compare(link, gives=True), 0
            if compared is not None and compared.outcome in _TOO_DIFFERENT:
                taken = await self._pull(link)
            is_vain = compared is None or compared.is_vain or (compared.outcome in _TOO_DIFFERENT and not taken)
            self._turns.note(link.id, is_vain=is_vain and self._links.get(link.id) is not None)
        finally:
            self._turns.end(link.id)

    async def _compare(self, link: Link, *, gives: bool) -> Compared | None:
        """None: it could not be done, by an older release or one that lies."""
        while not self.holdings.build():  # noqa: ASYNC110 - it works, a slice at a time, and others have their turn between
            await asyncio.sleep(0)
        async with self._driven:
            if link.closed:
                return None
            try:
                times_asked_again = self._times_asked_again
                compared = await self.exchange.compare(link, gives=gives)
                if compared.outcome in (Outcome.EQUAL, Outcome.MENDED) and times_asked_again == self._times_asked_again:
                    self._store.set_fact(CURSORS, link.id.hex(), compared.cursor.encode())
            except SkerryError as error:
                log.info("the comparison with %s ended: %s", short(link.id), error)
                return None
        if compared.outcome in (Outcome.EQUAL, Outcome.MENDED):
            self._is_in_sync(link, compared.heard_until)
        return compared

    def _is_in_sync(self, link: Link, heard_until: int | None) -> None:
        self.attendance.caught_up(heard_until, now_ms=self._clock.now_ms())
        if not link.closed:
            self.in_sync.add(link.id)
        self.touched.set()

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
        link = self._links.get(sender)
        if link is not None and sender not in self._owed:
            self._owed.add(sender)
            self._spawn(self._pull_owed(link))

    async def _pull_owed(self, link: Link) -> None:
        try:
            await asyncio.sleep(RETRY_S)
            await self._pull(link)
        finally:
            self._owed.discard(link.id)

    async def _pull(self, link: Link) -> int:
        """How many records were new here."""
        key = link.id.hex()
        snapshot = False
        idle = found = 0
        while not link.closed:
            cursor = (self._store.fact(CURSORS, key) or b"").decode()
            try:
                body = await link.call("records.pull", pack_message(PullRequest(cursor)), timeout_s=PULL_TIMEOUT_S)
                reply = unpack_message(PullReply, body)
                if self.attendance.is_behind(reply.heard_until, now_ms=self._clock.now_ms()) and not snapshot:
                    log.info("this node is new, or was away for longer than tombstones live: it takes all anew from %s", short(link.id))
                    snapshot = True
                    self._replica.begin_snapshot()
                    self._store.set_fact(CURSORS, key, None)
                    continue
                taken, _ = self._ingest(reply.records, link.id, stale=self.attendance.is_stale(reply.heard_until))
                found += taken
                idle = 0 if taken or snapshot else idle + 1
                self._store.set_fact(CURSORS, key, reply.cursor.encode())
            except StorageError as error:
                log.warning("records of %s can't be kept: %s", short(link.id), error)
                await asyncio.sleep(RETRY_S)
                continue
            except SkerryError as error:
                log.info("the pull from %s ended: %s", short(link.id), error)
                break
            if not reply.more or reply.cursor == cursor or idle > IDLE_PAGES_MAX:  # a peer that never comes to an end is no reason not to
                if snapshot:
                    self._drop_unnamed(link)
                self._is_in_sync(link, reply.heard_until)
                break
        return found

    def _drop_unnamed(self, source: Link) -> None:
        """A snapshot is complete. Whoever else is here is asked for all again: one peer may not know of what another said, or be silent
        about it."""
        dropped = self._replica.end_snapshot()
        log.info("%d records that %s does not hold were dropped", dropped, short(source.id))
        if dropped:
            self._pull_all_again(source.id)

    def _pull_all_again(self, but: bytes = b"") -> None:
        self._times_asked_again += 1  # a comparison that is under way counts what was refused as known: its cursor is void
        self.forget_cursors(but=but)
        for link in self._links.nodes():
            if link.id != but:
                self._spawn(self._pull(link))

    def _ingest(self, records: list[bytes], sender: bytes, *, stale: bool = False) -> tuple[int, dict[str, int]]:
        taken, refused = 0, dict[str, int]()
        for signed in records:
            outcome = self._replica.ingest(signed, now_ms=self._clock.now_ms(), sender=sender, stale=stale)
            if isinstance(outcome, Refusal):
                refused[outcome.reason.value] = refused.get(outcome.reason.value, 0) + 1
                self.refused[outcome.reason.value] += 1
                self._note(signed, outcome, sender)
            else:
                taken += 1
        return taken, refused

    def _learned(self, statement: Statement, sender: bytes) -> None:
        everybody = statement.kind in TO_ALL or not isinstance(statement.audience, str)  # the few that a record names hear it from all
        near = (self._links.get(node) for node in sorted(self.neighbours.eager()))
        for link in self._links.nodes() if everybody else near:  # its author too: it may not be his who is connected here
            if link is not None and link.id != sender and _may_have(statement, link.id):
                self.pushes.queue(link, [statement.signed])

    def _note(self, signed: bytes, refusal: Refusal, sender: bytes) -> None:
        """Remember what a peer holds and we don't take, so that a comparison does not find it again and again. What our clock alone refuses
        is asked for again when it says otherwise."""
        if refusal.reason is Rejection.SUPERSEDED:
            link = self._links.get(sender)
            if link is not None:
                self.pushes.withdraw(link, signed)
            return
        now_ms = self._clock.now_ms()
        if refusal.reason is Rejection.EXPIRED:
            self.attendance.judged_by(now_ms)
        try:
            statement = parse_unverified(signed)[0]
        except SkerryError:
            return  # there is no such record
        if refusal.reason is Rejection.TOO_FAR_AHEAD:
            self.attendance.ripens(stamp_ms(statement.stamp) - AHEAD_MS_MAX)
        self.holdings.refuse(sender, item_of(statement.stamp, statement.hash), refusal, now_ms=now_ms)

    def serve_neighbour(self, request: NeighbourRequest, *, sender: bytes) -> None:
        self.neighbours.asks(sender, wanted=request.wanted)

    def _tell_soon(self) -> None:
        if self._tell is None and not self._closing:
            self._tell = asyncio.get_running_loop().call_later(TELL_AFTER_S, self._tell_neighbours)

    def _tell_neighbours(self) -> None:
        self._tell = None
        for node, wanted in self.neighbours.to_tell():
            link = self._links.get(node)
            if link is not None:
                self._spawn(self._tell_neighbour(link, wanted=wanted))

    async def _tell_neighbour(self, link: Link, *, wanted: bool) -> None:
        try:
            await link.call("records.neighbour", pack_message(NeighbourRequest(wanted)), timeout_s=PULL_TIMEOUT_S)
        except SkerryError as error:
            log.info("%s was not told whether we want its news: %s", short(link.id), error)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _may_have(statement: Statement, reader: bytes) -> bool:
    return isinstance(statement.audience, str) or reader in statement.audience
