"""Requests and replies of the records' verbs."""

from __future__ import annotations

from dataclasses import dataclass, field


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
