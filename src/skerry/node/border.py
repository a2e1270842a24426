"""What a contact gets of us, decided call by call from its entry: the records that are shared with it, and tasks of agents that are.

The agent need not live on this node: then the task goes one hop further, to the node of ours that hosts it, in this node's name. So a
contact needs to know one of our addresses, and our inner ones stay ours. What the agent signs is the contact's task all the same: the node
that hands it on says whose it is, and is believed because it is of our formation.

The rule: a contact's task runs on an agent that is shared with that contact, for a capability that its entry names, and never goes on to
another formation. How often and how many at once is bounded for each contact, whichever of its nodes asks.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from skerry.agents.letters import Letter
from skerry.channel.admission import Quota
from skerry.channel.calls import Body, Served
from skerry.channel.messages import pack_message, unpack_message
from skerry.discovery.verbs import ComeRequest, DialBackRequest, PipeRequest
from skerry.errors import Code, ProtocolError, Refused
from skerry.identity.contacts import FEDERATE, RELAY, Contact
from skerry.identity.pieces import joined
from skerry.identity.statement import parse_unverified
from skerry.node import views
from skerry.node.addressees import address_of, is_node, target_of
from skerry.node.circles import PREFIX
from skerry.node.mail import Sender
from skerry.node.policy import contact_lacks
from skerry.node.verbs import NewsRequest
from skerry.records.verbs import PullReply, PullRequest
from skerry.routing.task import REACH_FORMATION, Request, Task, TaskResult
from skerry.wiring.verbs import VERBS_OF_WIRES, DeliverReply, DeliverRequest, InjectRequest, WireCheckRequest, WireRequest
from skerry.wiring.wires import read_half

if TYPE_CHECKING:
    from skerry.node.node import Node

LOOKS_AT_ONCE = 100.0  # pulls and news of one contact
LOOKS_PER_S = 5.0
REACH_S = 5.0  # to find the way to the node of ours that hosts an agent
SENDER_CHARACTERS_MAX = 200  # of a sender's name, as the receiver sees it
BURST_S = 1.0  # of its rate a contact may use at once what this time brings


class Border:
    """What contacts get of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._looks = Quota(at_once=LOOKS_AT_ONCE, per_s=LOOKS_PER_S)
        self._tasks: dict[bytes, tuple[float, Quota]] = {}  # contact -> the rate that its entry has, and what is left of it
        self._running: Counter[bytes] = Counter()

    async def serve(self, served: Served) -> Body:
        """Answer a contact's call of a verb that contacts may have. Raises Refused that names the right which is missing."""
        peer = served.link.peer
        contact = self._node.contacts.of_peer(peer) if peer is not None else None
        if contact is None:
            raise Refused("this formation is no contact any more", code=Code.NOT_GRANTED, hint="ask its operators")
        if served.verb == "task.run":
            return await self._run(served, contact)
        if served.verb in _CONTROL:
            return await self._control(served, contact)
        if served.verb == "mail.deliver":
            return pack_message(await self._letters(served, contact, unpack_message(DeliverRequest, served.body)))
        if not self._looks.take(contact.id.hex(), now=self._loop.time()):
            raise Refused("this contact asks more than it may", code=Code.BUSY, hint="wait a moment")
        if served.verb in _RELAYING:
            return await self._relay(served, contact)
        if served.verb == "contact.news":
            self._node.envoy.hear(served.link, unpack_message(NewsRequest, served.body))
            return pack_message({})
        _check(served, FEDERATE)
        request = unpack_message(PullRequest, served.body)
        records, cursor, more = self._node.shared.page(request.cursor, contact=contact.id, limit=request.limit)
        return pack_message(PullReply(records, cursor, more))

    async def _relay(self, served: Served, contact: Contact) -> Body:
        """Forward between the contact's own nodes; or come, where its node forwards for us."""
        reaching, caller = self._node.reaching, served.link.id
        if served.verb == "relay.come":
            if caller not in reaching.relays:
                raise Refused("this node is not reached over you", code=Code.NOT_GRANTED, hint="its record says over whom it is")
            return pack_message(await reaching.serve_come(unpack_message(ComeRequest, served.body), caller))
        _check(served, RELAY)
        if served.verb == "relay.offer":
            return pack_message(reaching.offer())
        if served.verb == "reach.dial_back":
            host = served.link.connection.address
            return pack_message(await reaching.serve_dial_back(unpack_message(DialBackRequest, served.body), caller, host=host))
        links = {link.id: link for link in self._node.envoy.links_of(contact)}
        return pack_message(
            await reaching.serve_open(unpack_message(PipeRequest, served.body), caller, among=links.get, contact=contact.id)
        )

    async def _run(self, served: Served, contact: Contact) -> Body:
        task = Task.from_bytes(served.body)
        if task.agent.startswith(PREFIX):
            return await self._node.circle_door.serve(served)
        _check(served, "call", task.capability)
        if not any(self._node.shared.may_have(author, task.agent, contact.id) for author in self._node.shared.authors_of(task.agent)):
            raise Refused("no agent of that id is shared with this contact", code=Code.NOT_GRANTED, hint=_SHARE)
        self._take_turn(contact)
        self._running[contact.id] += 1
        try:
            return await self._node.tasks.serve(served, Relay(self._node))
        finally:
            self._running[contact.id] -= 1
            if not self._running[contact.id]:
                del self._running[contact.id]

    async def _letters(self, served: Served, contact: Contact, request: DeliverRequest) -> DeliverReply:
        """Letters to one of our agents, which may live on another node of ours."""
        right = "wire" if all(letter.reply_to for letter in request.letters) else "inject"
        if not _is_id(request.agent):
            self._check_either(served, right, _name_in(request.agent))
        self._take_turn(contact)  # not later: to look for an agent takes as long as there are agents
        name, agent, host = self._agent(request.agent)
        self._check_either(served, right, name)
        self._node.mail.intake.check_voucher(request, node=served.link.id)
        formation = self._node.contacts.formation_of(contact)
        letters = [_from_abroad(letter, contact, formation) for letter in request.letters]
        inside = DeliverRequest(agent, letters, contact=contact.id)
        if host == self._node.key.public:
            return await self._node.mail.serve(inside, caller=host)
        link = await self._node.link_to(host, REACH_S)
        return unpack_message(DeliverReply, await link.call("mail.deliver", pack_message(inside), timeout_s=served.timeout_s))

    async def _control(self, served: Served, contact: Contact) -> Body:
        """The verbs of wires, about an agent of ours, which may live on another node of ours."""
        node, verb = self._node, served.verb
        request = unpack_message(VERBS_OF_WIRES[verb], served.body)
        member = "" if isinstance(request, WireCheckRequest) else request.remote_member
        if isinstance(request, WireCheckRequest) or (isinstance(request, WireRequest) and request.descriptor):
            half = read_half(parse_unverified(request.descriptor)[0])
            if node.contacts.whose(half.own.node, half.own.formation) is not contact:
                raise ProtocolError("a contact shows the descriptor of another one", code=Code.PEER_SPEC)
            member = member or half.peer.agent
        right = "inject" if verb == "inject" else "wire"
        if not _is_id(member):
            self._check_either(served, right, _name_in(member))
        self._take_turn(contact)
        name, agent, host = self._agent(member)
        if verb == "lookup_member" and not contact_lacks(served.link.rights, "inject", name):
            right = "inject"  # whoever may write to it may know who it is
        _check(served, right, name)
        if isinstance(request, InjectRequest):
            node.mail.outbox.check_share()
            return pack_message(await node.wires.inject(request, agent, Sender(served.link.id, contact.name)))
        request = replace(request, remote_member=agent) if not isinstance(request, WireCheckRequest) else request
        if host == node.key.public:
            return pack_message(node.wires.serve(request, unwire=verb == "unwire", caller=served.link.id))
        link = await node.link_to(host, REACH_S)
        return joined(await link.call(verb, pack_message(request), timeout_s=served.timeout_s))

    @staticmethod
    def _check_either(served: Served, right: str, name: str) -> None:
        """Whoever may not ask of an agent is not told whether there is one; whoever may write to it may know that."""
        if contact_lacks(served.link.rights, "inject", name):
            _check(served, right, name)

    def _agent(self, member: str) -> tuple[str, str, bytes]:
        """Name, id and node of an agent of our formation, by id, name or `node/name`. Raises Refused(unknown_member), and Refused(busy)
        where this node has only joined, or only starts, and does not know them all: no letter and no wire is given up for that."""
        name = _name_in(member)
        found = [info for info in views.agents(self._node) if name in (info.id, info.name)]
        if "/" in member:
            found = [info for info in found if is_node(info, member.partition("/")[0])]
        knows_all = self._node.running and (self._node.federation.touched.is_set() or not self._node.wanted())
        if not found and not knows_all:
            raise Refused("this node does not know all agents of its formation yet", code=Code.BUSY, hint="try again in a moment")
        if len(found) != 1:
            many = f"{len(found)} agents are called {member[:100]!r} here" if found else f"there is no agent {member[:100]!r} here"
            raise Refused(many, code=Code.UNKNOWN_MEMBER, hint="say which node's: CONTACT/NODE/AGENT; its owner knows")
        return found[0].name, found[0].id, bytes.fromhex(found[0].node)

    def _take_turn(self, contact: Contact) -> None:
        """Raises Refused(busy) where a contact asks more than its entry allows."""
        if self._running[contact.id] >= contact.allow.concurrency:
            raise Refused(
                f"concurrency:{contact.allow.concurrency} is all that this contact may have under way here",
                code=Code.BUSY,
                hint="try again when one of its tasks is done",
            )
        rate, quota = self._tasks.get(contact.id, (0.0, None))
        if quota is None or rate != contact.allow.rate_per_s:
            rate = contact.allow.rate_per_s
            quota = Quota(at_once=max(rate * BURST_S, 1.0), per_s=rate)
            self._tasks[contact.id] = (rate, quota)
        if not quota.take("", now=self._loop.time()):
            raise Refused(f"rate:{rate:g} a second is all that this contact may ask here", code=Code.BUSY, hint="try again in a moment")


