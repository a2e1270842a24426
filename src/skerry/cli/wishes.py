"""How a task is to be done, as the options of `call` and `chat` say it.

The rule: only what differs from how it goes by itself is said, so that a plain call stays the shortest message there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.cli.options import REACH

if TYPE_CHECKING:
    from skerry.routing.strategies import Strategy
    from skerry.routing.task import Wishes


def wishes_of(
    strategy: Strategy | None,
    hedge: bool,
    priority: int,
    restart: bool,
    max_latency: int,
    where: list[str] | None,
    reach: str = REACH,
) -> Wishes:
    """Raises UsageError for what can't be asked for."""
    from skerry.routing.task import PRIORITY_DEFAULT, check_reach, read_where

    wishes: Wishes = {}
    if strategy is not None:
        wishes["strategy"] = strategy.value
    if hedge:
        wishes["hedge"] = True
    if priority != PRIORITY_DEFAULT:
        wishes["priority"] = priority
    if restart:
        wishes["restart"] = True
    if max_latency:
        wishes["max_latency_ms"] = max_latency
    if where:
        wishes["where"] = read_where(where)
    if reach != REACH:
        wishes["reach"] = check_reach(reach)
    return wishes
