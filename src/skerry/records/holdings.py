"""What of the store each peer and this node compare: the sets behind `reconcile.py`, kept as records come and go.

Whether a record belongs to the set that two nodes share follows from the record alone: it is for all members, or it names both of them
(its author counts as named), and its time is not over. Not from what either of them refused: that is in `Refusals`, and counts as known
towards the peer that offered it.

Time is that of the node that asks, in whole minutes: `view` moves the horizon there, whichever way, by the store's index of expiry.

The rule: what was derived from writes that the disk then lost is void: `build` begins anew. `now_ms` is a parameter.
"""

from __future__ import annotations

from skerry.errors import Code, Refused
from skerry.identity.stamps import AHEAD_MS_MAX
from skerry.identity.statement import is_for_all, parse_unverified
from skerry.ports import Row, Store
from skerry.records.items import Items, item_of, parts_of
from skerry.records.reconcile import View
from skerry.records.record import KINDS, Refusal, leaves_at_ms
from skerry.records.refusals import Refusals

MINUTE_MS = 60_000
BUILD_ROWS = 500  # read at once while the sets are made: some 5 ms
MOVE_ROWS_MAX = 100_000  # that end within a move: some minutes at most


def minute(now_ms: int) -> int:
    """The time as of which sets are compared."""
    return now_ms - now_ms % MINUTE_MS


class Holdings:
    """The sets of one node. Fed by `Replica.watch_rows`."""

    def __init__(self, store: Store, *, ours: bytes, now_ms: int) -> None:
        self._store = store
        self._ours = ours
        self.refusals = Refusals()
        self._begin(minute(now_ms))

    def _begin(self, horizon_ms: int) -> None:
        self._common = Items()
        self._named: dict[bytes, Items] = {}  # peer -> what names it and us
        self._horizon_ms = horizon_ms
        self._losses = self._store.losses
        self._built_to = 0  # seq
        self._is_built = False

    @property
    def is_built(self) -> bool:
        """Whether all that is stored is in the sets."""
        if self._losses != self._store.losses:
            self._begin(self._horizon_ms)
        return self._is_built

    def build(self) -> bool:
        """Take in the next of what is stored. True: all of it is there."""
        if not self.is_built:
            rows = self._store.since(self._built_to, BUILD_ROWS)
            for row in rows:
                self._put(row)
                self._built_to = row.seq
            self._is_built = len(rows) < BUILD_ROWS
        return self._is_built

    def changed(self, old: Row | None, new: Row | None) -> None:
        """A row came, went or was replaced."""
        if old is not None:
            self._take_out(old)
        if new is not None:
            self._put(new)
            self.refusals.forget(item_of(new.stamp, new.hash))

    def refuse(self, peer: bytes, item: bytes, refusal: Refusal, *, now_ms: int) -> None:
        """A peer offered a record that was not taken in. What is here all the same is no difference, whatever was said of the offer."""
        if item not in self._common and item not in self._named.get(peer, _NOTHING):
            self.refusals.note(peer, item, refusal.reason, refusal.detail, now_ms=now_ms)

    def view(self, peer: bytes, *, as_of_ms: int, now_ms: int) -> View:
        """The set that we share with a peer, as of that time. Raises Refused where its clock is too far from ours, or we are not ready."""
        if abs(as_of_ms - minute(now_ms)) > AHEAD_MS_MAX:
            raise Refused(
                f"a comparison of records with a wrong as_of_ms: our clock is {(now_ms - as_of_ms) / 1000:+.0f} s from it",
                code=Code.CLOCK_OFF,
                hint="set both clocks",
            )
        if not self.build():
            raise Refused("this node still reads its records", code=Code.BUSY, hint="ask again in a moment")
        self._move(minute(as_of_ms))
        return View([self._common, self._named.get(peer, _NOTHING), self.refusals.known(peer, now_ms=now_ms)])

    def find(self, item: bytes, *, reader: bytes) -> Row | None:
        """The record of an item, where the reader may have it."""
        row = self._store.at(*parts_of(item))
        return row if row is not None and (item in self._common or item in self._named.get(reader, _NOTHING)) else None

    def _put(self, row: Row) -> None:
        if leaves_at_ms(row.kind, row.expires) > self._horizon_ms:
            item = item_of(row.stamp, row.hash)
            if is_for_all(row.signed):
                self._common.add(item)
            else:
                for peer in self._parties(row):
                    self._named.setdefault(peer, Items()).add(item)

    def _take_out(self, row: Row) -> None:
        item = item_of(row.stamp, row.hash)
        if self._common.remove(item) or is_for_all(row.signed):
            return
        for peer in self._parties(row):
            items = self._named.get(peer)
            if items is not None and items.remove(item) and not len(items):
                del self._named[peer]

    def _parties(self, row: Row) -> set[bytes]:
        """With whom we share a record that names nodes."""
        audience = parse_unverified(row.signed)[0].audience
        named = {*audience, row.author} if not isinstance(audience, str) else set()
        return named - {self._ours} if self._ours in named else set()

    def _move(self, to_ms: int) -> None:
        low, high = sorted((self._horizon_ms, to_ms))
        is_forward, self._horizon_ms = to_ms > self._horizon_ms, to_ms
        if low == high:
            return
        for kind, limits in KINDS.items():
            after_ms, until_ms = low - limits.kept_ms, high - limits.kept_ms
            for row in self._store.ending(kind, after_ms=after_ms, until_ms=until_ms, limit=MOVE_ROWS_MAX):
                if is_forward:
                    self._take_out(row)
                else:
                    self._put(row)


_NOTHING = Items()
