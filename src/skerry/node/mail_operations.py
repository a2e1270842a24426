"""The verbs about letters and wires: for people, and between nodes.

The rule: whoever is not of the formation delivers only where a wire stands or its entry has the right (`border.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.node.operation import Operation
from skerry.node.policy import Right
from skerry.node.verbs import Nothing
from skerry.wiring.verbs import (
    DeliverReply,
    DeliverRequest,
    InjectReply,
    InjectRequest,
    LetterContent,
    LetterList,
    LetterName,
    LetterNames,
    LetterQuery,
    LookupReply,
    LookupRequest,
    SendReply,
    SendRequest,
    WireAddRequest,
    WireCheckRequest,
    WireInfo,
    WireList,
    WireReply,
    WireRequest,
)

if TYPE_CHECKING:
    from skerry.node.node import Node


async def _send(node: Node, request: SendRequest, caller: bytes) -> SendReply:
    return await node.mail.send_asked(request, caller=caller)


async def _deliver(node: Node, request: DeliverRequest, caller: bytes) -> DeliverReply:
    return await node.mail.serve(request, caller=caller)


async def _letter_list(node: Node, request: LetterQuery, _: bytes) -> LetterList:
    return node.mail.undelivered.listed(request.limit)


async def _letter_show(node: Node, request: LetterName, _: bytes) -> LetterContent:
    return node.mail.undelivered.shown(request.id)


async def _letter_retry(node: Node, request: LetterNames, _: bytes) -> LetterList:
    return node.mail.undelivered.retry(request.ids)


async def _letter_drop(node: Node, request: LetterNames, _: bytes) -> LetterList:
    return node.mail.undelivered.drop(request.ids)


async def _add(node: Node, request: WireAddRequest, _: bytes) -> WireInfo:
    return await node.wires.add(request.agent, request.peer)


async def _remove(node: Node, request: WireAddRequest, _: bytes) -> WireInfo:
    return await node.wires.remove(request.agent, request.peer)


async def _list(node: Node, _: Nothing, __: bytes) -> WireList:
    return WireList(node.wires.infos())


async def _wire(node: Node, request: WireRequest, caller: bytes) -> WireReply:
    return node.wires.serve_wire(request, caller=caller)


async def _unwire(node: Node, request: WireRequest, caller: bytes) -> WireReply:
    return node.wires.serve_unwire(request, caller=caller)


async def _check(node: Node, request: WireCheckRequest, caller: bytes) -> WireReply:
    return node.wires.serve_check(request, caller=caller)


async def _inject(node: Node, request: InjectRequest, caller: bytes) -> InjectReply:
    return await node.wires.serve_inject(request, caller=caller)


async def _lookup(node: Node, request: LookupRequest, _: bytes) -> LookupReply:
    return node.wires.serve_lookup(request)


MAIL_OPERATIONS = (
    Operation("mail.send", Right.INJECT, SendRequest, SendReply, _send, "Put a letter to an agent into this node's outbox."),
    Operation(
        "mail.deliver", Right.FEDERATE, DeliverRequest, DeliverReply, _deliver, "Hand over letters, until they are handled.", "inject"
    ),
    Operation("letter.list", Right.OPERATE, LetterQuery, LetterList, _letter_list, "Letters that were not handled (yet), and why."),
    Operation("letter.show", Right.OPERATE, LetterName, LetterContent, _letter_show, "One of them, with what it says."),
    Operation("letter.retry", Right.OPERATE, LetterNames, LetterList, _letter_retry, "Send again what was put aside."),
    Operation("letter.drop", Right.OPERATE, LetterNames, LetterList, _letter_drop, "Forget what was put aside."),
    Operation("wire.add", Right.OPERATE, WireAddRequest, WireInfo, _add, "Wire an agent of this node to another one."),
    Operation("wire.remove", Right.OPERATE, WireAddRequest, WireInfo, _remove, "Take a wire away, on both sides."),
    Operation("wire.list", Right.OBSERVE, Nothing, WireList, _list, "The wires of this node's agents."),
    Operation("wire", Right.WIRE, WireRequest, WireReply, _wire, "The other side's half is written: write this side's.", "wire"),
    Operation("unwire", Right.WIRE, WireRequest, WireReply, _unwire, "The other side took its half away: take this side's.", "wire"),
    Operation("wire.check", Right.WIRE, WireCheckRequest, WireReply, _check, "Whether this side's half of a wire is there.", "wire"),
    Operation(
        "inject", Right.INJECT, InjectRequest, InjectReply, _inject, "A letter by the asking node itself, to an agent here.", "inject"
    ),
    Operation("lookup_member", Right.WIRE, LookupRequest, LookupReply, _lookup, "Who an agent of this node is, as wires name it.", "wire"),
)
