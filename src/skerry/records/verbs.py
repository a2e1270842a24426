"""Requests and replies of the records' verbs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skerry.records.reconcile import Answer, Range


@dataclass(frozen=True, slots=True)
class PullRequest:
    """`records.pull`: what came after the cursor; an empty cursor means everything.

    author, newer_than   instead: what that author said later than that stamp (a node asks for its own, which a backup may lack)
    """

    cursor: str = ""
    limit: int = 200
    author: bytes = b""
    newer_than: int = 0


@dataclass(frozen=True, slots=True)
class PullReply:
    """Signed records, the next cursor, and whether there is more now. `heard_until`: see `attendance.py`."""

    records: list[bytes]
    cursor: str
    more: bool
    heard_until: int | None = None


@dataclass(frozen=True, slots=True)
class PushRequest:
    """`records.push`: records that are new to the sender. `heard_until`: see `attendance.py`."""

    records: list[bytes]
    heard_until: int | None = None


@dataclass(frozen=True, slots=True)
class PushReply:
    """How many were new here, and why the others were refused: reason -> count."""

    taken: int
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """`record.list`: what this node holds, in the order in which it came, from a cursor on.

    kind, name   exactly, or with a `*` at the end; author: a node by name, id, or the start of its id
    new          nothing but the cursor of now: for who wants only what comes from now on
    outside      instead of our formation's what others share with us or say to everybody; a page is a formation's
    """

    kind: str = ""
    name: str = ""
    author: str = ""
    cursor: str = ""
    new: bool = False
    outside: bool = False


@dataclass(frozen=True, slots=True)
class RecordInfo:
    """One record as it is held. Times are Unix ms; `audience` is "formation", "contacts", "public", or "nodes" and who they are.

    stands   "yes", or why it says nothing here: "gone" (a tombstone), "expired", or how its author stands
    """

    kind: str
    name: str
    author: str
    author_name: str
    formation: str
    audience: str
    nodes: list[str]
    stamp: int
    said_at: int
    expires_at: int
    size_bytes: int
    hash: str
    stands: str


@dataclass(frozen=True, slots=True)
class RecordList:
    records: list[RecordInfo]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class RecordName:
    """`record.show`. `author` may be left out where one node alone has a record of that kind and name; `outside` as in `RecordQuery`."""

    kind: str
    name: str
    author: str = ""
    outside: bool = False


@dataclass(frozen=True, slots=True)
class RecordDetail:
    """A record with its body, the card in it where it has one, and the signed bytes as they travel."""

    record: RecordInfo
    body: dict[str, Any]
    card: dict[str, Any] | None
    signed: bytes


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """`records.reconcile`: ranges of what we share, as they are here. `as_of_ms`: what ends by then does not count; see `holdings.py`."""

    as_of_ms: int
    ranges: list[Range]


@dataclass(frozen=True, slots=True)
class ReconcileReply:
    """What differs among the first `answered` ranges; how many records we share in all; the cursor of who has all of them."""

    answers: list[Answer]
    answered: int
    holds: int
    cursor: str
    heard_until: int | None = None


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """`records.exchange`: records that the other side lacks, and the items (packed) that it is to send."""

    give: list[bytes]
    want: bytes
    as_of_ms: int
    heard_until: int | None = None


@dataclass(frozen=True, slots=True)
class ExchangeReply:
    """Records in the order in which they were wanted. `covered`: so many of the wanted are here, or are not held any more."""

    records: list[bytes]
    covered: int
    taken: int
    refused: dict[str, int] = field(default_factory=dict)
    heard_until: int | None = None


@dataclass(frozen=True, slots=True)
class NeighbourRequest:
    """`records.neighbour`: whether the caller wants to be told at once of what is new."""

    wanted: bool
