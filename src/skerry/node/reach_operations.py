"""The lines of the verb table by which nodes find out who can be dialled, and forward for those that can't.

The rule: they are for members, and for contacts whose entry has the right `relay` (`border.py`): no stranger and no client makes a node
dial, or carry, anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.discovery.verbs import ComeReply, ComeRequest, DialBackReply, DialBackRequest, OfferReply, PipeReply, PipeRequest
from skerry.identity.contacts import RELAY
from skerry.node.operation import Operation
from skerry.node.policy import Right
from skerry.node.verbs import Nothing

if TYPE_CHECKING:
    from skerry.node.node import Node


async def _dial_back(node: Node, request: DialBackRequest, caller: bytes) -> DialBackReply:
    return await node.reaching.serve_dial_back(request, caller)


async def _offer(node: Node, _: Nothing, __: bytes) -> OfferReply:
    return node.reaching.offer()


async def _open(node: Node, request: PipeRequest, caller: bytes) -> PipeReply:
    return await node.reaching.serve_open(request, caller)


async def _come(node: Node, request: ComeRequest, caller: bytes) -> ComeReply:
    return await node.reaching.serve_come(request, caller)


REACH_OPERATIONS = (
    Operation("reach.dial_back", Right.RELAY, DialBackRequest, DialBackReply, _dial_back, "Dial the caller, where it says it is.", RELAY),
    Operation("relay.offer", Right.RELAY, Nothing, OfferReply, _offer, "Would this node forward for the caller?", RELAY),
    Operation("relay.open", Right.RELAY, PipeRequest, PipeReply, _open, "Forward bytes between the caller and a node linked here.", RELAY),
    Operation("relay.come", Right.RELAY, ComeRequest, ComeReply, _come, "The caller forwards for somebody who wants this node.", RELAY),
)
