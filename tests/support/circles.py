"""Circles of the small formation, and announcements of them as they travel."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skerry.identity.grants import Role, issue
from skerry.identity.keys import KeyPair, agent_id
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Audience, state
from skerry.routing.announcement import CircleAnnouncement, PublishedCircle, Speaker
from skerry.routing.circle import CIRCLE_KIND, TTL_MS, AgentCircle, AgentProfile, CallableBy, Charter, circle_id
from tests.support.formation import FORMATION, NOW_MS, OPERATOR, key, operator_grant

NONCE = b"n" * 16
HOST = str(ipaddress.IPv4Address(0xC6290004))  # public, written as a number: an announcement may name it, and no test dials it
PLACE = f"tcp://{HOST}:7420"


def profile(number: int = 0x0707, *capabilities: str, **more: Any) -> AgentProfile:
    public = key(number).public
    return AgentProfile(agent_id(public), public, OPERATOR.public, capabilities=capabilities or ("inference:llama-7b",), **more)


def circle(*members: AgentProfile, name: str = "Test Circle", nonce: bytes = NONCE, epoch: int = 1, **charter: Any) -> AgentCircle:
    wanted: dict[str, Any] = {"callable_by": CallableBy.ANYONE, "public": True, "open_membership": True} | charter
    said = Charter(name, nonce, **wanted)
    return AgentCircle(circle_id(FORMATION, OPERATOR.public, nonce), FORMATION, OPERATOR.public, said, members or (profile(),), epoch)


def of_formation(number: int, *capabilities: str, nonce: bytes = NONCE, now_ms: int = NOW_MS) -> PublishedCircle:
    """A circle of one of many formations: anybody makes as many as he likes."""
    root, node = key(0x1000 + number), key(0x2000 + number)
    grant = issue(root, formation=root.public, subject=node.public, role=Role.OPERATOR, stamp=stamp_at(NOW_MS), lifetime_ms=None)
    one = circle(profile(0x3000 + number, *capabilities), nonce=nonce)
    theirs = replace(one, id=circle_id(root.public, node.public, nonce), formation=root.public, founder=node.public)
    return announced(theirs, by=node, grants=[grant.signed], now_ms=now_ms)


def announced(
    one: AgentCircle,
    *,
    now_ms: int = NOW_MS,
    by: KeyPair = OPERATOR,
    addresses: Sequence[str] = (PLACE,),
    audience: Audience = "public",
    grants: Sequence[bytes] | None = None,
    **changed: Any,
) -> PublishedCircle:
    """Signed by a node; `changed`: fields that say something else than the circle does."""
    said = CircleAnnouncement.from_circle(one, speakers=[Speaker(by.public, tuple(addresses))], author=by.public, now_ms=now_ms)
    statement = state(
        by,
        kind=CIRCLE_KIND,
        name=one.id.hex(),
        formation=one.formation,
        audience=audience,
        stamp=stamp_at(now_ms),
        expires=now_ms + TTL_MS,
        body=replace(said, **changed).body(),
    )
    shown = tuple(grants) if grants is not None else (operator_grant().signed,)
    return PublishedCircle(replace(said, **changed, signed=statement.signed), shown)
