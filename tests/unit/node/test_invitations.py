"""Tickets at the inviter's: made, used, used up."""

from __future__ import annotations

import asyncio

import pytest

from skerry.errors import Code, Refused, SkerryError, UsageError
from skerry.identity.grants import Role, State, depart, read_grant
from skerry.identity.keys import KeyPair
from skerry.identity.statement import parse
from skerry.identity.ticket import ADDRESS_CHARACTERS_MAX, ADDRESSES_MAX, LIFETIME_MS, Ticket, parse_ticket
from skerry.node import invitations as module
from skerry.node.invitations import INVITATIONS, Invitations
from skerry.node.trust import ROOT_KEY, Trust
from skerry.node.verbs import InviteRequest, JoinRequest
from skerry.sim.clock import SimClock, SimRandom
from tests.support.formation import CLIENT, FORMATION, MEMBER, NOW_MS, OPERATOR, ROOT, STRANGER, operator_grant
from tests.support.links import simulated
from tests.support.replicas import Home

ADDRESSES = ("tcp://127.0.0.1:7420",)


class Inviter:
    def __init__(self, *, addresses: tuple[str, ...] = ADDRESSES, home: Home | None = None) -> None:
        self.home = home or Home()
        self.clock = SimClock(asyncio.get_running_loop(), start_ms=NOW_MS)
        self.home.disk.keyring.save(ROOT_KEY, ROOT.seed)
        trust = Trust(OPERATOR, FORMATION, self.home.roster, self.home.replica, keyring=self.home.disk.keyring, clock=self.clock)
        self.trust = trust
        self.home.takes(operator_grant())
        self.invitations = Invitations(
            trust, self.home.replica, store=self.home.store, clock=self.clock, random=SimRandom("x"), addresses=lambda: addresses
        )

    def ticket(self, role: Role = Role.MEMBER, *, uses: int = 1, ttl_s: float = 3600.0) -> Ticket:
        return parse_ticket(self.invitations.invite(InviteRequest(role.value, uses, ttl_s)).ticket)

    def joins(self, who: KeyPair, ticket: Ticket, *, client: bool = False) -> bytes:
        return self.invitations.join(JoinRequest(ticket.secret, "n", client), joiner=who.public).grant

    def refuses(self, who: KeyPair, ticket: Ticket, *, client: bool = False) -> str:
        with pytest.raises(SkerryError) as caught:
            self.joins(who, ticket, client=client)
        assert caught.value.hint
        return caught.value.code


@simulated
async def test_a_ticket_says_where_to_and_its_reply_says_how_long() -> None:
    inviter = Inviter()
    reply = inviter.invitations.invite(InviteRequest())
    ticket = parse_ticket(reply.ticket)
    assert (ticket.formation, ticket.inviter, ticket.addresses) == (FORMATION, OPERATOR.public, ADDRESSES)
    assert (reply.role, reply.uses, reply.expires_at) == ("member", 1, NOW_MS + LIFETIME_MS)
    held = dict(inviter.home.store.facts(INVITATIONS))
    assert len(held) == 1
    assert ticket.secret not in b"".join(held.values()), "the secret is kept as a hash alone"


@pytest.mark.parametrize("role", Role)
@simulated
async def test_a_join_gives_the_role_that_was_offered(role: Role) -> None:
    inviter = Inviter()
    grant = read_grant(parse(inviter.joins(MEMBER, inviter.ticket(role), client=role is Role.CLIENT)))
    assert (grant.subject, grant.role) == (MEMBER.public, role)
    assert inviter.trust.standing(MEMBER.public).state is State.VALID


@simulated
async def test_a_join_that_is_repeated_gets_the_same_grant_and_costs_no_use() -> None:
    inviter = Inviter()
    ticket = inviter.ticket()
    first = inviter.joins(MEMBER, ticket)
    assert inviter.joins(MEMBER, ticket) == first
    assert inviter.refuses(STRANGER, ticket) == Code.TICKET_SPENT
    again = Inviter(home=Home(disk=inviter.home.disk))
    assert again.joins(MEMBER, ticket) == first, "also after the inviter's crash: the use was on the disk before the grant left"
    assert again.refuses(STRANGER, ticket) == Code.TICKET_SPENT


