"""A hybrid logical clock (Kulkarni et al., 2014): order that survives clocks which drift and step.

A stamp is 64 bits: Unix milliseconds in the upper 48, a counter in the lower 16. A node's stamps only rise, also when its wall clock
is set back; whoever has seen a stamp writes a greater one.

The rule: the wall clock is a parameter, and a stamp far ahead of it is refused by whoever admits records, so that one wild clock
can't drag everyone's.
"""

from __future__ import annotations

COUNTER_BITS = 16
STAMP_MAX = 2**64 - 1
EARLIEST_MS = 1_735_689_600_000  # 2025-01-01: before it there was no Skerry, so a clock that says so is wrong
AHEAD_MS_MAX = 5 * 60 * 1000  # how far ahead of our own clock a stamp may be


def stamp_at(now_ms: int) -> int:
    """The first stamp of that millisecond."""
    return now_ms << COUNTER_BITS


def stamp_ms(stamp: int) -> int:
    """The wall-clock part, Unix milliseconds."""
    return stamp >> COUNTER_BITS


def next_stamp(last: int, *, now_ms: int) -> int:
    """The stamp after `last`: of this millisecond if the clock moved on, else one more than `last`."""
    return max(last + 1, stamp_at(now_ms))


def too_far_ahead(stamp: int, *, now_ms: int) -> bool:
    return stamp_ms(stamp) > now_ms + AHEAD_MS_MAX
