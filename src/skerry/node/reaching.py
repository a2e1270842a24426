"""How others come to this node, and how it comes to those that can't be dialled: dial-back, relays of our own, relaying for others.

A node that members can't dial says in its record that it is outbound, and over whom it is reached; one that they can dial says that it
relays, unless its owner does not want that. Both are kept, so that a node that starts again says at once what it said before.

The rule: what is said here is what somebody found out by dialling; and nobody but members has anything of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from skerry.channel.address import Address, parse_address, relay_of, via
from skerry.channel.admission import Quota
from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.discovery.reach import (
    ADDRESSES_MAX,
    NETWORKS_MAX,
    REASON_CHARACTERS_MAX,
    Reach,
    Verdict,
    judged,
    may_be_dialled,
    network_of,
    newly_found,
    read_kept,
    whom_to_ask,
    why_missed,
)
from skerry.discovery.relays import RELAYS, Candidate, chosen
from skerry.discovery.verbs import ComeReply, ComeRequest, DialBackReply, DialBackRequest, OfferReply, PipeReply, PipeRequest
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.codec import encode
from skerry.identity.keys import KEY_BYTES, short
from skerry.ports import jitter

if TYPE_CHECKING:
    from skerry.node.node import Node

FACTS = "reach"
OWN = "own"
SETTLE_S = 1.0  # after the first link, or a change: others are coming, and one round does for all of them
DIAL_TIMEOUT_S = 3.0  # of each dial that somebody asked for
ASK_TIMEOUT_S = 5.0  # until whoever was asked to dial us says how that went
DIALS_MAX = 16  # that somebody asked for, under way at once
DIALS_AT_ONCE = 8  # rounds of dials that one node may ask for; it asks once in ten minutes, and again when its addresses change
DIALS_PER_S = 0.1
LOOKED_AT_MAX = 8  # members that may be relays, pinged in a round
PING_TIMEOUT_S = 2.0
OPEN_TIMEOUT_S = 3.0  # until a relay has a pipe for us
CALL_TIMEOUT_S = 2.5  # until the called has heard of it
COMES_AT_ONCE = 64  # pipes to which one relay may call us; it has that bound itself
COMES_PER_S = 8.0
MISSES_AT_ONCE = 64.0  # of them that lead nowhere, since the relay was not where its record says: it may be going
MISSES_PER_S = 0.2
log = logging.getLogger(__name__)


class Reaching:
    """One node's (`channel.via.Relays`)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self.verdict = Verdict()
        self.relays: tuple[bytes, ...] = ()  # over which we are reached, where we are outbound
        self.found: tuple[str, ...] = ()  # addresses that we did not know of, at which others found us
        self.reasons: dict[bytes, str] = {}  # of those who did not find us in the last round: why
        self._asked_at: tuple[str, ...] = ()  # the addresses that the verdict is about
        self._asked_in: set[str] = set()  # networks whose members said something about it
        self._ups = 0  # links that came up
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._dials_asked = Quota(at_once=DIALS_AT_ONCE, per_s=DIALS_PER_S)
        self._comes = Quota(at_once=COMES_AT_ONCE, per_s=COMES_PER_S)
        self._misses = Quota(at_once=MISSES_AT_ONCE, per_s=MISSES_PER_S)
        self._coming: Counter[bytes] = Counter()  # pipes by the relay that is dialled for them now
        self._dials = 0
        self._recall()
        node.links.via.relays = self

    # --- life -----------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def link_up(self, link: Link) -> None:
        """Somebody is there who can be asked, or relay."""
        self._ups += 1
        lacks_relays = self.verdict.reach is Reach.OUTBOUND and len(self.relays) < RELAYS
        if lacks_relays or (len(self._asked_in) < NETWORKS_MAX and network_of(link.connection.address) not in self._asked_in):
            self._wake.set()

    def link_down(self, node: bytes) -> None:
        if node in self.relays:
            self._wake.set()

    def look(self) -> None:
        """From time to time: has anything changed that makes us ask again?"""
        changed = bool(self._asked_at) and self._asked_at != self._own_addresses()
        if changed or any(self._link_with(relay) is None for relay in self.relays):
            self._wake.set()

    # --- what it says ---------------------------------------------------------------------------------------------------------

    def said(self) -> dict[str, Any]:
        """What of it stands in the node record. Older releases pass over both fields."""
        said: dict[str, Any] = {}
        if self.verdict.reach is not Reach.UNKNOWN:
            said["reach"] = self.verdict.reach.value
        if self.verdict.reach is Reach.DIALABLE and self._node.settings.relays:
            said["relay"] = True
        return said

    def ways(self) -> tuple[str, ...]:
        """The addresses over relays."""
        return tuple(via(relay) for relay in self.relays) if self.verdict.reach is Reach.OUTBOUND else ()

    def reach_of(self, node: bytes) -> Reach:
        """What a node last said of itself."""
        if node == self._node.key.public:
            return self.verdict.reach
        said = self._body_of(node).get("reach")
        return Reach(said) if said in tuple(Reach) else Reach.UNKNOWN

    def kept(self, wanted: dict[bytes, tuple[str, ...]]) -> set[bytes]:
        """Nodes whose links stay, used or not: our relays, and those that are reached over us."""
        ours = via(self._node.key.public)
        return {*self.relays, *(node for node, addresses in wanted.items() if ours in addresses)}

    def learned(self, node: bytes) -> None:
        """A node said something of itself: perhaps it can be dialled now, and our link to it need not go over a relay any more."""
        link = self._node.links.get(node)
        if link is not None and link.connection.is_relayed and self.reach_of(node) is Reach.DIALABLE:
            self._node.spawn(self._straighten(node))

    async def _straighten(self, node: bytes) -> None:
        """Where a straight link comes about it takes the place of the other one, whose calls come to their end."""
        for address in self.addresses_of(node)[:ADDRESSES_MAX]:
            try:
                await self._node.links.dial(address, expected=node, timeout_s=DIAL_TIMEOUT_S)
            except SkerryError as error:
                log.debug("%s is still reached over a relay: %s", short(node), error)
            else:
                return

    # --- as a user of relays --------------------------------------------------------------------------------------------------

    async def ask(self, relay: bytes, node: bytes) -> bytes:
        link = self._link_with(relay)
        if link is None:
            link = await self._node.links.to(relay, self.addresses_of(relay), timeout_s=OPEN_TIMEOUT_S)
        self._node.keeper.note_use(relay)
        body = await link.call("relay.open", pack_message(PipeRequest(node)), timeout_s=OPEN_TIMEOUT_S)
        return unpack_message(PipeReply, body).token

    def addresses_of(self, relay: bytes) -> Sequence[str]:
        """The one that its link was dialled at comes first."""
        link = self._link_with(relay)
        dialled = [link.connection.path] if link is not None and link.dialled else []
        known = [address for address in self._node.whereabouts.of(relay) if relay_of(address) is None]
        contacts = self._node.contacts.directory.contacts.values()
        named = [address for contact in contacts for expected, address in contact.dialled() if expected == relay]
        return list(dict.fromkeys([*dialled, *known, *named]))

    def _link_with(self, node: bytes) -> Link | None:
        """The straight link to a member, or to a node of a contact."""
        link = self._node.links.get(node)
        if link is not None and not link.connection.is_relayed:
            return link
        return next((link for link in self._node.envoy.links() if link.id == node), None)

    def _straight_links(self) -> list[Link]:
        members = [link for link in self._node.links.nodes() if not link.away and not link.connection.is_relayed]
        return [*members, *self._node.envoy.links()]

    # --- others ask -----------------------------------------------------------------------------------------------------------

    def offer(self) -> OfferReply:
        return OfferReply(self.verdict.reach is not Reach.OUTBOUND and self._node.settings.relays)

    async def serve_dial_back(self, request: DialBackRequest, caller: bytes, *, host: str = "") -> DialBackReply:
        """Dial the caller, where it says it is. `host`: where a contact's node comes from; of a member it is known here."""
        if not self._dials_asked.take(caller.hex(), now=self._loop.time()):
            raise Refused(f"more than {DIALS_AT_ONCE} times running nobody is dialled back", code=Code.BUSY, hint="wait a minute")
        link = self._node.links.get(caller)
        host = link.connection.address if link is not None and not link.connection.is_relayed else host
        seen = [str(Address("tcp", host, port)) for port in request.ports if host and 0 < port < 65536]
        announced = set(self._node.whereabouts.of(caller))
        addresses = may_be_dialled([*request.addresses[:ADDRESSES_MAX], *seen], announced=announced, host=host)
        if self._dials + len(addresses) > DIALS_MAX:
            raise Refused(f"{DIALS_MAX} nodes are dialled back already", code=Code.BUSY, hint="ask somebody else")
        self._dials += len(addresses)
        try:
            reasons = await asyncio.gather(*(self._dial_back(address, caller, host=host) for address in addresses))
        finally:
            self._dials -= len(addresses)
        failed = [[address, reason] for address, reason in zip(addresses, reasons, strict=True) if reason]
        return DialBackReply([a for a, reason in zip(addresses, reasons, strict=True) if not reason], failed, host)

    async def _dial_back(self, address: str, node: bytes, *, host: str) -> str:
        """Why it is not there; "" where it is. Of a place that it does not come from it learns that alone, and not sooner for one reason
        than for another: it may have named any, also behind our firewall, to have us look for ports there."""
        began = self._loop.time()
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                link = await self._node.links.probe(address, expected=node, timeout_s=DIAL_TIMEOUT_S)
        except (SkerryError, TimeoutError) as error:
            if parse_address(address).host == host:
                said = error.message if isinstance(error, SkerryError) else f"{address} did not prove who it is within {DIAL_TIMEOUT_S:g} s"
                return said[:REASON_CHARACTERS_MAX]
            await asyncio.sleep(began + DIAL_TIMEOUT_S - self._loop.time())
            return "it does not answer there"
        link.close(Refused("that was to see whether you answer", code=Code.CANCELLED))
        return ""

    async def serve_open(
        self, request: PipeRequest, caller: bytes, *, among: Callable[[bytes], Link | None] | None = None, contact: bytes = b""
    ) -> PipeReply:
        """Forward for a member, to a member that is linked with us; or for a contact's node, to one `among` its own."""
        node = self._node
        if not node.settings.relays:
            raise Refused("this node forwards for nobody: its owner does not want it", code=Code.NOT_GRANTED, hint="the other relay may")
        link = (among or node.links.get)(request.node) if len(request.node) == KEY_BYTES else None
        if link is None or link.away or request.node == caller:
            raise Refused(
                f"{short(request.node)} has no link with this relay now", code=Code.NOT_FOUND, hint="the other relay may have one"
            )
        if link.connection.is_relayed:
            raise Refused("this node reaches that one over a relay itself", code=Code.NOT_FOUND, hint="the other relay may do better")
        pipe, token, called = node.links.pipes.prepare(caller, request.node, contact=contact)
        try:
            await link.call("relay.come", pack_message(ComeRequest(called)), timeout_s=CALL_TIMEOUT_S)
        except SkerryError as error:
            pipe.end("the called does not come")
            raise Refused(f"{short(request.node)} does not come: {error.message}", code=error.code, hint=error.hint) from error
        return PipeReply(token)

    async def serve_come(self, request: ComeRequest, caller: bytes) -> ComeReply:
        """A relay has somebody for us."""
        now = self._loop.time()
        if self._misses.left(caller.hex(), now=now) < self._coming[caller] + 1:
            raise Refused("this relay was not where it called us to", code=Code.BUSY, hint="the other relay may do better")
        if not self._comes.take(caller.hex(), now=now):
            raise Refused("this relay calls for more pipes than it may", code=Code.BUSY, hint="try again in a moment")
        self._coming[caller] += 1
        self._node.spawn(self._come(caller, request.token))
        return ComeReply()

    async def _come(self, relay: bytes, token: bytes) -> None:
        try:
            await self._node.links.via.come(relay, token, on_dialled=lambda met: self._dialled(relay, met))
        except (SkerryError, TimeoutError) as error:
            log.info("no pipe over %s came about: %s", short(relay), error)

    def _dialled(self, relay: bytes, met: bool) -> None:
        self._coming -= Counter([relay])
        if not met:
            self._misses.take(relay.hex(), now=self._loop.time())

    # --- finding out ----------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if not self._wake.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(jitter(self._node.ports.random, 0.8, 1.2) * self.verdict.again_s):
                        await self._wake.wait()
            await asyncio.sleep(SETTLE_S)
            self._wake.clear()
            try:
                await self._find_out()
            except SkerryError as error:  # the disk, as a rule: said by whoever writes next
                log.warning("how others reach this node could not be noted: %s", error)

    async def _find_out(self) -> None:
        before, ups = (self.verdict.reach, self.relays, self.found), self._ups
        if self._asked_at != self._own_addresses():
            self._asked_at, self._asked_in = self._own_addresses(), set()
        if self._node.listening:
            await self._ask_members()
        else:
            self.verdict = judged(self.verdict, [False])
        self.relays = chosen(self.relays, await self._candidates()) if self.verdict.reach is Reach.OUTBOUND else ()
        for link in self._node.links.nodes():
            if link.connection.is_relayed:
                self._node.spawn(self._straighten(link.id))
        if self.verdict.reach is Reach.OUTBOUND and len(self.relays) < RELAYS and self._ups != ups:
            self._wake.set()  # somebody came while we looked
        self._warn()
        if before != (self.verdict.reach, self.relays, self.found):
            log.info("others reach this node %s", self.told())
            self._remember()
            self._node.advertiser.say_node()
            self._node.keeper.look()

    def _warn(self) -> None:
        """What people should do something about."""
        warnings = self._node.warnings
        warnings.pop("reach", None)
        if self.verdict.reach is not Reach.OUTBOUND:
            return
        if not self.relays:
            warnings["reach"] = "nobody can dial this node, and no member relays for it: `skerry doctor` says more"
        elif self._node.trust.may_invite():
            warnings["reach"] = "nobody can dial this node: its tickets work where it can be dialled, so invite at another operator's node"

    def told(self) -> str:
        """For people."""
        if self.verdict.reach is Reach.DIALABLE:
            return "straight"
        if self.verdict.reach is Reach.UNKNOWN:
            return "perhaps: nobody could be asked yet"
        return f"over {', '.join(short(relay) for relay in self.relays)} alone" if self.relays else "not at all: no relay is there"

    async def _ask_members(self) -> None:
        hosts = [(link.id, link.connection.address) for link in self._straight_links()]
        asked = whom_to_ask(hosts, fraction=self._node.ports.random.fraction(), asked=self._asked_in)
        ports = [parsed.port for a in self._node.listening if (parsed := parse_address(a)).scheme == "tcp"]
        request = DialBackRequest(list(self._asked_at[:ADDRESSES_MAX]), ports)
        replies = [reply for reply in await asyncio.gather(*(self._ask_one(node, request) for node in asked)) if reply is not None]
        self.reasons = {node: why_missed(reply.failed) for node, reply in replies if not reply.answered}
        self.verdict = judged(self.verdict, [bool(reply.answered) for _, reply in replies])
        self._asked_in |= {network_of(host) for node, host in hosts if node in dict(replies)}
        if replies:
            new = [a for _, one in replies for a in newly_found(one.answered, known=self._asked_at, host=one.host, ports=ports)]
            self.found = tuple(dict.fromkeys(new))[:ADDRESSES_MAX]

    async def _ask_one(self, node: bytes, request: DialBackRequest) -> tuple[bytes, DialBackReply] | None:
        """None: it can't say."""
        link = self._link_with(node)
        try:
            if link is not None:
                body = await link.call("reach.dial_back", pack_message(request), timeout_s=ASK_TIMEOUT_S)
                return node, unpack_message(DialBackReply, body)
        except SkerryError as error:
            log.debug("%s did not say whether it can dial this node: %s", short(node), error)
        return None

    async def _candidates(self) -> list[Candidate]:
        """Members that relay and are there, with their round trips: our relays, and some others."""
        offer = [link for link in self._straight_links() if self._body_of(link.id).get("relay") is True]
        if len(offer) < RELAYS:
            offer += [link for link in self._node.envoy.links()[:LOOKED_AT_MAX] if await self._offers(link)]
        ours = [link for link in offer if link.id in self.relays]
        others = [link for link in offer if link.id not in self.relays]
        start = int(self._node.ports.random.fraction() * len(others))
        some = [*ours, *others[start:], *others[:start]][:LOOKED_AT_MAX]
        timed = await asyncio.gather(*(self._round_trip_ms(link) for link in some))
        now = self._loop.time()
        return [Candidate(link.id, ms, now - link.opened_at) for link, ms in zip(some, timed, strict=True) if ms is not None]

    async def _offers(self, link: Link) -> bool:
        """Whether a contact's node forwards for us: its formation's entry for ours says so."""
        try:
            return unpack_message(OfferReply, await link.call("relay.offer", b"\xa0", timeout_s=PING_TIMEOUT_S)).forwards
        except SkerryError:
            return False

    async def _round_trip_ms(self, link: Link) -> float | None:
        began = self._loop.time()
        try:
            await link.call("ping", b"\xa0", timeout_s=PING_TIMEOUT_S)
        except SkerryError:
            return None
        return (self._loop.time() - began) * 1000

    # --- memory ---------------------------------------------------------------------------------------------------------------

    def _own_addresses(self) -> tuple[str, ...]:
        return tuple(address for address in self._node.addresses() if address not in self.found)

    def _body_of(self, node: bytes) -> dict[str, Any]:
        statement = self._node.replica.get(node, "node", "node", now_ms=self._node.ports.clock.now_ms())
        return statement.body if statement is not None else {}

    def _remember(self) -> None:
        kept = encode([self.verdict.reach.value, list(self.relays), list(self.found)])
        self._node.ports.store.set_fact(FACTS, OWN, kept)

    def _recall(self) -> None:
        kept = self._node.ports.store.fact(FACTS, OWN)
        if kept is not None:
            self.verdict, self.relays, self.found = read_kept(kept)
