"""How a node comes to its formation: it founds one, or joins one with a ticket. Written to survive a crash at any step.

A join leaves its marks in this order: the node key (before anything is dialled), the inviter's own note of the use, and here, in one
commit, the formation with the grant. A crash before that commit and the same command again is the same join.

The rule: a home belongs to one formation, and never silently to another.
"""

from __future__ import annotations

import datetime
import logging
import re

from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable, UsageError
from skerry.identity.codec import decode, encode
from skerry.identity.grants import Role, Roster, Standing, State, issue, read_grant
from skerry.identity.keys import KeyPair, short
from skerry.identity.stamps import EARLIEST_MS
from skerry.identity.statement import parse
from skerry.identity.ticket import ADDRESS_CHARACTERS_MAX, ADDRESSES_MAX, Ticket, hash_secret
from skerry.node import scores
from skerry.node.invitations import INVITATIONS, SEEDS_MAX
from skerry.node.trust import ROOT_KEY
from skerry.node.verbs import JoinReply, JoinRequest
from skerry.ports import Keyring, Ports, Store
from skerry.records import attendance, confidence
from skerry.records.abroad import Foreign
from skerry.records.federation import CURSORS
from skerry.records.record import KINDS, Refusal
from skerry.records.replica import Replica

FACTS = "node"
FORMATION = "formation"
SEEDS = "seeds"
TICKET = "ticket"  # the hash of the last ticket that was used here
CONTACT_SPACES = ("contacts", "cursor-abroad", "contact-invitation")  # facts of what this node knows of contacts
JOIN_TIMEOUT_S = 10.0
_NODE_ID = re.compile("[0-9a-f]{64}")
log = logging.getLogger(__name__)


def formation_of(ports: Ports) -> bytes | None:
    """The formation that this home belongs to."""
    return ports.store.fact(FACTS, FORMATION)


def seeds_of(ports: Ports) -> dict[bytes, tuple[str, ...]]:
    """Addresses that we were given with a ticket, by node id."""
    data = ports.store.fact(FACTS, SEEDS)
    return {node: tuple(addresses) for node, addresses in decode(data)} if data else {}


def found(ports: Ports, key: KeyPair) -> bytes:
    """Make a formation with this node as its first operator; returns its id. Asked again after a crash it finishes the same one."""
    check_clock(ports)
    seed = ports.keyring.load(ROOT_KEY)
    if seed is None:
        seed = ports.random.token(32)
        ports.keyring.save(ROOT_KEY, seed)
    root = KeyPair.from_seed(seed)
    replica = Replica(ports.store, formation=root.public, roster=Roster(root.public), ours=key.public)
    now_ms = ports.clock.now_ms()
    stamp = replica.next_stamp(now_ms=now_ms)
    replica.publish(issue(root, formation=root.public, subject=key.public, role=Role.OPERATOR, stamp=stamp))
    attendance.begin(ports.store, now_ms=now_ms)
    ports.store.set_fact(FACTS, FORMATION, root.public, durable=True)
    return root.public


def check_clock(ports: Ports) -> None:
    """Raises Refused where this machine's clock can't be right: what is signed by it would hold for nobody."""
    if ports.clock.now_ms() < EARLIEST_MS:
        date = datetime.datetime.fromtimestamp(ports.clock.now_ms() / 1000, tz=datetime.UTC).strftime("%Y-%m-%d")
        raise Refused(f"this machine's clock is off: it says {date}", code=Code.CLOCK_OFF, hint="set it (NTP), then try again")


def leave(store: Store, keyring: Keyring) -> None:
    """Forget the formation: its records, seeds and tickets. The agents stay; a root key is kept aside, for it may be the only one. The
    others are not told: that is `leaving.py`'s, while the node runs."""
    held = store.fact(FACTS, FORMATION)
    for kind in KINDS:
        for row in store.of_kind(kind):
            store.delete(row.author, row.kind, row.name)
            if kind == "agent":
                store.set_offers(row.author, row.name, ())
    for formation in store.formations():
        if formation:
            Foreign(store, formation).forget()
    for space in (CURSORS, INVITATIONS, attendance.FACTS, confidence.FACTS, scores.SPACE, *CONTACT_SPACES):
        for key, _ in store.facts(space):
            store.set_fact(space, key, None)
    seed = keyring.load(ROOT_KEY)
    if seed is not None and held is not None:
        keyring.save(f"{ROOT_KEY}-of-{short(held)}", seed)
        keyring.delete(ROOT_KEY)
    store.set_fact(FACTS, SEEDS, None)
    store.set_fact(FACTS, TICKET, None)
    store.set_fact(FACTS, FORMATION, None, durable=True)


def has_left(ports: Ports, key: KeyPair) -> bool:
    """Whether this home said that it leaves, and was cut before it was free."""
    held = formation_of(ports)
    if held is None:
        return False
    roster = Roster(held)
    Replica(ports.store, formation=held, roster=roster, ours=key.public)
    departure = roster.departure_of(key.public)
    return departure is not None and departure.own and roster.standing(key.public, now_ms=ports.clock.now_ms()).state is State.DEPARTED


async def join(ports: Ports, key: KeyPair, ticket: Ticket, *, name: str) -> bytes:
    """Show the ticket to its inviter and take the grant; returns the formation. Raises Refused (the inviter's reason) or Unreachable."""
    held = formation_of(ports)
    if held is not None and held != ticket.formation:
        raise has_formation(held)
    belongs = held is not None and _standing(ports, key, ticket.formation).belongs
    if belongs and ports.store.fact(FACTS, TICKET) == hash_secret(ticket.secret):
        return ticket.formation  # joined before: a ticket is used once per node
    check_clock(ports)
    try:
        reply = await _ask_to_join(ports, key, ticket, name=name)
    except Unreachable:
        if not belongs:
            raise
        log.warning("the inviter can't be reached; this home is of its formation already, and goes on as it is")
        return ticket.formation
    _keep(ports, key, ticket, reply)
    return ticket.formation