def _name_in(member: str) -> str:
    return member.rpartition("/")[2]


def _is_id(member: str) -> bool:
    return _ID.fullmatch(member) is not None


def _from_abroad(letter: Letter, contact: Contact, formation: bytes) -> Letter:
    """As our agent may see it: whose it is stands before the sender's name, and a reply goes back to that formation. Raises Refused for a
    letter by an agent that is none of the contact's."""
    reply_to = letter.reply_to
    if reply_to:
        agent = target_of(reply_to)
        if not formation or (contact.is_node and agent.node != contact.id):
            raise Refused("a contact sends a letter of somebody else's agent", code=Code.PEER_SPEC, hint="it writes for its own agents")
        reply_to = address_of(msgspec.structs.replace(agent, formation=formation))
    sender = f"{contact.name}/{letter.sender}"[:SENDER_CHARACTERS_MAX]
    return msgspec.structs.replace(letter, sender=sender, reply_to=reply_to)


class Relay:
    """Runs a contact's task where its agent lives: here, or one hop further (`routing.dispatch.Local`)."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def run(self, task: Task, *, timeout_s: float) -> TaskResult:
        if self._node.host.get(task.agent) is not None:
            return await self._node.tasks.run(task, timeout_s=timeout_s)
        origin = (task.id, task.requester)
        result = await self._node.dispatcher.call(_inside(task), timeout_s=timeout_s, chain=task.chain, origin=origin)
        return msgspec.structs.replace(result, task_id=task.id)

    async def stream(self, task: Task, *, timeout_s: float) -> AsyncIterator[Body | TaskResult]:
        if self._node.host.get(task.agent) is not None:
            items: AsyncIterator[Body | TaskResult] = self._node.tasks.stream(task, timeout_s=timeout_s)
        else:
            origin = (task.id, task.requester)
            items = self._node.dispatcher.stream(_inside(task), timeout_s=timeout_s, chain=task.chain, origin=origin)
        try:
            async for item in items:
                yield msgspec.structs.replace(item, task_id=task.id) if isinstance(item, TaskResult) else item
        finally:
            await items.aclose()  # type: ignore[attr-defined]


def _inside(task: Task) -> Request:
    """The same, asked of our own formation alone."""
    return Request(task.capability, task.payload, task.agent, task.priority, task.max_latency_ms, REACH_FORMATION, receipt=task.receipt)


def _check(served: Served, right: str, name: str = "") -> None:
    missing = contact_lacks(served.link.rights, right, name)
    if missing:
        raise Refused(
            f"{served.verb!r} needs the right {missing!r}, which this contact does not have here", code=Code.NOT_GRANTED, hint=_ALLOW
        )


_ID = re.compile(r"[0-9a-f]{32}")  # of an agent: nobody guesses it
_CONTROL = frozenset(VERBS_OF_WIRES)
_RELAYING = frozenset({"reach.dial_back", "relay.offer", "relay.open", "relay.come"})
_ALLOW = "ask an operator there to allow it: `skerry contact add`, or a new ticket with --allow"
_SHARE = "ask its owner to share it: `skerry agent share`"
