"""How an agent stands: what its node says about it in the `agent` record and shows in lists.

The rule: only an `available` agent is given tasks, and one that restarts where nobody else is left; every other status says why not.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """starting -> available <-> unhealthy; paused until resumed; restarting after a crash; stopped and failed until somebody starts it."""

    STARTING = "starting"
    AVAILABLE = "available"
    UNHEALTHY = "unhealthy"
    PAUSED = "paused"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    FAILED = "failed"


WORKS = frozenset({Status.AVAILABLE})
COMES_BACK = frozenset({Status.STARTING, Status.RESTARTING})  # in a moment, as a rule: a task may wait for it
