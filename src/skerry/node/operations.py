"""The verb table: every verb once, with its right, its request, its reply and its handler. All doors lead here.

The rule: a call is answered only when its verb is known and the peer has the verb's right, checked now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from skerry.agents.runtimes import REMOTE_PREFIX
from skerry.agents.verbs import AgentInfo, AgentList, AgentName, AgentQuery, AgentRunRequest, LogsReply, LogsRequest
from skerry.channel.calls import Body, Served
from skerry.channel.messages import ITEMS_MAX, pack_message, unpack_message
from skerry.discovery.verbs import AwayReply, AwayRequest, ProbeReply, ProbeRequest, RelayReply, RelayRequest, TellReply, TellRequest
from skerry.errors import Code, Refused, UsageError
from skerry.identity.codec import pack
from skerry.identity.pieces import joined
from skerry.node import reputations, views
from skerry.node.circle_operations import CIRCLE_OPERATIONS
from skerry.node.contact_operations import CONTACT_OPERATIONS
from skerry.node.doctor import examine
from skerry.node.leaving import leave
from skerry.node.mail_operations import MAIL_OPERATIONS
from skerry.node.operation import Operation, elsewhere
from skerry.node.policy import Right
from skerry.node.reach_operations import REACH_OPERATIONS
from skerry.node.record_operations import RECORD_OPERATIONS
from skerry.node.twins import has_twin
from skerry.node.verbs import (
    AskReply,
    AskRequest,
    DirectoryReply,
    DoctorReply,
    DoctorRequest,
    FormationInfo,
    InviteReply,
    InviteRequest,
    JoinReply,
    JoinRequest,
    LeaveReply,
    NodeInfo,
    NodeList,
    NodeListRequest,
    NodeName,
    Nothing,
    PingReply,
    RenameRequest,
    RenewReply,
    RestoreRequest,
    RevokeReply,
    RevokeRequest,
    StatusReply,
    TwinRequest,
)
from skerry.routing.task import Request, TaskResult, error_fields
from skerry.routing.verbs import CapabilityList, CapabilityQuery, ForgiveRequest, Score, ScoreList, ScoreQuery

if TYPE_CHECKING:
    from skerry.node.node import Node

ASK_REACH_S = 4.5  # to reach the node that a verb is put to
LOG_LINES_MAX = 10_000
TWIN_SEEN_CHARACTERS_MAX = 64
SHIPPED_ITEMS_MAX = 25_000  # in a message: an agent's 10,000 files with their names, and what is said beside them
LOG_BYTES_MAX = 1024 * 1024


async def serve(node: Node, served: Served) -> Body:
    """Answer a call that came over a channel."""
    verb = served.verb
    right = _RIGHTS.get(verb)
    is_contact = Right.CONTACT in served.link.rights and Right.OWN not in served.link.rights
    if is_contact and right is not None and VERBS[verb].contact:
        return await node.border.serve(served)
    if Right.CALL not in served.link.rights:
        node.strangers.check_call(served.link)
        if verb == "task.run" and node.circle_door.is_open:
            return await node.circle_door.serve(served)
    if right is None:
        raise Refused(f"this node knows no verb {verb!r}", code=Code.UNKNOWN_VERB, hint="is the other side newer than this node?")
    if right not in served.link.rights:
        raise Refused(
            f"{verb!r} needs the right {right.value!r}, which this peer does not have here",
            code=Code.NOT_GRANTED,
            hint="ask an operator of the formation for a ticket" if not is_contact else "no contact has it: it is for the formation alone",
        )
    if verb == "task.run":
        return await node.tasks.serve(served)
    if verb == "task.call":
        return await have_done(node, Request.from_bytes(served.body), served)
    if verb == "contact.meet":
        return await node.meetings.serve(served)
    operation = VERBS[verb]
    items_max = SHIPPED_ITEMS_MAX if operation.request is AgentRunRequest else ITEMS_MAX
    request: Any = unpack_message(operation.request, served.body, items_max=items_max)
    if isinstance(request, AgentRunRequest) and Right.OWN not in served.link.rights:
        _check_no_local_files(request)
    if isinstance(request, JoinRequest):
        node.strangers.check_join(served.link)
    try:
        reply = await operation.handler(node, request, served.link.id)
    except Refused:
        if isinstance(request, JoinRequest):
            node.strangers.join_failed(served.link)
        raise
    return pack_message(reply)


async def perform(node: Node, verb: str, request: Any, *, rights: frozenset[str]) -> Any:
    """The same, for a door in this process that has already found out who asks."""
    operation = VERBS[verb]
    if operation.right not in rights:
        raise Refused(f"{verb!r} needs the right {operation.right.value!r}", code=Code.NOT_GRANTED)
    return await operation.handler(node, request, node.key.public)


async def have_done(node: Node, request: Request, served: Served, *, payload_only: bool = False, chain: Sequence[str] = ()) -> Body:
    """`task.call`, and an agent's own calls: route, stream where parts are wanted, reply with the TaskResult (or its payload alone)."""
    if not served.wants_parts:
        try:
            result = await node.dispatcher.call(request, timeout_s=served.timeout_s, chain=chain)
        except Refused as error:
            if not error.retry_after_s or payload_only:
                raise
            result = TaskResult(b"", False, None, error_fields(error), "", b"", node.ports.clock.now_ms(), 0.0)
        if not payload_only:
            return result.to_bytes()
        result.raise_error()
        return result.payload if result.payload is not None else pack(None)
    last: Body = b""
    items: AsyncIterator[Body | TaskResult] = node.dispatcher.stream(request, timeout_s=served.timeout_s, chain=chain)
    try:
        async for item in items:
            if isinstance(item, TaskResult):
                last = item.to_bytes()
            else:
                await served.part(item)
    finally:
        await items.aclose()  # type: ignore[attr-defined]
    return last


