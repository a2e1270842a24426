"""The way to the mesh with a ticket, without a node on this machine.

The first use shows the ticket to its inviter and gets a client's grant, which lies in the wallet from then on. After that any node of the
formation will do: the inviter first, then those that are learned from the formation's directory, which is signed. When the node in use
goes away, the next call goes to another one. The grant is renewed at half its life, by any operator that can be reached.

The rule: a node is believed to be of the formation because its grant leads to the formation's root key, and for no other reason.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from skerry.channel.address import relay_of
from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.messages import pack_message, unpack_message
from skerry.client.wallet import Contents
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.identity.grants import TOLERANCE_MS, Grant, Role, Roster, State, read_grant
from skerry.identity.keys import short
from skerry.identity.statement import Statement, parse
from skerry.identity.ticket import Ticket
from skerry.node.verbs import DirectoryReply, JoinReply, JoinRequest, Nothing, RenewReply
from skerry.ports import Clock, Network, Random, jitter
from skerry.records.record import TRUST, renewal_due

CONNECT_TIMEOUT_S = 5.0  # until one of the nodes must have answered
NEXT_AFTER_S = 0.4  # without an answer the next address is tried beside the one before
ASK_TIMEOUT_S = 5.0
GOODBYE_S = 1.0  # for the other side to answer our end of the connection
LOOK_S = 0.005
SETTLE_S = 0.5  # a program that ends at once waits so long for the directory, which it needs when the inviter is gone
REFRESH_MS = 10 * 60 * 1000  # how old the directory may be
REFRESH_S = REFRESH_MS / 1000
log = logging.getLogger(__name__)


class Keep(Protocol):
    """Where key, grant and directory are kept: `wallet.Wallet`."""

    def open(self) -> Contents: ...

    def save(self, *, grant: bytes | None = None, records: list[bytes] | None = None, refreshed_ms: int | None = None) -> None: ...


class TicketWay:
    """Connections to the formation of `ticket`, one at a time."""

    def __init__(self, ticket: Ticket, keep: Keep, *, network: Network, clock: Clock, random: Random) -> None:
        self._ticket = ticket
        self._keep = keep
        self._network = network
        self._clock = clock
        self._random = random
        self._contents = keep.open()
        self._roster = Roster(ticket.formation)
        self._nodes: dict[bytes, tuple[str, ...]] = {}
        self._links: Links | None = None
        self._link: Link | None = None
        self._dialling: asyncio.Task[Link] | None = None
        self._chores: asyncio.Task[None] | None = None
        self._grant: Grant | None = None
        self._settled = asyncio.Event()  # the directory was looked after once
        for signed in (self._contents.grant, *self._contents.records):
            self._learn(signed)

    async def open(self) -> None:
        """Join where that is still to do, and connect. Raises Refused or Unreachable with the reason."""
        self._links = Links(self._contents.key, network=self._network, clock=self._clock, random=self._random, household=_Household(self))
        if self._grant is None or not self._roster.standing(self._contents.key.public, now_ms=self._clock.now_ms()).belongs:
            await self._join()
        else:
            await self.link()
        self._chores = asyncio.get_running_loop().create_task(self._stay())

    async def link(self) -> Link:
        """A connection to one of the nodes: the one that is up, or a new one."""
        if self._links is None:
            raise Unreachable("this mesh is not connected", hint="use it as `async with skerry.connect(ticket=...) as mesh`")
        if self._link is not None and not self._link.closed and not self._link.away:
            return self._link
        if self._dialling is None or self._dialling.done():
            self._dialling = asyncio.get_running_loop().create_task(self._dial(self._places(), CONNECT_TIMEOUT_S))
        self._link = await asyncio.shield(self._dialling)
        return self._link

    async def has_another(self, lost: Link) -> bool:
        """Whether, after that link was lost, another node can be reached."""
        if not (lost.closed or lost.away):
            return False
        try:
            await self.link()
        except SkerryError:
            return False
        return True

    async def close(self) -> None:
        """Let a renewal under way come to its end, then end everything."""
        if self._chores is not None:
            settled = asyncio.ensure_future(self._settled.wait())
            await asyncio.wait({settled}, timeout=ASK_TIMEOUT_S if self._is_due() else SETTLE_S)
            settled.cancel()
            self._chores.cancel()
            await asyncio.gather(self._chores, return_exceptions=True)
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        if self._links is not None:
            await _hung_up(self._links)
        self._links = self._link = None

    # --- where ----------------------------------------------------------------------------------------------------------------

    def _places(self) -> list[tuple[bytes, str]]:
        """Nodes and addresses in the order in which they are tried: the inviter, then the others, which share us evenly."""
        inviter = dict.fromkeys((*self._ticket.addresses, *self._nodes.get(self._ticket.inviter, ())))
        now_ms = self._clock.now_ms()
        belong = [node for node in sorted(self._nodes) if self._roster.standing(node, now_ms=now_ms).belongs]
        others = [node for node in belong if node != self._ticket.inviter]
        start = int(self._random.fraction() * len(others))
        rest = others[start:] + others[:start]
        return [(self._ticket.inviter, address) for address in inviter] + [(node, a) for node in rest for a in self._nodes[node]]

    async def _dial(self, places: list[tuple[bytes, str]], timeout_s: float) -> Link:
        """The first that answers; each gets a short start before the next is tried beside it."""
        assert self._links is not None
        loop = asyncio.get_running_loop()
        end, waiting = loop.time() + timeout_s, list(places)
        dials: set[asyncio.Task[Link]] = set()
        errors: list[SkerryError] = []
        try:
            while (waiting or dials) and loop.time() < end:
                if waiting:
                    node, address = waiting.pop(0)
                    dials.add(loop.create_task(self._links.dial(address, expected=node, timeout_s=end - loop.time())))
                wait_s = min(NEXT_AFTER_S, end - loop.time()) if waiting else end - loop.time()
                done, dials = await asyncio.wait(dials, timeout=max(wait_s, 0), return_when=asyncio.FIRST_COMPLETED)
                for dial in done:
                    error = dial.exception()
                    if error is None:
                        return dial.result()
                    if not isinstance(error, SkerryError):
                        raise error
                    errors.append(error)
            raise _worst(errors, len(places))
        finally:
            for dial in dials:
                dial.cancel()
                dial.add_done_callback(_hang_up)

    # --- joining, renewing ----------------------------------------------------------------------------------------------------

    async def _join(self) -> None:
        link = await self._dial([(self._ticket.inviter, address) for address in self._ticket.addresses], CONNECT_TIMEOUT_S)
        request = JoinRequest(self._ticket.secret, "", client=True)
        reply = unpack_message(JoinReply, await link.call("node.join", pack_message(request), timeout_s=ASK_TIMEOUT_S))
        self._take_grant(reply.grant)
        for signed in reply.records:
            self._learn(signed)
        self._keep.save(grant=reply.grant, records=list(reply.records))
        self._link = link

    def _take_grant(self, signed: bytes) -> None:
        grant = read_grant(parse(signed))
        if grant.subject != self._contents.key.public or grant.formation != self._ticket.formation:
            raise ProtocolError("the grant is for somebody else, or of another formation", code=Code.NOT_GRANTED, hint=_ASK_ANEW)
        self._roster.learn(grant.statement)
        standing = self._roster.standing(grant.subject, now_ms=self._clock.now_ms())
        if standing.state is State.CLOCK_OFF:
            raise Refused("this machine's clock is off: the grant is of its future", code=Code.CLOCK_OFF, hint="set the clock")
        self._grant = standing.grant

    def _is_due(self) -> bool:
        return self._grant is not None and renewal_due(self._grant.issued_ms, self._grant.expires_ms, now_ms=self._clock.now_ms())

    async def _stay(self) -> None:
        """Know where the nodes are, and renew the grant at half its life."""
        while True:
            try:
                now_ms = self._clock.now_ms()
                if not 0 <= now_ms - self._contents.refreshed_ms < REFRESH_MS:
                    await self._refresh()
                    if self._is_due():
                        await self._renew()
            except SkerryError as error:
                log.info("the formation's directory, or a renewal, could not be had: %s", error)
            self._settled.set()
            await asyncio.sleep(jitter(self._random, REFRESH_S / 2, REFRESH_S))

    async def _refresh(self) -> None:
        link = await self.link()
        body = await link.call("formation.directory", pack_message(Nothing()), timeout_s=ASK_TIMEOUT_S)
        records = unpack_message(DirectoryReply, body).records
        for signed in records:
            self._learn(signed)
        self._keep.save(records=records, refreshed_ms=self._clock.now_ms())
        self._contents = self._keep.open()

    async def _renew(self) -> None:
        """Ask the operators in turn, on the connection that is up or on one for the occasion."""
        assert self._links is not None
        now_ms = self._clock.now_ms()
        for node, addresses in sorted(self._nodes.items()):
            standing = self._roster.standing(node, now_ms=now_ms)
            if standing.role is not Role.OPERATOR or standing.state is not State.VALID:
                continue
            up = self._link if self._link is not None and self._link.id == node and not self._link.closed else None
            try:
                link = up or await self._dial([(node, address) for address in addresses], ASK_TIMEOUT_S)
                reply = unpack_message(RenewReply, await link.call("grant.renew", pack_message(Nothing()), timeout_s=ASK_TIMEOUT_S))
                self._take_grant(reply.grant)
                self._keep.save(grant=reply.grant)
            except SkerryError as error:
                log.info("%s did not renew this client's grant: %s", short(node), error)
                continue
            if link is not up:
                link.close(Refused("the grant is renewed", code=Code.CANCELLED))
            return

    # --- trust ----------------------------------------------------------------------------------------------------------------

    def shown_grant(self) -> bytes:
        return self._grant.statement.signed if self._grant is not None else b""

    def judge(self, peer: Peer) -> None:
        """Raises where the node that answers is none of the ticket's formation."""
        if peer.grant:
            self._learn(peer.grant)
        standing = self._roster.standing(peer.id, now_ms=self._clock.now_ms())
        if standing.belongs and standing.role is not Role.CLIENT:
            return
        if standing.state is State.CLOCK_OFF or (peer.grant and abs(peer.clock_ahead_ms) > TOLERANCE_MS):
            ahead_s = peer.clock_ahead_ms / 1000
            raise Refused(f"a clock is off: the node's is {ahead_s:+.0f} s from this one", code=Code.CLOCK_OFF, hint="set both clocks")
        code = Code.REVOKED if standing.state is State.REVOKED else Code.NOT_GRANTED
        raise Refused(f"the node {short(peer.id)} is none of the ticket's formation: {standing.reason}", code=code, hint=_ASK_ANEW)

    def _learn(self, signed: bytes) -> None:
        """Take in a signed record; what does not hold is as if it had not come."""
        if not signed:
            return
        try:
            statement: Statement = parse(signed)
            if statement.kind in TRUST:
                self._roster.learn(statement)
        except SkerryError as error:
            log.info("a record is not believed: %s", error)
            return
        ours = self._roster.standing(self._contents.key.public, now_ms=self._clock.now_ms()).grant
        self._grant = ours if ours is not None else self._grant
        addresses = statement.body.get("addresses")
        if statement.kind == "node" and statement.formation == self._ticket.formation and isinstance(addresses, list):
            # Not those over a relay: only members have anything forwarded, and any node is a door to all the others.
            self._nodes[statement.author] = tuple(a for a in addresses if isinstance(a, str) and relay_of(a) is None)


