"""How long this node has been away from its formation, and whom that lets it believe.

A tombstone lives 30 days. Who was away longer may still hold what everybody else has deleted and forgotten, and must not bring it back. So
each node keeps the time until which it has heard all that was said (`heard_until`), shows it with what it sends, and compares it with
what others show. Who is more than 30 days behind is *behind*: it takes a full snapshot from the other and drops what is not in it. To the
other it is *stale*: what it says of itself and what it holds of grants counts, what it holds of third ones does not.

A time that is still to come, as one is to a machine that boots in 1970, is put aside. It counts again when the clock is set ahead, past it,
within the hour: so it was the earlier time that was wrong. Else the later one was, and says nothing.

The comparison is between two nodes and not with the calendar: a formation that was switched off for a year is nowhere behind itself.

The rule: knowledge that may be older than its deletion goes to nobody. `now_ms` is a parameter.
"""

from __future__ import annotations

from skerry.identity.grants import DAY_MS, TOLERANCE_MS
from skerry.ports import Store
from skerry.records.record import TOMBSTONE_MS

FACTS = "attendance"  # the space of facts
HEARD_UNTIL = "heard_until"
CLOCK_HIGH = "clock_high"
RIPE = "ripe"  # when the first of what was refused as of the future may be asked for again (Unix ms)
PUT_ASIDE_MS = 3_600_000  # for so long a clock that starts in the past may wait for somebody to set it
SETTLED_MS = DAY_MS  # all came back from a long absence: so long they wait for somebody who was not away, then they are current


def begin(store: Store, *, now_ms: int) -> None:
    """A formation is founded: there is nothing that its founder has not heard."""
    store.set_fact(FACTS, HEARD_UNTIL, str(now_ms).encode())


class Attendance:
    """One node's memory of when it was last in touch."""

    def __init__(self, store: Store, *, now_ms: int) -> None:
        self._store = store
        self._heard = self._number(HEARD_UNTIL)
        self._high = self._number(CLOCK_HIGH)
        self._since: int | None = None  # in touch with others who were away as long as we
        self._last_ms = now_ms
        self._aside = 0  # noted by a time that is still to come
        self._aside_until = 0
        if self._heard > now_ms + TOLERANCE_MS:
            self._put_aside(now_ms)  # that clock was wrong, or this one is: we don't know
            self._heard = 0

    @property
    def heard_until(self) -> int:
        """Unix ms; 0 where this node has never heard anything."""
        return self._heard

    def is_behind(self, theirs: int | None, *, now_ms: int) -> bool:
        """Whether that peer has heard of what we may have missed for good. None: a peer that does not say. Nobody has heard what is still
        to be said: who claims so is not believed, for all that we know would hang on it."""
        return theirs is not None and theirs <= now_ms + TOLERANCE_MS and theirs - self._heard > TOMBSTONE_MS

    def is_stale(self, theirs: int | None) -> bool:
        """Whether that peer may have missed what we have forgotten."""
        return theirs is not None and self._heard - theirs > TOMBSTONE_MS

    def caught_up(self, theirs: int | None, *, now_ms: int) -> None:
        """All that a peer holds is here now."""
        self._heard = max(self._heard, min(theirs, now_ms) if theirs is not None else now_ms)
        self._keep(now_ms)

    def judged_by(self, now_ms: int) -> None:
        """Something was refused because its time is over by our clock: if that is set back, it was wrong."""
        self._high = max(self._high, now_ms)

    def ripens(self, at_ms: int) -> None:
        """Something was refused as of the future: from then on it may be asked for again."""
        held = self._store.fact(FACTS, RIPE)
        if held is None or at_ms < int(held):
            self._store.set_fact(FACTS, RIPE, str(at_ms).encode())

    def ripened(self, *, now_ms: int) -> bool:
        """Whether the time of something has come that was refused as of the future: mostly because our clock was set forward."""
        ripe = self._store.fact(FACTS, RIPE)
        if ripe is None or now_ms < int(ripe):
            return False
        self._store.set_fact(FACTS, RIPE, None)
        return True

    def tick(self, *, in_touch: bool, now_ms: int) -> bool:
        """Time passes, in touch with others (or with nobody else to be in touch with). True: our clock was set back, and what came and
        went by the wrong time must be asked for again."""
        set_back = now_ms + TOLERANCE_MS < self._high
        if set_back:
            self._high = 0
            if self._heard > now_ms:
                self._put_aside(now_ms)
                self._heard = 0
        elif self._last_ms <= self._aside_until and self._last_ms + TOLERANCE_MS < self._aside <= now_ms + TOLERANCE_MS:
            self._heard, self._aside = max(self._heard, self._aside), 0
        self._last_ms = now_ms
        if not in_touch:
            self._since = None
        elif now_ms - self._heard <= TOMBSTONE_MS:
            self._heard, self._since = max(self._heard, now_ms), None
        else:
            self._since = now_ms if self._since is None else self._since
            if now_ms - self._since >= SETTLED_MS:
                self._heard = now_ms
        self._keep(now_ms)
        return set_back

    def _put_aside(self, now_ms: int) -> None:
        self._aside, self._aside_until = self._heard, now_ms + PUT_ASIDE_MS

    def _keep(self, now_ms: int) -> None:
        self._high = max(self._high, now_ms)
        for key, value in ((HEARD_UNTIL, self._heard), (CLOCK_HIGH, self._high)):
            self._store.set_fact(FACTS, key, str(value).encode())

    def _number(self, key: str) -> int:
        return int(self._store.fact(FACTS, key) or b"0")
