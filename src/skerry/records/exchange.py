"""Two nodes compare what they share, and send each other what is missing: the flow around `reconcile.py`, on both sides.

Who asks drives: ranges until all that differs is listed, then records both ways, in replies of one frame. Who is asked keeps nothing
between two requests. What is refused on either side goes into `Refusals` and is no difference next time.

The rule: a comparison ends: in a bounded number of rounds and bytes, within `TIMEOUT_S`, and with the reason where it was cut short.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, ProtocolError, Refused
from skerry.identity.statement import parse_unverified
from skerry.ports import Clock
from skerry.records.holdings import Holdings, minute
from skerry.records.items import ITEM_BYTES, item_of
from skerry.records.reconcile import Reconciliation, answer
from skerry.records.record import Refusal, Rejection
from skerry.records.replica import Replica
from skerry.records.verbs import ExchangeReply, ExchangeRequest, ReconcileReply, ReconcileRequest

CALL_TIMEOUT_S = 10.0
TIMEOUT_S = 60.0  # of a whole comparison: who stalls holds up one of a few
FRAME_BYTES = 32 * 1024  # of records in one message, so that it stays one frame with what is wanted
WANT_MAX = 300  # items asked for at once: 12 KiB
COPY_FROM = 500  # records: where the other side has that many more than twice ours, a copy is the cheaper way
T = TypeVar("T")
log = logging.getLogger(__name__)


class Outcome(Enum):
    """EQUAL: nothing was missing. MENDED: what was is here now. COPY: too much is, pull everything. BEHIND: as COPY, and drop the rest."""

    EQUAL = auto()
    MENDED = auto()
    COPY = auto()
    BEHIND = auto()


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of a comparison. `cursor`: the peer's when it began; whoever has compared has all up to it.

    is_vain   it listed records that we lack, and gave none that was of any use
    """

    outcome: Outcome
    cursor: str = ""
    heard_until: int | None = None
    rounds: int = 0
    fetched: int = 0
    given: int = 0
    is_vain: bool = False


Ingest = Callable[[list[bytes], bytes, int | None], tuple[int, dict[str, int]]]  # records, sender, its heard_until


