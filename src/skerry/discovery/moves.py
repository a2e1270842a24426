"""What can happen to a membership (events, in the past tense), and what it wants done (effects, in the imperative).

`claims` are claims as they travel. A probe's `number` comes back with its answer; numbers are never used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Claims = tuple[bytes, ...]


class State(StrEnum):
    """How a member stands, as one node sees it."""

    ALIVE = "alive"
    SUSPECT = "suspect"  # somebody can't reach it, or it was not heard of yet; it may still be asked
    AWAY = "away"  # it said that it goes
    GONE = "gone"  # it did not, and nobody hears of it


PRESENT = frozenset({State.ALIVE, State.SUSPECT})


# --- events -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """The nodes that belong to the formation now, without our own."""

    nodes: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class LinkOpened:
    node: bytes


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """In order: one of the two said that it would."""

    node: bytes


@dataclass(frozen=True, slots=True)
class LinkLost:
    """It broke."""

    node: bytes


@dataclass(frozen=True, slots=True)
class Probed:
    """A member probes us; the effect `Answer` says what to reply."""

    sender: bytes
    claims: Claims


@dataclass(frozen=True, slots=True)
class Told:
    sender: bytes
    claims: Claims


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    node: bytes
    number: int
    claims: Claims


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """It can't be asked at all: nobody answers at its addresses."""

    node: bytes
    number: int


@dataclass(frozen=True, slots=True)
class HelperAnswered:
    """A helper reached the node, or says that it did not."""

    number: int
    reached: bool


@dataclass(frozen=True, slots=True)
class HelperFailed:
    """The helper itself could not be asked."""

    number: int


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is `next_s`, or later."""


@dataclass(frozen=True, slots=True)
class WentAway:
    """Our owner ends us, or closes the lid."""


@dataclass(frozen=True, slots=True)
class CameBack:
    """We are here again; the process lived on."""


Event = (
    MembersChanged
    | LinkOpened
    | LinkClosed
    | LinkLost
    | Probed
    | Told
    | ProbeAnswered
    | ProbeFailed
    | HelperAnswered
    | HelperFailed
    | TimePassed
    | WentAway
    | CameBack
)


# --- effects ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Over the link to it, dialled where there is none."""

    node: bytes
    number: int
    claims: Claims


@dataclass(frozen=True, slots=True)
class AskToProbe:
    helper: bytes
    node: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Nobody waits for an answer."""

    node: bytes
    claims: Claims


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to the `Probed` that was handled."""

    claims: Claims


@dataclass(frozen=True, slots=True)
class Show:
    """A member stands otherwise than before."""

    node: bytes
    state: State
    before: State


Effect = SendProbe | AskToProbe | Tell | Answer | Show