# --- handlers ---------------------------------------------------------------------------------------------------------------------


async def _ping(node: Node, _: Nothing, __: bytes) -> PingReply:
    return PingReply(node.key.public.hex(), node.ports.clock.now_ms())


async def _join(node: Node, request: JoinRequest, caller: bytes) -> JoinReply:
    await node.may_write.wait()
    return node.invitations.join(request, joiner=caller)


async def _renew(node: Node, _: Nothing, caller: bytes) -> RenewReply:
    await node.may_write.wait()
    return RenewReply(node.trust.renew_for(caller).statement.signed)


async def _directory(node: Node, _: Nothing, __: bytes) -> DirectoryReply:
    return DirectoryReply(views.directory(node))


async def _twin(node: Node, request: TwinRequest, _: bytes) -> Nothing:
    has_twin(node, request.seen_at[:TWIN_SEEN_CHARACTERS_MAX])
    return Nothing()


async def _status(node: Node, _: Nothing, __: bytes) -> StatusReply:
    return views.status(node)


async def _node_list(node: Node, request: NodeListRequest, _: bytes) -> NodeList:
    return NodeList(views.nodes(node, everybody=request.everybody))


async def _node_show(node: Node, request: NodeName, _: bytes) -> NodeInfo:
    return views.node_named(node, request.name)


async def _invite(node: Node, request: InviteRequest, _: bytes) -> InviteReply:
    return node.invitations.invite(request)


async def _rename(node: Node, request: RenameRequest, _: bytes) -> NodeInfo:
    node.rename(request.name)
    return views.node_named(node, node.key.public.hex())


async def _forget(node: Node, request: NodeName, _: bytes) -> NodeInfo:
    info = views.node_named(node, request.name)
    if info.link == "self":
        raise UsageError("a node can't forget itself", hint="to leave the formation: `skerry leave`")
    if info.reachable:
        raise Refused(
            f"{info.name or info.id[:10]} is up and connected: only a node that is gone can be forgotten",
            code=Code.CONFLICT,
            hint="let it go by itself, with `skerry leave` there; or put it out for ever: `skerry node revoke`",
        )
    await node.may_write.wait()
    node.trust.dismiss(bytes.fromhex(info.id))
    return views.node_named(node, info.id)


async def _leave(node: Node, _: Nothing, __: bytes) -> LeaveReply:
    reply = await leave(node)
    node.leaves = True
    node.stopping.set()
    return reply


async def _revoke(node: Node, request: RevokeRequest, _: bytes) -> RevokeReply:
    info = views.node_named(node, request.name)
    subject = bytes.fromhex(info.id)
    issued = [g.subject for g in node.trust.roster.granted_by(subject) if node.trust.standing(g.subject).belongs and g.subject != subject]
    keep = issued if request.keep is None else [s for s in issued if s.hex() in request.keep]
    reissued = 0
    if not request.dry_run:
        await node.may_write.wait()
        node.trust.check_may_revoke(subject)
        reissued = node.trust.reissue(subject, keep=keep)
        if request.keep is None:
            node.contacts.take_over(subject)
        node.trust.revoke(subject, request.reason)
    return RevokeReply(info.id, info.name, info.role, [s.hex() for s in issued], reissued)


async def _down(node: Node, _: Nothing, __: bytes) -> Nothing:
    node.stopping.set()
    return Nothing()


async def _away(node: Node, request: AwayRequest, _: bytes) -> AwayReply:
    return AwayReply(node.presence.come_back() if request.back else node.presence.go_away())


async def _probe(node: Node, request: ProbeRequest, caller: bytes) -> ProbeReply:
    return node.presence.serve_probe(request, caller)


