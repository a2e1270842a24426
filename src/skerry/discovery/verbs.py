"""Requests and replies of the verbs by which nodes know of each other's presence. Claims are those of `claims.py`.

They are small, because an idle formation says little else: a probe without news takes 37 bytes as a frame, its answer 19.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """`presence.probe`: are you there? And what is said of you, and news."""

    claims: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProbeReply:
    claims: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """`presence.relay`: can you reach that member? I can't."""

    node: bytes


@dataclass(frozen=True, slots=True)
class RelayReply:
    reached: bool


@dataclass(frozen=True, slots=True)
class TellRequest:
    """`presence.tell`: news, at most 16 claims of it."""

    claims: list[bytes]


@dataclass(frozen=True, slots=True)
class TellReply:
    """Heard."""


@dataclass(frozen=True, slots=True)
class AwayRequest:
    """`node.away`: say to the formation that this node goes (`back`: that it is here again)."""

    back: bool = False


@dataclass(frozen=True, slots=True)
class AwayReply:
    """How many nodes could be told at once; the others hear it from them."""

    told: int
