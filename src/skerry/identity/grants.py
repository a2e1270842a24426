"""Who belongs to a formation, and as what: root -> operator -> member chains, revocations, departures, the verdict.

The root key signs operators, operators sign members and clients with their own node keys. A grant is a statement of kind `grant`
whose body is `{subject, role, chain}`: a member's chain holds the grant of the operator who signed it, an operator's is empty. So a
grant proves itself to anyone who knows the formation's id, and nobody needs to be asked.

A departure ends the grants that a node had until then and leaves its key alone: the node itself says so when it leaves, or an operator
of a node that is gone. A newer grant makes it a member again.

The rule: a right comes from a chain that ends in the root key and from nothing else; a revocation of a node key is final and beats
every grant whatever its stamp. `now` is a parameter; the order in which all of this was learned changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TypeVar

from blake3 import blake3

from skerry.errors import Code, ProtocolError
from skerry.identity.keys import KEY_BYTES, KeyPair, short
from skerry.identity.stamps import stamp_ms
from skerry.identity.statement import Statement, parse, state

DAY_MS = 24 * 60 * 60 * 1000
OPERATOR_MS = 365 * DAY_MS
MEMBER_MS = 30 * DAY_MS
LAPSED_MS = 90 * DAY_MS  # how long a lapsed grant still serves inside the formation, and for its own renewal
WARNING_MS = 7 * DAY_MS  # from when on people are told that a grant is about to lapse
TOLERANCE_MS = 5 * 60 * 1000  # of two clocks
NEVER_MS = 2**53
REASON_CHARACTERS_MAX = 200
OPERATORS_REMEMBERED_MAX = 64  # whose chains were verified: as a rule 30 KiB, at most 4 MiB


class Role(StrEnum):
    OPERATOR = "operator"
    MEMBER = "member"
    CLIENT = "client"


class State(StrEnum):
    """How a node stands. VALID and LAPSED may call inside the formation; only VALID may do what an operator does."""

    VALID = "valid"
    LAPSED = "lapsed"
    EXPIRED = "expired"
    DEPARTED = "departed"
    REVOKED = "revoked"
    CLOCK_OFF = "clock_off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant whose signatures and chain hold; whether it holds *now* is the roster's to say."""

    subject: bytes
    role: Role
    issuer: bytes
    formation: bytes
    issued_ms: int
    expires_ms: int
    issuer_grant: Grant | None
    statement: Statement


@dataclass(frozen=True, slots=True)
class Revocation:
    """`subject` is out, for ever, said by the root key or by an operator."""

    subject: bytes
    issuer: bytes
    time_ms: int
    reason: str
    statement: Statement


@dataclass(frozen=True, slots=True)
class Departure:
    """The grants of `subject` up to `stamp` are over, said by itself, by an operator, or by the root key."""

    subject: bytes
    issuer: bytes
    stamp: int
    reason: str
    statement: Statement

    @property
    def own(self) -> bool:
        return self.issuer == self.subject


Said = TypeVar("Said", Grant, Revocation, Departure)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node is in its formation, and why."""

    state: State
    role: Role | None = None
    expires_ms: int = 0
    grant: Grant | None = None
    reason: str = ""

    @property
    def belongs(self) -> bool:
        return self.state in (State.VALID, State.LAPSED)


def issue(
    key: KeyPair, *, formation: bytes, subject: bytes, role: Role, stamp: int, lifetime_ms: int | None = None, chain: Grant | None = None
) -> Statement:
    """Sign a grant. `chain` is the issuer's own grant, None where `key` is the root key."""
    lifetime = lifetime_ms if lifetime_ms is not None else (OPERATOR_MS if role is Role.OPERATOR else MEMBER_MS)
    return state(
        key,
        kind="grant",
        name=subject.hex(),
        formation=formation,
        audience="formation",
        stamp=stamp,
        expires=stamp_ms(stamp) + lifetime,
        body={"subject": subject, "role": role.value, "chain": [chain.statement.signed] if chain else []},
    )


def revoke(key: KeyPair, *, formation: bytes, subject: bytes, stamp: int, reason: str) -> Statement:
    return state(
        key,
        kind="revocation",
        name=subject.hex(),
        formation=formation,
        audience="formation",
        stamp=stamp,
        expires=NEVER_MS,
        body={"subject": subject, "time": stamp_ms(stamp), "reason": reason[:REASON_CHARACTERS_MAX]},
    )