async def _relay(node: Node, request: RelayRequest, _: bytes) -> RelayReply:
    return await node.presence.serve_relay(request)


async def _tell(node: Node, request: TellRequest, caller: bytes) -> TellReply:
    node.presence.serve_tell(request, caller)
    return TellReply()


async def _doctor(node: Node, request: DoctorRequest, _: bytes) -> DoctorReply:
    return DoctorReply(await examine(node, request.peer))


async def _formation(node: Node, _: Nothing, __: bytes) -> FormationInfo:
    return views.formation(node)


async def _restore(node: Node, request: RestoreRequest, _: bytes) -> FormationInfo:
    node.trust.restore_root(request.seed)
    return views.formation(node)


def _check_no_local_files(request: AgentRunRequest) -> None:
    """An operator elsewhere sends what it wants to run; it can't name files of this machine."""
    if (not request.shipped and not request.target.startswith(REMOTE_PREFIX)) or request.options.get("api_key_file"):
        raise Refused(
            "only the owner of a machine runs files that lie on it",
            code=Code.NOT_GRANTED,
            hint="send the files along: skerry agent run --node N",
        )


async def _ask(node: Node, request: AskRequest, _: bytes) -> AskReply:
    info = views.node_named(node, request.node)
    if info.link == "self":
        raise UsageError(f"{info.name} is this node", hint="leave --node out")
    link = await node.link_to(bytes.fromhex(info.id), ASK_REACH_S)
    return AskReply(joined(await link.call(request.verb, request.body, timeout_s=request.timeout_s)))


async def _agent_run(node: Node, request: AgentRunRequest, _: bytes) -> AgentInfo:
    before = {resident.spec.id: set(resident.spec.share) for resident in node.host.all()}
    resident = await node.host.add(replace(request, share=node.sharing.resolve(request.share)))
    node.sharing.began(resident.spec, before=before.get(resident.spec.id, set()))
    return views.own_agent(node, resident)


async def _agent_list(node: Node, request: AgentQuery, _: bytes) -> AgentList:
    public = node.foreign_agents.public_infos(request) if request.public else []
    found = [*views.agents(node, request), *node.foreign_agents.infos(request), *public]
    return AgentList(views.with_letters(node, found))


async def _agent_show(node: Node, request: AgentName, _: bytes) -> AgentInfo:
    return views.with_letters(node, [views.agent_named(node, request.name)])[0]


async def _agent_stop(node: Node, request: AgentName, _: bytes) -> AgentInfo:
    resident = node.host.named(request.name)
    await node.host.stop(resident)
    return views.own_agent(node, resident)


async def _agent_start(node: Node, request: AgentName, _: bytes) -> AgentInfo:
    resident = node.host.named(request.name)
    await node.host.start(resident)
    return views.own_agent(node, resident)


async def _agent_restart(node: Node, request: AgentName, _: bytes) -> AgentInfo:
    resident = node.host.named(request.name)
    await node.host.restart(resident)
    return views.own_agent(node, resident)


async def _agent_pause(node: Node, request: AgentName, _: bytes) -> AgentInfo:
    resident = node.host.named(request.name)
    node.host.pause(resident, paused=True)
    return views.own_agent(node, resident)


async def _agent_resume(node: Node, request: AgentName, _: bytes) -> AgentInfo:
    resident = node.host.named(request.name)
    node.host.pause(resident, paused=False)
    return views.own_agent(node, resident)


async def _agent_remove(node: Node, request: AgentName, _: bytes) -> AgentInfo:
    resident = node.host.named(request.name)
    await node.host.remove(resident)
    return views.own_agent(node, resident)


async def _agent_logs(node: Node, request: LogsRequest, _: bytes) -> LogsReply:
    resident = node.host.named(request.name)
    file = node.host.log_file(resident.spec)
    return LogsReply(*views.log_tail(file, lines=min(request.lines, LOG_LINES_MAX), most=LOG_BYTES_MAX, cursor=request.cursor))


async def _capabilities(node: Node, request: CapabilityQuery, _: bytes) -> CapabilityList:
    return CapabilityList(views.capabilities(node, request.query, tuple(request.where.items())))


