"""How a direction between two hosts behaves, and how long a segment takes on it.

The rule: a link of a stream never loses bytes for good. A loss is a wait, as TCP makes it one.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

RETRANSMIT_FIRST_S = 0.2  # TCP's least time-out; it doubles with each loss of the same segment
RETRANSMIT_MOST_S = 5.0  # also: after a cut heals, bytes move on at the next retry, which is at most this far away


@dataclass(frozen=True, slots=True)
class Link:
    """One direction between two hosts.

    delay_s, jitter_s   each segment takes delay_s plus up to jitter_s
    loss                the chance that a segment is lost and sent again
    split               the chance that a read is cut in two somewhere
    reset               the chance, per segment, that the connection breaks for both
    """

    delay_s: float = 0.001
    jitter_s: float = 0.0005
    loss: float = 0.0
    split: float = 0.1
    reset: float = 0.0

    def __post_init__(self) -> None:
        assert 0 <= self.loss < 1, "what is always lost never arrives: cut the path instead"


def transit_s(link: Link, random: Random) -> float:
    """How long one segment takes, with what its losses cost."""
    took_s = link.delay_s + link.jitter_s * random.random()
    if link.loss:
        wait_s = RETRANSMIT_FIRST_S
        while random.random() < link.loss:
            took_s += wait_s
            wait_s = min(wait_s * 2, RETRANSMIT_MOST_S)
    return took_s
