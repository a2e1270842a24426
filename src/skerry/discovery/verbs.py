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


@dataclass(frozen=True, slots=True)
class DialBackRequest:
    """`reach.dial_back`: can you dial me? At these addresses; and at these ports of the host that I come from, as you see it."""

    addresses: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DialBackReply:
    """Where the asking node answered, and proved to be itself; of the other addresses, why not: [address, reason]. `host`: where it seems
    to come from."""

    answered: list[str]
    failed: list[list[str]] = field(default_factory=list)
    host: str = ""


@dataclass(frozen=True, slots=True)
class OfferReply:
    """`relay.offer`: whether the node that is asked would forward for the one that asks."""

    forwards: bool


@dataclass(frozen=True, slots=True)
class PipeRequest:
    """`relay.open`: a pipe to that node, which is linked with the relay."""

    node: bytes


@dataclass(frozen=True, slots=True)
class PipeReply:
    """With this token the asking node dials the relay, once."""

    token: bytes


@dataclass(frozen=True, slots=True)
class ComeRequest:
    """`relay.come`: somebody wants you; dial me with this token."""

    token: bytes


@dataclass(frozen=True, slots=True)
class ComeReply:
    """It is on its way."""
