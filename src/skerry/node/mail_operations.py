"""The verbs about letters: how they are sent, and how nodes hand them to each other.

The rule: whoever is not of the formation delivers only where a wire stands or its entry has the right (`border.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.node.operation import Operation
from skerry.node.policy import Right
from skerry.wiring.verbs import DeliverReply, DeliverRequest, SendReply, SendRequest

if TYPE_CHECKING:
    from skerry.node.node import Node


async def _send(node: Node, request: SendRequest, caller: bytes) -> SendReply:
    return await node.mail.send_asked(request, caller=caller)


async def _deliver(node: Node, request: DeliverRequest, _: bytes) -> DeliverReply:
    return DeliverReply(await node.mail.take(request.agent, request.letters))


MAIL_OPERATIONS = (
    Operation("mail.send", Right.INJECT, SendRequest, SendReply, _send, "Put a letter to an agent into this node's outbox."),
    Operation(
        "mail.deliver",
        Right.FEDERATE,
        DeliverRequest,
        DeliverReply,
        _deliver,
        "Hand over letters; answered once they are handled.",
        "inject",
    ),
)