@simulated
async def test_another_ticket_gives_another_grant_for_it_may_have_left_unheard() -> None:
    inviter = Inviter()
    first = parse(inviter.joins(MEMBER, inviter.ticket()))
    again = parse(inviter.joins(MEMBER, inviter.ticket()))
    departure = depart(
        MEMBER, formation=FORMATION, subject=MEMBER.public, stamp=first.stamp, grants_until_ms=NOW_MS + LIFETIME_MS, reason=""
    )
    inviter.home.takes(departure)
    assert again.stamp > first.stamp
    assert inviter.trust.standing(MEMBER.public).state is State.VALID, "it left before it joined again"


@simulated
async def test_many_uses_are_counted_by_node() -> None:
    inviter = Inviter()
    ticket = inviter.ticket(uses=2)
    for who in (MEMBER, CLIENT, MEMBER, CLIENT):
        inviter.joins(who, ticket)
    assert inviter.refuses(STRANGER, ticket) == Code.TICKET_SPENT


@simulated
async def test_each_reason_to_refuse() -> None:
    inviter = Inviter()
    ticket = inviter.ticket()
    assert inviter.refuses(MEMBER, Ticket(FORMATION, OPERATOR.public, ADDRESSES, b"?" * 16)) == Code.TICKET_UNKNOWN
    assert inviter.refuses(MEMBER, ticket, client=True) == Code.BAD_TICKET
    assert inviter.refuses(MEMBER, inviter.ticket(Role.CLIENT)) == Code.BAD_TICKET
    inviter.clock.step(LIFETIME_MS + 1)
    assert inviter.refuses(MEMBER, ticket) == Code.TICKET_EXPIRED
    other = inviter.ticket()
    inviter.joins(MEMBER, other)
    inviter.trust.revoke(MEMBER.public, "lost")
    assert inviter.refuses(MEMBER, inviter.ticket()) == Code.REVOKED
    assert inviter.refuses(MEMBER, other) == Code.REVOKED
    inviter.invitations.void_all()
    assert inviter.refuses(CLIENT, other) == Code.TICKET_UNKNOWN


@pytest.mark.parametrize(
    "request_",
    [
        InviteRequest(role="king"),
        InviteRequest(role=""),
        InviteRequest(uses=0),
        InviteRequest(uses=-1),
        InviteRequest(uses=10**9),
        InviteRequest(ttl_s=0),
        InviteRequest(ttl_s=-5),
        InviteRequest(ttl_s=1e12),
        InviteRequest(ttl_s=float("nan")),
        InviteRequest(ttl_s=float("inf")),
    ],
)
@simulated
async def test_what_is_no_ticket_is_not_made(request_: InviteRequest) -> None:
    inviter = Inviter()
    with pytest.raises(UsageError) as caught:
        inviter.invitations.invite(request_)
    assert caught.value.hint
    assert inviter.home.store.facts(INVITATIONS) == []


@simulated
async def test_every_ticket_that_is_made_can_be_read() -> None:
    many = tuple(f"tcp://{number}.example:7420" for number in range(ADDRESSES_MAX + 5))
    assert Inviter(addresses=many).ticket().addresses == many[:ADDRESSES_MAX]
    long = "tcp://" + "x" * ADDRESS_CHARACTERS_MAX + ":1"
    assert Inviter(addresses=(long, *ADDRESSES)).ticket().addresses == ADDRESSES
    with pytest.raises(Refused, match="listens nowhere"):
        Inviter(addresses=()).ticket()


@simulated
async def test_tickets_are_bounded_and_old_ones_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_MAX", 3)
    monkeypatch.setattr(module, "SWEEP_EVERY", 1)
    inviter = Inviter()
    for _ in range(3):
        inviter.ticket()
    with pytest.raises(Refused) as caught:
        inviter.ticket()
    assert caught.value.code == Code.BUSY
    inviter.clock.step(32 * 24 * LIFETIME_MS)
    with pytest.raises(Refused):
        inviter.ticket()  # those that are over are dropped here
    inviter.ticket()
    assert len(inviter.home.store.facts(INVITATIONS)) == 1