class _Household:
    """What the links ask of a client: it shows its grant, judges who answers, and answers nothing itself."""

    def __init__(self, way: TicketWay) -> None:
        self._way = way

    def credentials(self) -> Credentials:
        return Credentials(self._way.shown_grant())

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        self._way.judge(peer)

    def is_node(self, peer: Peer) -> bool:
        return False

    async def serve(self, served: Served) -> Body:
        raise Refused("a client answers no calls", code=Code.UNKNOWN_VERB)

    def link_up(self, link: Link) -> None:
        """Nothing follows."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows: calls under way hear of it."""


def _worst(errors: list[SkerryError], places: int) -> SkerryError:
    """What to say where nobody let us in: a no says more than silence."""
    for error in errors:
        if not isinstance(error, Unreachable):
            return error
    last = f": {errors[-1].message}" if errors else f" within {CONNECT_TIMEOUT_S:g} s"
    return Unreachable(
        f"none of the formation's {places} known addresses can be reached{last}", hint="is a node up, and can this machine reach it?"
    )


async def _hung_up(links: Links) -> None:
    """Close all, and wait until TLS has said goodbye: a program's loop may end right after us."""
    loop, open_links = asyncio.get_running_loop(), links.all()
    await links.close()
    end = loop.time() + GOODBYE_S
    while not all(link.ended for link in open_links) and loop.time() < end:  # noqa: ASYNC110 - an end that nobody announces
        await asyncio.sleep(LOOK_S)


def _hang_up(dial: asyncio.Task[Link]) -> None:
    """A dial that was not needed any more: whatever came of it ends."""
    if not dial.cancelled() and dial.exception() is None:
        dial.result().close(Refused("another node answered first", code=Code.CANCELLED))


_ASK_ANEW = "ask for a new ticket: `skerry node invite --role client`"
