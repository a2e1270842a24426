"""Tickets, at the inviter's: made, remembered by their hash, redeemed.

The rule: a use is noted on the disk before the grant leaves, and a join repeated by the same node is the same join.
"""

from __future__ import annotations

from collections.abc import Callable

from skerry.errors import Code, Refused, SkerryError, UsageError
from skerry.identity.grants import Role, State
from skerry.identity.ticket import (
    ADDRESS_CHARACTERS_MAX,
    ADDRESSES_MAX,
    LIFETIME_MS_MAX,
    SECRET_BYTES,
    USES_MAX,
    Invitation,
    Ticket,
    hash_secret,
    redeem,
)
from skerry.node.trust import Trust
from skerry.node.verbs import InviteReply, InviteRequest, JoinReply, JoinRequest
from skerry.ports import Clock, Random, Store
from skerry.records.replica import Replica

INVITATIONS = "invitation"  # the space of facts
OPEN_MAX = 10_000  # tickets that may still be used
OPERATORS_SHOWN = 20  # to a newcomer, which asks for the others by itself
NODES_SHOWN = 16  # one of them will be up
NODES_BYTES_MAX = 32 * 1024  # of their records: the reply is one frame
SEEDS_MAX = 4  # nodes that one was told of when it joined: its inviter first, then that one's inviter, and so on
SWEEP_EVERY = 100  # tickets made between two looks for those that are over


class Invitations:
    """The tickets of one node."""

    def __init__(
        self,
        trust: Trust,
        replica: Replica,
        *,
        store: Store,
        clock: Clock,
        random: Random,
        addresses: Callable[[], tuple[str, ...]],
        seeds: dict[bytes, tuple[str, ...]] | None = None,
    ) -> None:
        """`seeds`: nodes and addresses that this one was told of when it joined."""
        self._trust = trust
        self._replica = replica
        self._store = store
        self._clock = clock
        self._random = random
        self._addresses = addresses
        self._seeds = seeds or {}
        self._made = 0

    def invite(self, request: InviteRequest) -> InviteReply:
        """A new ticket. Raises UsageError or Refused with the reason."""
        if request.role not in tuple(Role):
            raise UsageError(f"the role {request.role!r} can't be invited", hint=f"use {', '.join(Role)}")
        role = Role(request.role)
        if not 1 <= request.uses <= USES_MAX:
            raise UsageError(f"a ticket for {request.uses} uses can't be made", hint=f"choose 1 to {USES_MAX} with --uses")
        if not 1 <= request.ttl_s <= LIFETIME_MS_MAX / 1000:
            raise UsageError(f"a ticket can't live for {request.ttl_s:.0f} seconds", hint="choose from 1s to 366d with --ttl")
        addresses = tuple(address for address in self._addresses() if len(address) <= ADDRESS_CHARACTERS_MAX)[:ADDRESSES_MAX]
        if not addresses:
            raise Refused(
                "this node listens nowhere, so nobody could join at it", code=Code.CONFLICT, hint="start it with --listen HOST:PORT"
            )
        self._trust.check_may_grant(role)
        if self._made % SWEEP_EVERY == 0:
            self._drop_dead()
        self._made += 1
        secret = self._random.token(SECRET_BYTES)
        expires_ms = self._clock.now_ms() + int(request.ttl_s * 1000)
        invitation = Invitation(hash_secret(secret), role, request.uses, expires_ms)
        self._save(invitation)
        ticket = Ticket(self._trust.formation, self._trust.key.public, addresses, secret)
        return InviteReply(str(ticket), role.value, request.uses, expires_ms)

    def join(self, request: JoinRequest, *, joiner: bytes) -> JoinReply:
        """A ticket is shown. Raises the reason where it does not hold."""
        held = self._store.fact(INVITATIONS, hash_secret(request.secret).hex())
        invitation = Invitation.from_bytes(held) if held is not None else None
        if invitation is not None and (invitation.role is Role.CLIENT) != request.client:
            raise Refused(
                "this ticket is for a client, not for a node" if not request.client else "this ticket is for a node, not for a client",
                code=Code.BAD_TICKET,
                hint="a client's: skerry.connect(ticket=...) or SKERRY_TICKET; a node's: skerry join TICKET",
            )
        now_ms = self._clock.now_ms()
        departure = self._trust.roster.departure_of(joiner)
        departed = departure.stamp if departure is not None else 0
        outcome = redeem(invitation, joiner, now_ms=now_ms, stamp=self._replica.next_stamp(now_ms=now_ms), departed=departed)
        if isinstance(outcome, SkerryError):
            raise Refused(outcome.message, code=outcome.code, hint=outcome.hint)
        if self._trust.roster.revocation_of(joiner) is not None:
            raise Refused("this node's key was revoked, which is final", code=Code.REVOKED, hint="join with a new home")
        standing = self._trust.standing(joiner)
        grant = standing.grant
        is_repeated = outcome == invitation  # else it may have left since, and we have not heard of that: its old grant ends with that
        if not is_repeated or standing.state is not State.VALID or standing.role is not outcome.role or grant is None:
            self._save(outcome)
            grant = self._trust.grant(joiner, outcome.role)
        return JoinReply(grant.statement.signed, self._introduction(), self._seeds_shown())

    def void_all(self) -> int:
        """No ticket that is out may be used any more; returns how many could have been."""
        held = self._store.facts(INVITATIONS)
        for key, _ in held:
            self._store.set_fact(INVITATIONS, key, None)
        self._store.commit()
        return len(held)

    def _introduction(self) -> list[bytes]:
        """What a newcomer needs to go on, also where we are gone a moment later: operators' grants, where we are, and some others."""
        now_ms = self._clock.now_ms()
        grants = [s.signed for s in self._replica.living("grant", now_ms=now_ms, author=self._trust.formation)]
        nodes = [s for s in self._replica.living("node", now_ms=now_ms) if self._trust.standing(s.author).belongs]
        nodes.sort(key=lambda s: (s.author != self._trust.key.public, self._trust.standing(s.author).role is not Role.OPERATOR, s.author))
        shown, size = grants[:OPERATORS_SHOWN], 0
        for statement in nodes[:NODES_SHOWN]:
            size += len(statement.signed)
            if size <= NODES_BYTES_MAX:
                shown.append(statement.signed)
        return shown

    def _seeds_shown(self) -> dict[str, list[str]]:
        """Where we have been let in ourselves: it may be that we have heard of nobody since, and leave."""
        known = [node for node in self._seeds if self._trust.standing(node).state not in (State.REVOKED, State.DEPARTED)]
        return {node.hex(): list(self._seeds[node][:ADDRESSES_MAX]) for node in known[: SEEDS_MAX - 1]}

    def _save(self, invitation: Invitation) -> None:
        self._store.set_fact(INVITATIONS, invitation.secret_hash.hex(), invitation.to_bytes(), durable=True)

    def _drop_dead(self) -> None:
        """Forget tickets a month after their end; until then a repeated join may still ask."""
        held = self._store.facts(INVITATIONS)
        kept_ms = 30 * 24 * 3600 * 1000
        for key, data in held:
            if Invitation.from_bytes(data).expires_ms + kept_ms < self._clock.now_ms():
                self._store.set_fact(INVITATIONS, key, None)
        if len(held) >= OPEN_MAX:
            raise Refused(f"{OPEN_MAX} tickets are out already", code=Code.BUSY, hint="use one ticket with more --uses")
