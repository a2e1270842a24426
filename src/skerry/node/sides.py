"""Who answers for the other end of a wire: this very node, another one of ours, or a contact.

The rule: who it is follows from the address or the end alone; that it can't be reached is the proxy's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.channel.link import Link
from skerry.errors import Code, ProtocolError, Refused, UsageError
from skerry.identity.contacts import Contact
from skerry.identity.keys import parse_public_key
from skerry.node import views
from skerry.node.addressees import split_address
from skerry.wiring.proxy import Local, LocalOrRemote, Members, RemoteEndpoint, RemoteProxy
from skerry.wiring.verbs import LookupReply
from skerry.wiring.wires import End, check_comms_name

if TYPE_CHECKING:
    from skerry.node.node import Node

REACH_S = 5.0


class Sides:
    """One node's way to all of them. `members` answers for this node."""

    def __init__(self, node: Node, members: Members) -> None:
        self._node = node
        self._members = members

    async def of_address(self, address: str) -> tuple[LocalOrRemote, str]:
        """Whoever answers for an address (this node, another one of ours, or a contact), and how it calls the agent: of a contact any
        node answers for all, so that the name of one goes along. Raises Refused that says who is missing."""
        contact_name, node_name, agent = split_address(self._node, address)
        if contact_name:
            side = self._contact_side(self._node.contacts.directory.contacts[contact_name])
            return side, f"{node_name}/{agent}" if node_name else agent
        if not node_name:
            node = (await self._node.addressees.find(address)).node
        else:
            node = bytes.fromhex(views.node_named(self._node, node_name).id)
        return self._node_side(node), agent

    async def of_end(self, end: End) -> LocalOrRemote:
        if end.formation == self._node.formation:
            return self._node_side(end.node)
        contact = self._node.contacts.directory.of(node=end.node, formation=end.formation)
        if contact is None:
            raise Refused(f"the formation of {end.name} is no contact any more", code=Code.NOT_FOUND, hint="`skerry contact list`")
        return self._contact_side(contact)

    def is_known(self, end: End) -> bool:
        """Whether an end is our formation's or a contact's."""
        directory = self._node.contacts.directory
        return end.formation == self._node.formation or directory.of(node=end.node, formation=end.formation) is not None

    def advice(self, address: str) -> str:
        """What to do about a refusal by whoever answers for an address, where it is a contact for which we are none."""
        contact = self._node.contacts.directory.contacts.get(split_address(self._node, address)[0])
        if contact is None or not self._node.envoy.is_shut_out(contact):
            return ""
        return f"there we are no contact (any more): skerry contact check {contact.name}"

    def check_end(self, end: End, *, address: str) -> None:
        """Whoever was asked may speak of its own agents alone. Raises ProtocolError."""
        contact_name, _, _ = split_address(self._node, address)
        contact = self._node.contacts.directory.of(node=end.node, formation=end.formation)
        of_contact = contact.name if contact is not None and end.formation != self._node.formation else ""
        if of_contact != contact_name or (not contact_name and end.formation != self._node.formation):
            raise ProtocolError(f"{address!r} was answered with an agent of somebody else", code=Code.PEER_SPEC)

    def _node_side(self, node: bytes) -> LocalOrRemote:
        if node == self._node.key.public:
            return LocalOrRemote(Local(self._members))
        name = views.node_names(self._node).get(node, node.hex()[:10])
        addresses = self._node.wanted().get(node) or (f"via:{node.hex()}",)

        async def link() -> Link:
            return await self._node.link_to(node, REACH_S)

        return LocalOrRemote(RemoteProxy(name, RemoteEndpoint.of(addresses[0]), link))

    def _contact_side(self, contact: Contact) -> LocalOrRemote:
        async def link() -> Link:
            return await self._node.envoy.link_to(contact, REACH_S)

        proxy = RemoteProxy.from_entry(contact, link)
        return LocalOrRemote(proxy if proxy is not None else Local(self._members))


def end_of(found: LookupReply) -> End:
    """Who was looked up. Raises ProtocolError for what is no end of a wire."""
    try:
        return End(
            found.agent,
            bytes.fromhex(found.node),
            bytes.fromhex(found.formation),
            check_comms_name(found.comms_name),
            parse_public_key(found.pubkey_b64),
        )
    except (ValueError, UsageError) as error:
        raise ProtocolError(f"what was looked up is no agent: {error}", code=Code.PEER_SPEC) from None
