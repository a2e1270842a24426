"""How a node leaves its formation in order: the others are told, and then the home is free.

It takes back what it said (agents, its node record), says that it goes, and waits until those who are connected have taken it in. A crash
after that is finished at the next start: a home whose own departure stands belongs nowhere.

The rule: a node that has said that it leaves never speaks for that formation again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.errors import StorageError
from skerry.node.verbs import LeaveReply

if TYPE_CHECKING:
    from skerry.node.node import Node

TOLD_S = 5.0  # how long the others have to take it in; who is slower learns it from those who were not


async def leave(node: Node) -> LeaveReply:
    """Tell the formation that this node goes. The node has to end afterwards; `membership.leave` then frees the home."""
    others = [info for info in node.wanted() if node.trust.standing(info).belongs]
    await node.host.close()
    try:
        node.advertiser.take_back_all()
        node.trust.depart()
    except StorageError:  # a full disk: it has not left, and goes on
        node.host.open_again()
        node.advertiser.speak()
        raise
    told = await node.federation.flushed(timeout_s=TOLD_S)
    return LeaveReply(node.formation.hex(), told, len(others))
