"""A small formation with fixed keys, for tests of everything that trust decides. Nothing in it is random: vectors are made of it too."""

from __future__ import annotations

from skerry.identity.grants import Grant, Role, issue, read_grant, revoke
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement

NOW_MS = 1_750_000_000_000
DAY_MS = 24 * 3600 * 1000


def key(number: int) -> KeyPair:
    """A key like no other, the same in every run."""
    return KeyPair.from_seed(number.to_bytes(2, "big") * 16)


ROOT = key(0x0101)
OPERATOR = key(0x0202)
OTHER_OPERATOR = key(0x0303)
MEMBER = key(0x0404)
CLIENT = key(0x0505)
STRANGER = key(0x0606)
FORMATION = ROOT.public


def operator_grant(subject: KeyPair = OPERATOR, *, at_ms: int = NOW_MS, lifetime_ms: int | None = None) -> Statement:
    return issue(ROOT, formation=FORMATION, subject=subject.public, role=Role.OPERATOR, stamp=stamp_at(at_ms), lifetime_ms=lifetime_ms)


def member_grant(
    subject: KeyPair = MEMBER,
    *,
    by: KeyPair = OPERATOR,
    role: Role = Role.MEMBER,
    at_ms: int = NOW_MS,
    lifetime_ms: int | None = None,
    chain: Grant | None = None,
) -> Statement:
    above = chain if chain is not None else read_grant(operator_grant(by, at_ms=min(at_ms, NOW_MS)))
    return issue(by, formation=FORMATION, subject=subject.public, role=role, stamp=stamp_at(at_ms), lifetime_ms=lifetime_ms, chain=above)


def revocation(subject: KeyPair, *, by: KeyPair = ROOT, at_ms: int = NOW_MS, reason: str = "lost") -> Statement:
    return revoke(by, formation=FORMATION, subject=subject.public, stamp=stamp_at(at_ms), reason=reason)