def depart(key: KeyPair, *, formation: bytes, subject: bytes, stamp: int, grants_until_ms: int, reason: str) -> Statement:
    """Sign a departure. `grants_until_ms` is when the last grant of `subject` expires: it is held until none of them could serve."""
    return state(
        key,
        kind="departure",
        name=subject.hex(),
        formation=formation,
        audience="formation",
        stamp=stamp,
        expires=max(grants_until_ms, stamp_ms(stamp)) + LAPSED_MS + DAY_MS,
        body={"subject": subject, "reason": reason[:REASON_CHARACTERS_MAX]},
    )


def read_grant(statement: Statement) -> Grant:
    """The grant in a verified statement, its chain verified too. Raises ProtocolError where a link does not hold."""
    subject, role = _subject(statement), statement.body.get("role")
    chain = statement.body.get("chain")
    if statement.kind != "grant" or set(statement.body) != {"subject", "role", "chain"}:
        raise ProtocolError("a grant has exactly a subject, a role and a chain")
    if role not in tuple(Role):
        raise ProtocolError(f"the role {role!r} is none of {', '.join(Role)}")
    if not isinstance(chain, list) or len(chain) > 1 or not all(isinstance(link, bytes) for link in chain):
        raise ProtocolError("a grant's chain has at most one link above it")
    issuer, formation = statement.author, statement.formation
    by_root = issuer == formation
    if by_root != (not chain) or (role == Role.OPERATOR) != by_root:
        raise ProtocolError("the root key grants operators, operators grant members and clients, and nobody else grants")
    issuer_grant = _read_link(statement, chain[0]) if chain else None
    return Grant(subject, Role(role), issuer, formation, stamp_ms(statement.stamp), statement.expires, issuer_grant, statement)


def read_revocation(statement: Statement) -> Revocation:
    body = statement.body
    if statement.kind != "revocation" or set(body) != {"subject", "time", "reason"}:
        raise ProtocolError("a revocation has exactly a subject, a time and a reason")
    if not isinstance(body["time"], int) or not isinstance(body["reason"], str) or len(body["reason"]) > REASON_CHARACTERS_MAX:
        raise ProtocolError(f"a revocation's time is Unix milliseconds, its reason up to {REASON_CHARACTERS_MAX} characters")
    return Revocation(_subject(statement), statement.author, stamp_ms(statement.stamp), body["reason"], statement)


def read_departure(statement: Statement) -> Departure:
    body = statement.body
    if statement.kind != "departure" or set(body) != {"subject", "reason"}:
        raise ProtocolError("a departure has exactly a subject and a reason")
    if not isinstance(body["reason"], str) or len(body["reason"]) > REASON_CHARACTERS_MAX:
        raise ProtocolError(f"a departure's reason has up to {REASON_CHARACTERS_MAX} characters")
    return Departure(_subject(statement), statement.author, statement.stamp, body["reason"], statement)


def _subject(statement: Statement) -> bytes:
    subject = statement.body.get("subject")
    if not isinstance(subject, bytes) or len(subject) != KEY_BYTES or subject.hex() != statement.name:
        raise ProtocolError(f"a {statement.kind} must name its subject's key, and bear it as its name")
    return subject


@lru_cache(maxsize=OPERATORS_REMEMBERED_MAX)
def _read_root_grant(link: bytes) -> Grant:
    """What the root key signed, verified once: a chain of these very bytes comes with each grant that the operator signed."""
    above = parse(link)
    if above.author != above.formation:  # before it is read: links above it are never followed
        raise ProtocolError("the chain of a grant does not lead from its author to the root key")
    return read_grant(above)


def _read_link(statement: Statement, link: bytes) -> Grant:
    issuer = _read_root_grant(link)
    if issuer.formation != statement.formation or issuer.subject != statement.author or issuer.role is not Role.OPERATOR:
        raise ProtocolError("the chain of a grant does not lead from its author to the root key")
    if not issuer.issued_ms - TOLERANCE_MS <= stamp_ms(statement.stamp) <= issuer.expires_ms + TOLERANCE_MS:
        raise ProtocolError("a grant was signed by an operator whose own grant did not hold at that time")
    return issuer


