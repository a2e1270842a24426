"""What a node says to its links: what it shows, whom it lets in, and what each open connection may do now.

The rule: rights follow from grants and contacts as they stand at this moment; a connection that is open gets no more than a new one would.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer, Purpose
from skerry.channel.link import Link
from skerry.channel.links import Credentials
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.grants import Role, State
from skerry.identity.keys import short
from skerry.identity.statement import Statement
from skerry.node import operations
from skerry.node.policy import Right, is_stranger, rights_of

if TYPE_CHECKING:
    from skerry.node.node import Node

PART_AFTER_S = 0.5  # a reply that is under way arrives before the link ends
log = logging.getLogger(__name__)


class NodeHousehold:
    """One node's answers to its links (`channel.links.Household`)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._parting: set[bytes] = set()  # peers that are told why their link ends

    def credentials(self) -> Credentials:
        trust = self._node.trust
        return Credentials(trust.grant_to_show(), trust.revocations_digest())

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        if peer.is_owner:
            return
        node = self._node
        node.trust.learn_shown(peer.grant)
        standing = node.trust.standing(peer.id)
        if standing.state is State.REVOKED:
            raise Refused(f"the node {short(peer.id)} is out: {standing.reason}", code=Code.REVOKED, hint=_REVOKED)
        if standing.state is State.CLOCK_OFF:
            ahead_s = peer.clock_ahead_ms / 1000
            raise Refused(f"a clock is off: the peer's is {ahead_s:+.0f} s from ours", code=Code.CLOCK_OFF, hint="set both clocks")
        if standing.belongs:
            return
        node.contacts.meet(peer)
        if dialled and node.contacts.of_peer(peer) is None:
            raise Refused(
                f"the node {short(peer.id)} has no grant of this formation: {standing.reason}",
                code=Code.NOT_GRANTED,
                hint="ask an operator for a ticket for it",
            )

    def is_node(self, peer: Peer) -> bool:
        standing = self._node.trust.standing(peer.id)
        return not peer.is_owner and standing.belongs and standing.role is not Role.CLIENT

    async def serve(self, served: Served) -> Body:
        metrics = self._node.metrics
        self._node.keeper.note_use(served.link.id)
        try:
            body = await operations.serve(self._node, served)
        except SkerryError as error:
            metrics.failed(served.verb, error)
            raise
        except asyncio.CancelledError:
            metrics.called(served.verb, Code.CANCELLED)
            raise
        metrics.called(served.verb)
        return body

    def link_up(self, link: Link) -> None:
        assert link.peer is not None
        node = self._node
        link.rights = self._rights(link)
        if is_stranger(link.rights) and not link.dialled:
            node.strangers.came(link)
        if link.peer.purpose is Purpose.CALL and self.is_node(link.peer):
            log.info("linked with %s", short(link.id))
            node.federation.link_up(link)
            node.contacts.link_up(link)
            node.upkeep.note_clock(link)
            node.presence.link_up(link.id)
            node.mail.post.try_again()
            node.wires.look()
        elif node.trust.standing(link.id).state is State.DEPARTED:
            departure = node.roster.departure_of(link.id)
            if departure is not None:  # it may not have heard that an operator ended its membership
                node.spawn(node.federation.tell(link, departure.statement))
        elif link.peer.purpose is Purpose.CALL:
            node.envoy.link_up(link)

    def link_down(self, link: Link, reason: SkerryError) -> None:
        log.info("the link to %s is gone: %s", short(link.id), reason)
        self._node.federation.link_down(link)
        self._node.presence.link_down(link.id, in_order=link.away)
        if self._node.running:
            self._node.keeper.look(only=link.id)

    def refresh(self, only: str = "") -> None:
        """Grants or contacts changed, or time went: every open connection (of `only`) gets the rights that follow; the revoked, those who
        left, and who was a contact, lose it."""
        node, subject = self._node, bytes.fromhex(only)
        for link in (link for link in node.links.all() if not only or link.id == subject):
            assert link.peer is not None
            standing = node.trust.standing(link.id)
            if not standing.belongs:
                node.contacts.meet(link.peer, again=True)
            before, link.rights = link.rights, self._rights(link)
            if not is_stranger(link.rights):
                node.strangers.is_known(link)
            if link.peer.is_owner or link.id in self._parting:
                continue
            if standing.state is State.REVOKED:
                said = node.roster.revocation_of(link.id)
                reason = Refused(f"revoked: {standing.reason}", code=Code.REVOKED, hint=_REVOKED)
                node.spawn(self._part_with(link, reason, said.statement if said is not None else None))
            elif standing.state is State.DEPARTED and link in node.links.nodes():
                node.spawn(self._part_with(link, Refused(standing.reason, code=Code.NOT_GRANTED), None))
            elif Right.CONTACT in link.rights and Right.CONTACT not in before:
                node.envoy.link_up(link)
            elif Right.CONTACT in before and is_stranger(link.rights):
                gone = Refused("this formation is no contact of yours any more", code=Code.NOT_GRANTED, hint="ask its operators")
                node.spawn(self._part_with(link, gone, None))

    def _rights(self, link: Link) -> frozenset[str]:
        assert link.peer is not None
        return rights_of(self._node.trust.standing(link.id), owner=link.peer.is_owner, contact=self._node.contacts.of_peer(link.peer))

    async def _part_with(self, link: Link, reason: SkerryError, said: Statement | None) -> None:
        """It has no right any more. It is told why, and a reply that is under way arrives: then the link ends."""
        self._parting.add(link.id)
        link.away = True
        try:
            async with asyncio.timeout(PART_AFTER_S):
                if said is None:
                    await asyncio.sleep(PART_AFTER_S)
                else:
                    await self._node.federation.tell(link, said)
        except TimeoutError:
            pass
        finally:
            self._parting.discard(link.id)
            link.close(reason)


_REVOKED = "a revocation is final for that key: to come back, join with a new home"
