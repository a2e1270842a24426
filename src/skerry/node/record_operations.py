"""The verbs about records: how nodes get them from each other, and how they are shown.

The rule: to compare, to give and to ask for news is for nodes of the formation alone; a contact pulls what is shared with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.identity.contacts import FEDERATE
from skerry.node import record_views
from skerry.node.operation import Operation
from skerry.node.policy import Right
from skerry.node.verbs import Nothing
from skerry.records.verbs import (
    ExchangeReply,
    ExchangeRequest,
    NeighbourRequest,
    PullReply,
    PullRequest,
    PushReply,
    PushRequest,
    ReconcileReply,
    ReconcileRequest,
    RecordDetail,
    RecordList,
    RecordName,
    RecordQuery,
)

if TYPE_CHECKING:
    from skerry.node.node import Node


async def _pull(node: Node, request: PullRequest, caller: bytes) -> PullReply:
    return node.federation.serve_pull(request, reader=caller)


async def _push(node: Node, request: PushRequest, caller: bytes) -> PushReply:
    return node.federation.serve_push(request, sender=caller)


async def _reconcile(node: Node, request: ReconcileRequest, caller: bytes) -> ReconcileReply:
    return node.federation.exchange.serve_reconcile(request, reader=caller)


async def _exchange(node: Node, request: ExchangeRequest, caller: bytes) -> ExchangeReply:
    return node.federation.exchange.serve_exchange(request, reader=caller)


async def _neighbour(node: Node, request: NeighbourRequest, caller: bytes) -> Nothing:
    node.federation.serve_neighbour(request, sender=caller)
    return Nothing()


RECORD_OPERATIONS = (
    Operation("records.pull", Right.FEDERATE, PullRequest, PullReply, _pull, "The records that came after a cursor.", FEDERATE),
    Operation("records.push", Right.FEDERATE, PushRequest, PushReply, _push, "Records that are new to the sender."),
    Operation(
        "records.reconcile", Right.FEDERATE, ReconcileRequest, ReconcileReply, _reconcile, "Compare what both sides hold, by ranges."
    ),
    Operation("records.exchange", Right.FEDERATE, ExchangeRequest, ExchangeReply, _exchange, "Send what a comparison found missing."),
    Operation("records.neighbour", Right.FEDERATE, NeighbourRequest, Nothing, _neighbour, "Ask to be told at once of what is new, or not."),
    Operation("record.list", Right.OPERATE, RecordQuery, RecordList, record_views.listed, "The records that this node holds."),
    Operation("record.show", Right.OPERATE, RecordName, RecordDetail, record_views.shown, "One record, with what it says."),
)
