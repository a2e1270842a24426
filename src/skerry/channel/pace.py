"""How a process divides its time between calls and large values: while calls go on, large values take only a share of it.

A value of 30 MB keeps two processes of each hop busy for as long as it is under way. Where calls share those processes with it, what has
been spent on large values is paid for with a pause, in which calls find the process and the machine free. Where nobody calls, there is
no pause.

The rule: large values wait for calls, never the other way round; and they go on, however many calls there are.
"""

from __future__ import annotations

CALLS_GO_ON_S = 0.05  # so long after a frame of a call more of them are expected
PAUSES = 7.0  # for each second that large values took: they have an eighth of the time
PAUSE_S_MIN = 0.001  # what a loop can wait; shorter pauses are saved up
PAUSE_S_MAX = 0.1  # owed at once: a process that was stopped for long must not wait as long again


class Pace:
    """One process's, or one event loop's. `now` is the loop's time, in seconds."""

    def __init__(self) -> None:
        self._heard = self._heard_before = float("-inf")
        self._free_at = 0.0

    def heard(self, now: float) -> None:
        """A frame came that is no part of a large value."""
        self._heard_before, self._heard = self._heard, now

    def spent(self, seconds: float, *, now: float) -> float:
        """Large values took that long; returns the pause, in seconds, until they may go on (0: at once).

        One frame alone is no sign of calls that go on: it may be the one that names the large value.
        """
        if now - self._heard_before > CALLS_GO_ON_S:
            self._free_at = now
            return 0.0
        self._free_at = min(max(self._free_at, now) + seconds * PAUSES, now + PAUSE_S_MAX)
        pause = self._free_at - now
        return pause if pause >= PAUSE_S_MIN else 0.0
