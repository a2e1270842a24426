"""Requests and replies of the records' verbs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PullRequest:
    """`records.pull`: what came after the cursor; an empty cursor means everything."""

    cursor: str = ""
    limit: int = 200


@dataclass(frozen=True, slots=True)
class PullReply:
    """Signed records, the next cursor, and whether there is more now."""

    records: list[bytes]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class PushRequest:
    """`records.push`: records that are new to the sender."""

    records: list[bytes]


@dataclass(frozen=True, slots=True)
class PushReply:
    """How many were new here, and why the others were refused: reason -> count."""

    taken: int
    refused: dict[str, int] = field(default_factory=dict)
