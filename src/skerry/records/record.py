"""Records: the kinds of statement that nodes share, and what each kind may cost.

The envelope is `identity/statement.py`'s; here stands the one table of kinds, with its limits and lifetimes. A record's identity is
(author, kind, name): each has one writer, and the newest from it wins.

The rule: every bound on what a peer can make us store stands in `KINDS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from skerry.identity.grants import DAY_MS, LAPSED_MS, NEVER_MS
from skerry.identity.stamps import AHEAD_MS_MAX
from skerry.identity.statement import Statement

HOUR_MS = 60 * 60 * 1000
TOMBSTONE_MS = 30 * DAY_MS  # a node that was away longer starts from a snapshot
KIBIBYTE = 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record.

    size_bytes_max   of the signed bytes
    author_max       how many names one author may have
    lifetime_ms      from stamp to expiry; renewed at half of it
    kept_ms          how long after its expiry it is still held and passed on
    durable          written through to the disk at once
    first            its place in a full pull: what others are judged by comes first
    """

    name: str
    size_bytes_max: int
    author_max: int
    lifetime_ms: int
    kept_ms: int = 0
    durable: bool = False
    first: int = 9

    def longest_ms(self, *, tombstone: bool) -> int:
        """How long after its stamp a record may end; a clock's tolerance is added."""
        return max(self.lifetime_ms, TOMBSTONE_MS if tombstone else 0) + AHEAD_MS_MAX


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("revocation", 4 * KIBIBYTE, 10_000, NEVER_MS, durable=True, first=0),
        Kind("departure", 4 * KIBIBYTE, 10_000, NEVER_MS, durable=True, first=1),
        Kind("grant", 8 * KIBIBYTE, 10_000, NEVER_MS, kept_ms=LAPSED_MS, durable=True, first=1),
        Kind("node", 16 * KIBIBYTE, 1, 24 * HOUR_MS, kept_ms=LAPSED_MS, first=2),  # where it was and what its name is, while it may return
        Kind("agent", 48 * KIBIBYTE, 256, 24 * HOUR_MS, first=3),
        Kind("charter", 48 * KIBIBYTE, 64, 366 * DAY_MS, first=3),  # of a circle, by its founder; stands until it is taken back
        Kind("entry", 4 * KIBIBYTE, 256, 366 * DAY_MS, first=3),  # the circles that an agent entered, by its node
        Kind("circle", 24 * KIBIBYTE, 256, HOUR_MS),  # an announcement
        # one end's half: an intent, which outlives a month's absence of the other, and no half may be lost that the other side counts on
        Kind("wire", 4 * KIBIBYTE, 4096, 30 * DAY_MS, durable=True, first=4),
    )
}


TRUST = ("revocation", "departure", "grant")  # what others are judged by: never taken back, first in a full pull, kept by all


class Rejection(StrEnum):
    """Why a record was not taken in. A value, not an exception: refusals are expected."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    TOO_LARGE = "too_large"
    UNKNOWN_KIND = "unknown_kind"
    WRONG_FORMATION = "wrong_formation"
    TOO_FAR_AHEAD = "too_far_ahead"
    TOO_LONG = "too_long"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    OVER_QUOTA = "over_quota"
    NOT_GRANTED = "not_granted"
    STALE = "stale"
    ADDRESS = "address_not_allowed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """`reason` for programs, `detail` for people."""

    reason: Rejection
    detail: str


def wins(new: Statement, old_stamp: int, old_hash: bytes) -> bool:
    """The merge: the newer stamp, then the greater hash. Commutative, associative, idempotent."""
    return (new.stamp, new.hash) > (old_stamp, old_hash)


def expired(expires_ms: int, *, now_ms: int) -> bool:
    """Whether a record says nothing any more; our clock may be a little behind its author's."""
    return now_ms > expires_ms + AHEAD_MS_MAX


def droppable(kind: str, expires_ms: int, *, now_ms: int) -> bool:
    """Whether a record may leave the store."""
    limits = KINDS.get(kind)
    return now_ms > expires_ms + AHEAD_MS_MAX + (limits.kept_ms if limits else 0)


def leaves_at_ms(kind: str, expires_ms: int) -> int:
    """When a record leaves the set that nodes compare: a clock's tolerance before it may leave the store, so that of two nodes whose
    clocks agree that far neither has dropped, nor would refuse, what the other still counts."""
    limits = KINDS.get(kind)
    return expires_ms + (limits.kept_ms if limits else 0)


def renewal_due(stamp_at_ms: int, expires_ms: int, *, now_ms: int) -> bool:
    """Whether half of its life is over."""
    return now_ms >= stamp_at_ms + (expires_ms - stamp_at_ms) // 2