class Roster:
    """All grants, revocations and departures of one formation that a node knows, and the verdict that follows from them.

    A node asked twice about the same facts gets the same answer, in whatever order the facts came.
    """

    def __init__(self, formation: bytes) -> None:
        self.formation = formation
        self._grants: dict[bytes, dict[bytes, Grant]] = {}  # subject -> issuer -> newest grant
        self._revocations: dict[bytes, dict[bytes, Revocation]] = {}  # subject -> issuer -> revocation
        self._departures: dict[bytes, dict[bytes, Departure]] = {}  # subject -> issuer -> newest departure
        self.version = 0  # rises with all that may change the verdict on anybody
        self._own_versions: Counter[bytes] = Counter()  # subject -> how often an operator's grant changed its own alone

    def check(self, statement: Statement) -> None:
        """Raises what `learn` would raise, and learns nothing."""
        if statement.formation != self.formation:
            raise ProtocolError(f"a {statement.kind} of another formation ({short(statement.formation)})", code=Code.NOT_GRANTED)
        read = {"revocation": read_revocation, "departure": read_departure}.get(statement.kind, read_grant)
        read(statement)

    def learn(self, statement: Statement) -> None:
        """Take in a verified grant, revocation or departure. Raises ProtocolError where it is malformed or of another formation."""
        if statement.formation != self.formation:
            raise ProtocolError(f"a {statement.kind} of another formation ({short(statement.formation)})", code=Code.NOT_GRANTED)
        if statement.kind == "revocation":
            self.version += _put(self._revocations, read_revocation(statement))
        elif statement.kind == "departure":
            self.version += _put(self._departures, read_departure(statement))
        else:
            grant = read_grant(statement)
            is_new = _put(self._grants, grant)
            if grant.issuer_grant is None:
                self.version += is_new  # who is an operator decides what others' words count for
            else:
                self._own_versions[grant.subject] += is_new
                self.learn(grant.issuer_grant.statement)

    def version_of(self, subject: bytes) -> tuple[int, int]:
        """Where it is what it was, the verdict on `subject` differs by time alone."""
        return self.version, self._own_versions[subject]

    def forget(self) -> None:
        """Begin anew: something that was learned is not to be believed, and the rest is learned again."""
        for known in (self._grants, self._revocations, self._departures):
            known.clear()
        self.version += 1

    def knows(self, subject: bytes) -> bool:
        """Whether a grant for `subject` was ever seen, in force or not."""
        return subject in self._grants

    def was_operator(self, subject: bytes) -> bool:
        """Whether the root key ever made that node an operator."""
        return self._was_operator(subject, None)

    def was_operator_at(self, node: bytes, stamp: int) -> bool:
        """Whether what `node` signed with that stamp was an operator's word, and still counts: a revocation voids all that it ever said."""
        grant = self._grants.get(node, {}).get(self.formation)
        if grant is None or grant.role is not Role.OPERATOR or self.revocation_of(node) is not None:
            return False
        return stamp_ms(stamp) <= grant.expires_ms + TOLERANCE_MS and not self._left_before(grant, stamp)

    def granted_until(self, subject: bytes) -> int:
        """When the last grant of a node expires, as far as we know (Unix ms)."""
        return max((grant.expires_ms for grant in self._grants.get(subject, {}).values()), default=0)

    def last_role(self, subject: bytes) -> Role | None:
        """The role that a node was last granted, in force or not."""
        grants = sorted(self._grants.get(subject, {}).values(), key=lambda grant: (grant.statement.stamp, grant.statement.hash))
        return grants[-1].role if grants else None

    def grants_of(self, subject: bytes) -> list[Grant]:
        """The newest grant of each issuer for a node, in force or not."""
        return [grant for _, grant in sorted(self._grants.get(subject, {}).items())]

    def subjects(self) -> list[bytes]:
        """Every node that ever had a grant, in the order of ids."""
        return sorted(self._grants)

    def revocations(self) -> list[Revocation]:
        """Those that count, in the order of their subjects."""
        found = (self.revocation_of(subject) for subject in sorted(self._revocations))
        return [revocation for revocation in found if revocation is not None]

    def granted_by(self, issuer: bytes) -> list[Grant]:
        """What an issuer signed, newest per subject; shown before the issuer is revoked."""
        return [held[issuer] for _, held in sorted(self._grants.items()) if issuer in held]

    def revocation_of(self, subject: bytes) -> Revocation | None:
        """The revocation that ends `subject`, if one counts: the root's, or an operator's for a member or client."""
        for issuer, revocation in sorted(self._revocations.get(subject, {}).items()):
            if issuer == self.formation:
                return revocation
            if self._was_operator(issuer, revocation.time_ms) and not self._was_operator(subject, None):
                return revocation
        return None

    def departure_of(self, subject: bytes) -> Departure | None:
        """The newest departure of `subject` that counts: its own, the root's, or an operator's for a member or client."""
        counting = [departure for _, departure in sorted(self._departures.get(subject, {}).items()) if self._may_end(departure)]
        return max(counting, key=lambda departure: (departure.stamp, departure.statement.hash), default=None)

    def _may_end(self, departure: Departure) -> bool:
        if departure.own or departure.issuer == self.formation:
            return True
        return self._was_operator(departure.issuer, stamp_ms(departure.stamp)) and not self._was_operator(departure.subject, None)

    def standing(self, subject: bytes, *, now_ms: int) -> Standing:
        """What `subject` is now."""
        revocation = self.revocation_of(subject)
        if revocation is not None:
            return Standing(State.REVOKED, reason=revocation.reason or "revoked")
        verdicts = [self._judge(grant, now_ms) for grant in self._grants.get(subject, {}).values()]
        return max(verdicts, key=_rank, default=Standing(State.UNKNOWN, reason="no grant of this formation is known for this node"))

    def _judge(self, grant: Grant, now_ms: int) -> Standing:
        def verdict(state: State, reason: str = "") -> Standing:
            return Standing(state, grant.role, grant.expires_ms, grant, reason)

        if grant.issuer_grant is not None and self.revocation_of(grant.issuer) is not None:
            return verdict(State.REVOKED, f"the operator {short(grant.issuer)} that signed its grant was revoked")
        departure = self.departure_of(grant.subject)
        if departure is not None and grant.statement.stamp <= departure.stamp:
            who = "it left the formation" if departure.own else "an operator ended its membership"
            return verdict(State.DEPARTED, who + (f": {departure.reason}" if departure.reason else ""))
        if grant.issuer_grant is not None and self._left_before(grant.issuer_grant, grant.statement.stamp):
            return verdict(State.DEPARTED, f"the operator {short(grant.issuer)} signed its grant after it had left the formation")
        if grant.issued_ms > now_ms + TOLERANCE_MS:
            return verdict(State.CLOCK_OFF, "the grant is of the future: a clock is off by more than 5 minutes")
        if now_ms <= grant.expires_ms + TOLERANCE_MS:
            return verdict(State.VALID)
        if now_ms <= grant.expires_ms + LAPSED_MS:
            return verdict(State.LAPSED, "the grant lapsed and waits for its renewal")
        return verdict(State.EXPIRED, "the grant lapsed more than 90 days ago")

    def _left_before(self, issuer: Grant, stamp: int) -> bool:
        """Whether an operator had left, and with it the grant by which it signs, when it signed something."""
        departure = self.departure_of(issuer.subject)
        return departure is not None and issuer.statement.stamp <= departure.stamp < stamp

    def _was_operator(self, node: bytes, at_ms: int | None) -> bool:
        """Whether the root key made `node` an operator, and it was one until `at_ms`, where given.

        When it began does not count: only its newest grant is known, and a renewal must not undo what it revoked before.
        """
        grant = self._grants.get(node, {}).get(self.formation)
        if grant is None or grant.role is not Role.OPERATOR:
            return False
        if at_ms is None:
            return True
        revoked = self._revocations.get(node, {}).get(self.formation)
        return at_ms <= grant.expires_ms + TOLERANCE_MS and (revoked is None or at_ms <= revoked.time_ms)


