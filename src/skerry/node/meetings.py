"""How two formations become contacts: one makes a contact ticket, an operator of the other accepts it.

The accepting side dials the inviter, which it knows by the ticket; each proves its key and shows its grant, so each knows the other's
formation by a chain to its root key. The inviter notes the use, bound to that formation, and its entry, before it answers; the accepting
side writes its own when the answer is there. A cut in between is mended by the same command: the same formation may use the ticket again.

The rule: no entry is written for a formation that did not prove an operator's grant, on either side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.channel.address import relay_of
from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable, UsageError
from skerry.identity.codec import decode, encode
from skerry.identity.contacts import ADDRESSES_MAX, Contact, at_node, check_address, check_name, parse_allowance
from skerry.identity.grants import Role, Roster, State
from skerry.identity.keys import short
from skerry.identity.statement import parse
from skerry.identity.ticket import ADDRESS_CHARACTERS_MAX, LIFETIME_MS_MAX, SECRET_BYTES, Ticket, TicketKind, hash_secret, parse_ticket
from skerry.node.contacts import formation_shown
from skerry.node.verbs import (
    ContactAcceptRequest,
    ContactInviteReply,
    ContactInviteRequest,
    ContactMeetReply,
    ContactMeetRequest,
)

if TYPE_CHECKING:
    from skerry.node.node import Node

INVITATIONS = "contact-invitation"  # the space of facts
OPEN_MAX = 1000  # contact tickets that may still be used
KEPT_MS = 30 * 24 * 3600 * 1000  # after its end, so that an acceptance that was cut can be repeated
MEET_TIMEOUT_S = 10.0
_ASK = "ask for a new one: `skerry contact invite` at the inviter's"


class Meetings:
    """The contact tickets of one node, made and accepted."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- the inviter ----------------------------------------------------------------------------------------------------------

    def invite(self, request: ContactInviteRequest) -> ContactInviteReply:
        """A new contact ticket. Raises UsageError or Refused with the reason."""
        node = self._node
        check_name(request.name)
        allow = parse_allowance(request.allow).texts()
        if not node.trust.may_invite():
            raise Refused("only an operator's node invites contacts", code=Code.NOT_GRANTED, hint="do it at an operator's node")
        if not 1 <= request.ttl_s <= LIFETIME_MS_MAX / 1000:
            raise UsageError(f"a ticket can't live for {request.ttl_s:.0f} seconds", hint="choose from 1s to 366d with --ttl")
        if node.contacts.directory.named(request.name) is not None:
            raise Refused(
                f"there is a contact {request.name!r} already", code=Code.NAME_TAKEN, hint="choose another name, or remove that one"
            )
        addresses = tuple(a for a in node.addresses() if len(a) <= ADDRESS_CHARACTERS_MAX)[:ADDRESSES_MAX]
        if not addresses:
            raise Refused("this node listens nowhere, so nobody could come", code=Code.CONFLICT, hint="start it with --listen HOST:PORT")
        self._drop_dead()
        secret = node.ports.random.token(SECRET_BYTES)
        expires_ms = node.ports.clock.now_ms() + int(request.ttl_s * 1000)
        self._save(hash_secret(secret), request.name, allow, expires_ms, b"")
        ticket = Ticket(node.formation, node.key.public, addresses, secret, TicketKind.CONTACT)
        return ContactInviteReply(str(ticket), request.name, allow, expires_ms)

    async def serve(self, served: Served) -> Body:
        """The verb `contact.meet`: another formation's operator shows a ticket."""
        node = self._node
        node.strangers.check_join(served.link)
        request = unpack_message(ContactMeetRequest, served.body)
        await node.may_write.wait()
        try:
            return pack_message(self._meet(served.link, request))
        except SkerryError as error:
            node.strangers.join_failed(served.link)
            raise Refused(error.message, code=error.code, hint=error.hint) from error

    def _meet(self, link: Link, request: ContactMeetRequest) -> ContactMeetReply:
        node, now_ms = self._node, self._node.ports.clock.now_ms()
        held = node.ports.store.fact(INVITATIONS, hash_secret(request.secret).hex())
        if held is None:
            raise Refused("the inviter does not know this ticket", code=Code.TICKET_UNKNOWN, hint=_ASK)
        name, allow, expires_ms, used_by = decode(held)
        assert link.peer is not None
        formation = _proven_operator(link.peer, now_ms=now_ms)
        if formation == node.formation:
            raise Refused("the ticket is for another formation than the inviter's own", code=Code.BAD_TICKET, hint="`skerry node invite`")
        if used_by and used_by != formation:
            raise Refused("the ticket is spent: another formation used it", code=Code.TICKET_SPENT, hint=_ASK)
        if not used_by and now_ms > expires_ms:
            ago_s = (now_ms - expires_ms) // 1000
            raise Refused(f"the ticket expired {ago_s} s ago by the inviter's clock", code=Code.TICKET_EXPIRED, hint=_ASK)
        contact = Contact(name, formation, False, _checked(request.addresses), parse_allowance(allow))
        if used_by and node.contacts.directory.with_id(formation) is None:
            raise Refused("the ticket is spent: the contact that it made was removed", code=Code.TICKET_SPENT, hint=_ASK)
        if not used_by:
            node.contacts.put(contact)
            self._save(hash_secret(request.secret), name, allow, expires_ms, formation)  # last: who was cut before it may come again
            node.contacts.meet(link.peer)
        return ContactMeetReply(allow, self._addresses())

    def void_all(self) -> int:
        """No contact ticket that is out may be used any more; returns how many could have been."""
        held = self._node.ports.store.facts(INVITATIONS)
        for key, _ in held:
            self._node.ports.store.set_fact(INVITATIONS, key, None)
        return len(held)

    def _save(self, secret_hash: bytes, name: str, allow: list[str], expires_ms: int, used_by: bytes) -> None:
        self._node.ports.store.set_fact(INVITATIONS, secret_hash.hex(), encode([name, allow, expires_ms, used_by]), durable=True)

    def _drop_dead(self) -> None:
        held = self._node.ports.store.facts(INVITATIONS)
        for key, data in held:
            if decode(data)[2] + KEPT_MS < self._node.ports.clock.now_ms():
                self._node.ports.store.set_fact(INVITATIONS, key, None)
        if len(held) >= OPEN_MAX:
            raise Refused(f"{OPEN_MAX} contact tickets are out already", code=Code.BUSY, hint="let some be used, or expire")

    # --- the accepting side ---------------------------------------------------------------------------------------------------

    async def accept(self, request: ContactAcceptRequest) -> tuple[Contact, list[str]]:
        """Show a ticket to its inviter, and write our entry; returns it, and what it allows us. Raises with the inviter's reason."""
        node = self._node
        ticket = parse_ticket(request.ticket, kind=TicketKind.CONTACT)
        check_name(request.name)
        wanted = parse_allowance(request.allow) if request.allow is not None else None
        if not node.trust.may_invite():
            raise Refused("only an operator's node accepts contacts", code=Code.NOT_GRANTED, hint="do it at an operator's node")
        if ticket.formation == node.formation:
            raise UsageError("the ticket is of this very formation", hint="give it to an operator of another one")
        held = node.contacts.directory.named(request.name)
        if held is not None and held.id != ticket.formation:
            raise Refused(f"the name {request.name!r} is another contact's", code=Code.NAME_TAKEN, hint="choose another with --name")
        reply = await self._show(ticket)
        allow = wanted if wanted is not None else parse_allowance(reply.allow)
        given = [at_node(ticket.inviter, address) for address in ticket.addresses]
        addresses = tuple(dict.fromkeys([*given, *_checked(reply.addresses)]))[:ADDRESSES_MAX]
        contact = node.contacts.put(Contact(request.name, ticket.formation, False, addresses, allow))
        return contact, reply.allow

    async def _show(self, ticket: Ticket) -> ContactMeetReply:
        node = self._node
        visitor = _Visitor(node, ticket.formation)
        links = Links(node.key, network=node.ports.network, clock=node.ports.clock, random=node.ports.random, household=visitor)
        error: SkerryError = Unreachable("the ticket names no address")
        try:
            for address in ticket.addresses:
                try:
                    link = await links.dial(address, expected=ticket.inviter)
                    request = ContactMeetRequest(ticket.secret, self._addresses())
                    body = await link.call("contact.meet", pack_message(request), timeout_s=MEET_TIMEOUT_S)
                    return unpack_message(ContactMeetReply, body)
                except SkerryError as failed:
                    if isinstance(failed, Refused) and failed.code != Code.WRONG_IDENTITY:
                        raise
                    error = failed
        finally:
            await links.close()
        raise Unreachable(f"the inviter {short(ticket.inviter)} can't be reached: {error.message}", hint="is its node up?") from error

    def _addresses(self) -> list[str]:
        """Where a contact finds us: this node, and the other operators' nodes. Those of members are nobody's business."""
        node = self._node
        found = [at_node(node.key.public, address) for address in node.addresses()]
        for other, addresses in node.wanted().items():
            standing = node.trust.standing(other)
            if standing.role is Role.OPERATOR and standing.state is State.VALID:
                found += [at_node(other, address) for address in addresses if relay_of(address) is None]  # no contact goes over our relays
        return found[:ADDRESSES_MAX]