def _standing(ports: Ports, key: KeyPair, formation: bytes) -> Standing:
    roster = Roster(formation)
    Replica(ports.store, formation=formation, roster=roster, ours=key.public)
    return roster.standing(key.public, now_ms=ports.clock.now_ms())


async def _ask_to_join(ports: Ports, key: KeyPair, ticket: Ticket, *, name: str) -> JoinReply:
    newcomer = _Newcomer(ticket.formation, ports)
    links = Links(key, network=ports.network, clock=ports.clock, random=ports.random, household=newcomer)
    try:
        link = await _reach(links, ticket)
        body = await link.call("node.join", pack_message(JoinRequest(ticket.secret, name)), timeout_s=JOIN_TIMEOUT_S)
    finally:
        await links.close()
    return unpack_message(JoinReply, body)


def _keep(ports: Ports, key: KeyPair, ticket: Ticket, reply: JoinReply) -> None:
    """Check the grant as anybody would, then keep it with the formation, in one commit."""
    grant = read_grant(parse(reply.grant))
    if grant.subject != key.public or grant.formation != ticket.formation:
        raise ProtocolError(
            "the inviter's grant is for another node or another formation", code=Code.NOT_GRANTED, hint="ask for a new ticket"
        )
    now_ms = ports.clock.now_ms()
    roster = Roster(ticket.formation)
    roster.learn(grant.statement)
    standing = roster.standing(key.public, now_ms=now_ms)
    if standing.state is not State.VALID:
        raise Refused(f"the inviter's grant does not hold here: {standing.reason}", code=Code.CLOCK_OFF, hint="set this machine's clock")
    ports.store.set_fact(FACTS, SEEDS, encode([[ticket.inviter, list(ticket.addresses)], *_seeds(key, ticket, reply)]))
    replica = Replica(ports.store, formation=ticket.formation, roster=roster, ours=key.public)
    for signed in (reply.grant, *reply.records):
        outcome = replica.ingest(signed, now_ms=now_ms)
        if isinstance(outcome, Refusal):
            log.info("a record of the inviter was not taken: %s", outcome.detail)
    ports.store.set_fact(FACTS, TICKET, hash_secret(ticket.secret))
    ports.store.set_fact(FACTS, FORMATION, ticket.formation, durable=True)


def _seeds(key: KeyPair, ticket: Ticket, reply: JoinReply) -> list[list[object]]:
    """Whom the inviter was told of, as far as they can be nodes of ours: who answers there has to prove it."""
    found: list[list[object]] = []
    for text, addresses in list(reply.seeds.items())[: SEEDS_MAX - 1]:
        shown = [one for one in addresses[:ADDRESSES_MAX] if len(one) <= ADDRESS_CHARACTERS_MAX]
        if _NODE_ID.fullmatch(text) and bytes.fromhex(text) not in (key.public, ticket.inviter) and shown:
            found.append([bytes.fromhex(text), shown])
    return found


async def _reach(links: Links, ticket: Ticket) -> Link:
    errors: list[SkerryError] = []
    for address in ticket.addresses:
        try:
            return await links.dial(address, expected=ticket.inviter)
        except SkerryError as error:
            # An address of the inviter's own network may be somebody else's here: then another one leads there.
            if isinstance(error, Refused) and error.code != Code.WRONG_IDENTITY:
                raise
            errors.append(error)
    said = errors[-1] if errors else Unreachable("the ticket names no address")
    if isinstance(said, Unreachable):
        raise Unreachable(
            f"the inviter {short(ticket.inviter)} can't be reached: {said.message}", hint="is its node up, and can this machine reach it?"
        )
    raise said


def has_formation(formation: bytes) -> UsageError:
    return UsageError(
        f"this home belongs to the formation {short(formation)} already",
        code=Code.HAS_FORMATION,
        hint="join with another home (--home DIR), or leave that formation for good with --leave",
    )


class _Newcomer:
    """The household of a node that belongs nowhere yet: it believes the ticket, and who can prove to be its inviter."""

    def __init__(self, formation: bytes, ports: Ports) -> None:
        self._roster = Roster(formation)
        self._ports = ports

    def credentials(self) -> Credentials:
        return Credentials()

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        if not peer.grant:
            raise Refused("the inviter shows no grant of the ticket's formation", code=Code.NOT_GRANTED, hint="ask for a new ticket")
        self._roster.learn(parse(peer.grant))
        standing = self._roster.standing(peer.id, now_ms=self._ports.clock.now_ms())
        if standing.state is State.CLOCK_OFF or (standing.state is not State.VALID and abs(peer.clock_ahead_ms) > 5 * 60 * 1000):
            ahead_s = peer.clock_ahead_ms / 1000
            raise Refused(f"a clock is off: the inviter's is {ahead_s:+.0f} s from this one", code=Code.CLOCK_OFF, hint="set both clocks")
        if standing.state is not State.VALID or standing.role is not Role.OPERATOR:
            raise Refused(
                f"the inviter is no operator of the ticket's formation: {standing.reason}", code=Code.NOT_GRANTED, hint="ask anew"
            )

    def is_node(self, peer: Peer) -> bool:
        return True

    async def serve(self, served: Served) -> Body:
        raise Refused("this node is about to join and answers nothing yet", code=Code.BUSY, hint="try again in a moment")

    def link_up(self, link: Link) -> None:
        """Nothing follows: the join asks by itself."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows: whoever waits hears of it."""