class Exchange:
    """Comparisons of one node with its peers. `ingest` takes records in and notes what is refused."""

    def __init__(
        self,
        replica: Replica,
        holdings: Holdings,
        *,
        clock: Clock,
        ingest: Ingest,
        heard_until: Callable[[], int],
        is_behind: Callable[[int | None], bool],
    ) -> None:
        self._replica = replica
        self._holdings = holdings
        self._clock = clock
        self._ingest = ingest
        self._heard_until = heard_until
        self._is_behind = is_behind

    # --- who is asked ---------------------------------------------------------------------------------------------------------

    def serve_reconcile(self, request: ReconcileRequest, *, reader: bytes) -> ReconcileReply:
        cursor = self._replica.cursor()
        view = self._holdings.view(reader, as_of_ms=request.as_of_ms, now_ms=self._clock.now_ms())
        answers, answered = answer(view, request.ranges)
        return ReconcileReply(answers, answered, len(view), cursor, self._heard_until())

    def serve_exchange(self, request: ExchangeRequest, *, reader: bytes) -> ExchangeReply:
        want = request.want
        if len(want) % ITEM_BYTES or len(want) > WANT_MAX * ITEM_BYTES:
            raise ProtocolError(
                f"an exchange of records with a wrong want: up to {WANT_MAX} items of {ITEM_BYTES} bytes are wanted", code=Code.DECODE
            )
        self._holdings.view(reader, as_of_ms=request.as_of_ms, now_ms=self._clock.now_ms())
        taken, refused = self._ingest(request.give, reader, request.heard_until) if request.give else (0, {})
        records: list[bytes] = []
        size = covered = 0
        for covered in range(len(want) // ITEM_BYTES):
            row = self._holdings.find(want[covered * ITEM_BYTES : (covered + 1) * ITEM_BYTES], reader=reader)
            if row is not None:
                size += len(row.signed)
                if records and size > FRAME_BYTES:
                    break
                records.append(row.signed)
        else:
            covered = len(want) // ITEM_BYTES
        return ExchangeReply(records, covered, taken, refused, self._heard_until())

    # --- who asks -------------------------------------------------------------------------------------------------------------

    async def compare(self, link: Link, *, gives: bool) -> Compared:
        """Fetch what we lack of what a peer holds; `gives`: and send what it lacks. Raises what a call raises, or ProtocolError."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._compare(link, gives=gives)
        except TimeoutError:
            raise Refused(f"a comparison of records took longer than {TIMEOUT_S:g} s", code=Code.DEADLINE_EXCEEDED) from None

    async def _compare(self, link: Link, *, gives: bool) -> Compared:
        as_of_ms = minute(self._clock.now_ms())
        view = self._holdings.view(link.id, as_of_ms=as_of_ms, now_ms=self._clock.now_ms())
        driver = Reconciliation(view)
        first: ReconcileReply | None = None
        while ranges := driver.asks():
            reply = await self._call(link, "records.reconcile", ReconcileRequest(as_of_ms, ranges), ReconcileReply)
            if first is None:
                first = reply
                if self._is_behind(reply.heard_until):
                    return Compared(Outcome.BEHIND)
                if reply.holds > 2 * len(view) + COPY_FROM:
                    return Compared(Outcome.COPY)
            driver.hears(reply.answers, reply.answered)
        assert first is not None, "the first request is never empty"
        if driver.too_much:
            return Compared(Outcome.COPY)
        if not driver.lacking and not (gives and driver.extra):
            return Compared(Outcome.EQUAL, first.cursor, first.heard_until, driver.rounds)
        fetched, given, useful = await self._mend(link, driver, as_of_ms=as_of_ms, gives=gives)
        is_vain = bool(driver.lacking) and not useful
        return Compared(Outcome.MENDED, first.cursor, first.heard_until, driver.rounds, fetched, given, is_vain)

    async def _mend(self, link: Link, driver: Reconciliation, *, as_of_ms: int, gives: bool) -> tuple[int, int, int]:
        """How many records were fetched and given, and how many of the former are real: new here, or older than what came meanwhile."""
        lacking, extra = driver.lacking, driver.extra if gives else []
        fetched = given = useful = 0
        while lacking or extra:
            give, extra = self._next_to_give(link.id, extra)
            want = lacking[:WANT_MAX]
            if not give and not want:
                continue  # what was left of `extra` is not held any more
            request = ExchangeRequest(give, b"".join(want), as_of_ms, self._heard_until())
            reply = await self._call(link, "records.exchange", request, ExchangeReply)
            if want and not 0 < reply.covered <= len(want):
                raise ProtocolError(f"an exchange of records with a wrong covered: 1 to {len(want)} are wanted", code=Code.DECODE)
            came = self._items_of(reply.records, set(want[: reply.covered]))
            taken, refused = self._ingest(reply.records, link.id, reply.heard_until)
            useful += taken + refused.get(Rejection.SUPERSEDED.value, 0)
            if gives:
                self._note_older(came, link.id)
            lacking = lacking[reply.covered :]
            fetched += len(reply.records)
            given += len(give)
        return fetched, given, useful

    def _next_to_give(self, peer: bytes, extra: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The next records that the peer lacks, as many as fit a frame, and the items left."""
        give: list[bytes] = []
        size = 0
        for number, item in enumerate(extra):
            row = self._holdings.find(item, reader=peer)
            if row is None:  # it went meanwhile; or the peer offered it once, we refused it, and it is gone there too
                self._holdings.refusals.forget(item, peer=peer)
                continue
            size += len(row.signed)
            if give and size > FRAME_BYTES:
                return give, extra[number:]
            give.append(row.signed)
        return give, []

    def _note_older(self, items: list[bytes], peer: bytes) -> None:
        """We gave what supersedes these, and the peer holds on to them: it refused ours."""
        refusal = Refusal(Rejection.SUPERSEDED, "a newer record of that name is here, and that peer does not take it")
        for item in items:
            if not self._holdings.refusals.is_noted(peer, item):
                self._holdings.refuse(peer, item, refusal, now_ms=self._clock.now_ms())

    def _items_of(self, records: list[bytes], wanted: set[bytes]) -> list[bytes]:
        items = []
        for signed in records:
            statement = parse_unverified(signed)[0]
            item = item_of(statement.stamp, statement.hash)
            if item not in wanted:
                raise ProtocolError("an exchange of records with wrong records: one came that was not asked for", code=Code.DECODE)
            wanted.discard(item)
            items.append(item)
        return items

    async def _call(self, link: Link, verb: str, request: Any, reply: type[T]) -> T:
        return unpack_message(reply, await link.call(verb, pack_message(request), timeout_s=CALL_TIMEOUT_S))