class _Visitor:
    """The household of a node at another formation's door: it shows its grant, and believes the ticket."""

    def __init__(self, node: Node, formation: bytes) -> None:
        self._node = node
        self._formation = formation

    def credentials(self) -> Credentials:
        return Credentials(self._node.trust.grant_to_show(), self._node.trust.revocations_digest())

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        formation = _proven_operator(peer, now_ms=self._node.ports.clock.now_ms())
        if formation != self._formation:
            raise Refused("the inviter is of another formation than its ticket", code=Code.NOT_GRANTED, hint=_ASK)

    def is_node(self, peer: Peer) -> bool:
        return False

    async def serve(self, served: Served) -> Body:
        raise Refused("this connection is for a ticket alone", code=Code.UNKNOWN_VERB)

    def link_up(self, link: Link) -> None:
        """Nothing follows: the ticket is shown by who dialled."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows: whoever waits hears of it."""


def _proven_operator(peer: Peer, *, now_ms: int) -> bytes:
    """The formation of which a peer proved to be an operator. Raises Refused where it did not."""
    formation = formation_shown(peer)
    if not formation:
        raise Refused("the other node shows no grant of a formation", code=Code.NOT_GRANTED, hint="is it up, and does it belong to one?")
    roster = Roster(formation)
    try:
        roster.learn(parse(peer.grant))
    except ProtocolError as error:
        raise Refused(f"the other node's grant does not hold: {error.message}", code=Code.NOT_GRANTED, hint="is it damaged?") from None
    standing = roster.standing(peer.id, now_ms=now_ms)
    if standing.state is State.CLOCK_OFF:
        raise Refused(f"a clock is off: the other's is {peer.clock_ahead_ms / 1000:+.0f} s from ours", code=Code.CLOCK_OFF, hint="set both")
    if standing.state is not State.VALID or standing.role is not Role.OPERATOR:
        raise Refused("the other node is no operator of its formation", code=Code.NOT_GRANTED, hint="do it at an operator's node")
    return formation


def _checked(addresses: list[str]) -> tuple[str, ...]:
    """Those that an entry can have; what is none is passed over. Addresses of this machine's files, and URLs, are for its owner to name."""
    found = []
    for address in addresses[:ADDRESSES_MAX]:
        try:
            check_address(address)
        except UsageError:
            continue
        if address.startswith("tcp://"):
            found.append(address)
    return tuple(dict.fromkeys(found))
