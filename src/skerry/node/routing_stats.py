"""What a node's routing knows and did, in numbers.

The rule: counted when somebody asks; the fast path keeps a few counters and nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.routing.pool import Provider
from skerry.routing.verbs import RouterStats

if TYPE_CHECKING:
    from skerry.node.node import Node


def router_stats(node: Node) -> RouterStats:
    """As the seed has it; circles are counted once there are any."""
    dispatcher, catalogue = node.dispatcher, node.catalogue

    def is_available(provider: Provider) -> bool:
        option = provider.options[0]
        up = provider.node == node.key.public or node.links.get(provider.node) is not None
        return up and not option.candidate.restarting and dispatcher.belongs(option.candidate)

    return RouterStats(
        strategy=dispatcher.strategy.value,
        circle_count=0,
        capability_count=len(catalogue.capabilities()),
        total_members=len(catalogue),
        available_members=catalogue.members(is_available),
        choices=dict(dispatcher.choices),
        failovers=dispatcher.failovers,
        hedges_won=dispatcher.hedges["won"],
        hedges_lost=dispatcher.hedges["lost"],
        restarts=dispatcher.restarts,
        blacklisted=len(dispatcher.reputation.blacklisted(now_ms=node.ports.clock.now_ms())),
    )
