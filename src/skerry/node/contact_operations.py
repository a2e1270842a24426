"""The verbs about contacts, sharing, and what our nodes tell each other in confidence.

The rule: contacts are an operator's to change, and none of these verbs but two is open to anybody outside the formation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.agents.verbs import AgentInfo, ShareRequest
from skerry.identity.contacts import Contact, ContactDirectory, make_contact
from skerry.node import views
from skerry.node.doctor import examine_contact
from skerry.node.operation import Operation, elsewhere
from skerry.node.policy import Right
from skerry.node.verbs import (
    ContactAcceptRequest,
    ContactAddRequest,
    ContactInfo,
    ContactInviteReply,
    ContactInviteRequest,
    ContactList,
    ContactMeetReply,
    ContactMeetRequest,
    ContactName,
    DoctorReply,
    NewsRequest,
    Nothing,
    PrivatePullReply,
    PrivatePullRequest,
    PrivatePushRequest,
)

if TYPE_CHECKING:
    from skerry.node.node import Node


async def _agent_share(node: Node, request: ShareRequest, _: bytes) -> AgentInfo:
    resident = node.host.named(request.name)
    node.sharing.change(resident, node.sharing.resolve(request.share))
    return views.own_agent(node, resident)


async def _private_pull(node: Node, request: PrivatePullRequest, _: bytes) -> PrivatePullReply:
    return node.contacts.serve_pull(request)


async def _private_push(node: Node, request: PrivatePushRequest, _: bytes) -> Nothing:
    node.contacts.serve_push(request)
    return Nothing()


async def _contact_invite(node: Node, request: ContactInviteRequest, _: bytes) -> ContactInviteReply:
    return node.meetings.invite(request)


async def _contact_accept(node: Node, request: ContactAcceptRequest, _: bytes) -> ContactInfo:
    await node.may_write.wait()
    contact, _allowed = await node.meetings.accept(request)
    return node.foreign_agents.contact_info(contact)


async def _contact_add(node: Node, request: ContactAddRequest, _: bytes) -> ContactInfo:
    return node.foreign_agents.contact_info(node.contacts.put(_changed(node.contacts.directory, request)))


async def _contact_list(node: Node, _: Nothing, __: bytes) -> ContactList:
    return ContactList(node.foreign_agents.contact_infos(), node.contacts.problem)


async def _contact_show(node: Node, request: ContactName, _: bytes) -> ContactInfo:
    return node.foreign_agents.contact_info(node.contacts.named(request.name))


async def _contact_check(node: Node, request: ContactName, _: bytes) -> DoctorReply:
    return DoctorReply(await examine_contact(node, request.name))


async def _contact_remove(node: Node, request: ContactName, _: bytes) -> ContactInfo:
    contact = node.contacts.named(request.name)
    info = node.foreign_agents.contact_info(contact)
    node.contacts.remove(contact)
    return info


def _changed(directory: ContactDirectory, request: ContactAddRequest) -> Contact:
    """The entry as it will be: what was asked for, and of one that is there all else. Raises UsageError that names it."""
    formation, node = request.formation, request.node
    held = directory.named(request.name)
    if formation or node:
        asked = make_contact(request.name, addresses=[], formation=formation, node=node)
        held = directory.with_id(asked.id) or held
    elif held is not None:
        formation, node = ("", held.id.hex()) if held.is_node else (held.id.hex(), "")
    addresses = request.addresses if request.addresses is not None else list(held.addresses) if held is not None else []
    allow = request.allow if request.allow is not None else held.allow.texts() if held is not None else []
    return make_contact(request.name, addresses=addresses, formation=formation, node=node, allow=[] if allow == ["none"] else allow)


CONTACT_OPERATIONS = (
    Operation("agent.share", Right.OPERATE, ShareRequest, AgentInfo, _agent_share, "Give an agent of this node to contacts, or to all."),
    Operation("private.pull", Right.FEDERATE, PrivatePullRequest, PrivatePullReply, _private_pull, "Contacts and share lists, where new."),
    Operation("private.push", Right.FEDERATE, PrivatePushRequest, Nothing, _private_push, "Contacts and share lists that are new."),
    Operation("contact.invite", Right.ADMIN, ContactInviteRequest, ContactInviteReply, _contact_invite, "Make a ticket for a contact."),
    Operation("contact.accept", Right.ADMIN, ContactAcceptRequest, ContactInfo, _contact_accept, "Accept another formation's ticket."),
    Operation("contact.add", Right.ADMIN, ContactAddRequest, ContactInfo, _contact_add, "Add a contact, or change it."),
    Operation("contact.list", Right.ADMIN, Nothing, ContactList, _contact_list, "The contacts of the formation."),
    Operation("contact.show", Right.ADMIN, ContactName, ContactInfo, _contact_show, "One contact: what it may do, and how it stands."),
    Operation(
        "contact.check", Right.ADMIN, ContactName, DoctorReply, _contact_check, "Whether a contact's entry is right, and who answers."
    ),
    Operation("contact.remove", Right.ADMIN, ContactName, ContactInfo, _contact_remove, "Let it be a contact no more."),
    Operation("contact.meet", Right.JOIN, ContactMeetRequest, ContactMeetReply, elsewhere, "Show a contact ticket."),
    Operation("contact.news", Right.CONTACT, NewsRequest, Nothing, elsewhere, "Tell a contact that there is something new.", "contact"),
)