_TABLE = (
    *CONTACT_OPERATIONS,
    *CIRCLE_OPERATIONS,
    *RECORD_OPERATIONS,
    *MAIL_OPERATIONS,
    *REACH_OPERATIONS,
    Operation("ping", Right.PING, Nothing, PingReply, _ping, "Is anybody there, and what time is it?"),
    Operation("node.join", Right.JOIN, JoinRequest, JoinReply, _join, "Show a ticket, get a grant."),
    Operation("grant.renew", Right.RENEW, Nothing, RenewReply, _renew, "Have the caller's own grant renewed by an operator."),
    Operation("task.run", Right.CALL, bytes, bytes, elsewhere, "Node to node: have one of this node's agents do a task, once.", "call"),
    Operation("task.call", Right.CALL, bytes, bytes, elsewhere, "Have a task done by whichever agent can; streams on request."),
    Operation("capability.list", Right.OBSERVE, CapabilityQuery, CapabilityList, _capabilities, "Who offers what, with schemas."),
    Operation("reputation.list", Right.OBSERVE, ScoreQuery, ScoreList, reputations.listed, "What this node thinks of those it asked."),
    Operation("reputation.forgive", Right.OPERATE, ForgiveRequest, Score, reputations.forgiven, "Forget what an agent or a node did."),
    Operation("node.status", Right.OBSERVE, Nothing, StatusReply, _status, "What this node says about itself and sees."),
    Operation("node.list", Right.OBSERVE, NodeListRequest, NodeList, _node_list, "The nodes of the formation."),
    Operation("node.show", Right.OBSERVE, NodeName, NodeInfo, _node_show, "One node of the formation."),
    Operation("node.doctor", Right.OBSERVE, DoctorRequest, DoctorReply, _doctor, "What is wrong here, or on the way to a peer."),
    Operation("node.invite", Right.ADMIN, InviteRequest, InviteReply, _invite, "Make a ticket."),
    Operation("node.revoke", Right.ADMIN, RevokeRequest, RevokeReply, _revoke, "Put a node out of the formation, for ever."),
    Operation("node.forget", Right.ADMIN, NodeName, NodeInfo, _forget, "End the membership of a node that is gone; its key may come back."),
    Operation("node.rename", Right.OWN, RenameRequest, NodeInfo, _rename, "Let this node go by another name."),
    Operation("node.leave", Right.OWN, Nothing, LeaveReply, _leave, "Tell the formation that this node leaves it, and end."),
    Operation("node.twin", Right.FEDERATE, TwinRequest, Nothing, _twin, "Tell a node that another process shows its key."),
    Operation("node.away", Right.OWN, AwayRequest, AwayReply, _away, "Say that this node goes for a while, or is here again."),
    Operation("presence.probe", Right.FEDERATE, ProbeRequest, ProbeReply, _probe, "Is that member there? With what is said of it."),
    Operation("presence.relay", Right.FEDERATE, RelayRequest, RelayReply, _relay, "Look for a member that the caller can't reach."),
    Operation("presence.tell", Right.FEDERATE, TellRequest, TellReply, _tell, "News of who is there, signed by those who say it."),
    Operation("formation.directory", Right.CALL, Nothing, DirectoryReply, _directory, "For clients: signed, where the nodes are and who."),
    Operation("node.down", Right.OWN, Nothing, Nothing, _down, "End this node in order."),
    Operation("formation.show", Right.OBSERVE, Nothing, FormationInfo, _formation, "The formation, its operators, its revoked."),
    Operation("formation.restore", Right.OWN, RestoreRequest, FormationInfo, _restore, "Bring the root key into this home."),
    Operation("node.ask", Right.OWN, AskRequest, AskReply, _ask, "Put a verb to another node, in this node's name (`--node N`)."),
    Operation("agent.run", Right.OPERATE, AgentRunRequest, AgentInfo, _agent_run, "Host a new agent and wait until it is healthy."),
    Operation(
        "agent.list",
        Right.OBSERVE,
        AgentQuery,
        AgentList,
        _agent_list,
        "Our agents and contacts' ones: all, or those looked for.",
    ),
    Operation("agent.show", Right.OBSERVE, AgentName, AgentInfo, _agent_show, "One agent, with its offers and schemas."),
    Operation("agent.stop", Right.OPERATE, AgentName, AgentInfo, _agent_stop, "Withdraw an agent of this node and keep it."),
    Operation("agent.start", Right.OPERATE, AgentName, AgentInfo, _agent_start, "Bring a stopped agent of this node back."),
    Operation("agent.restart", Right.OPERATE, AgentName, AgentInfo, _agent_restart, "End an agent's process and start another."),
    Operation("agent.pause", Right.OPERATE, AgentName, AgentInfo, _agent_pause, "Give an agent no new tasks; it stays up."),
    Operation("agent.resume", Right.OPERATE, AgentName, AgentInfo, _agent_resume, "Give a paused agent tasks again."),
    Operation("agent.remove", Right.OPERATE, AgentName, AgentInfo, _agent_remove, "End an agent of this node and forget it."),
    Operation("agent.logs", Right.OPERATE, LogsRequest, LogsReply, _agent_logs, "The last lines that an agent of this node wrote."),
)

VERBS: dict[str, Operation] = {operation.verb: operation for operation in _TABLE}
_RIGHTS: dict[str, Right] = {operation.verb: operation.right for operation in _TABLE}