def _put(table: dict[bytes, dict[bytes, Said]], said: Said) -> bool:
    """Keep what an issuer said of a subject, where it is newer than what it said before. Whether it is."""
    held = table.setdefault(said.subject, {})
    known = held.get(said.issuer)
    is_newer = known is None or (said.statement.stamp, said.statement.hash) > (known.statement.stamp, known.statement.hash)
    if is_newer:
        held[said.issuer] = said
    return is_newer


_BEST_LAST = (State.UNKNOWN, State.REVOKED, State.EXPIRED, State.DEPARTED, State.CLOCK_OFF, State.LAPSED, State.VALID)
_STATES = {state: rank for rank, state in enumerate(_BEST_LAST)}
_ROLES = {None: 0, Role.CLIENT: 1, Role.MEMBER: 2, Role.OPERATOR: 3}


def _rank(standing: Standing) -> tuple[int, int, int, bytes]:
    """Best first: state, then role, then the longest; the hash only so that everyone picks the same."""
    digest = standing.grant.statement.hash if standing.grant else b""
    return (_STATES[standing.state], _ROLES[standing.role], standing.expires_ms, digest)


def digest_of_revocations(revocations: Iterable[Revocation]) -> bytes:
    """32 bytes for a set of revocations, so that two nodes see at once whether they know the same."""
    return blake3(b"".join(sorted(revocation.statement.hash for revocation in revocations))).digest()
