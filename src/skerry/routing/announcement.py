"""What is announced of a circle, and what of another formation's word about one is believed.

An announcement is a record of kind `circle`: its author's signature covers every field that decides whether and how the circle is called.
Across formations it travels with the grants of its author, so that whoever hears it can judge the author by the formation's root key,
from which the circle's id follows. Nothing is believed of an announcement that is forged, stale, huge, or that names no address which may
be dialled for a stranger.

The rule: an announcement is verified when it comes, and judged by the clock whenever it is used. Times are Unix ms.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from skerry.agents.capability import check_capability, matches
from skerry.channel.address import parse_address
from skerry.channel.reachable import IPNetwork, check_port, why_not
from skerry.errors import Code, ProtocolError, SkerryError, UsageError
from skerry.identity.codec import encode, unpack
from skerry.identity.grants import Role, Roster, State
from skerry.identity.keys import KEY_BYTES
from skerry.identity.sealed import read
from skerry.identity.stamps import stamp_ms, too_far_ahead
from skerry.identity.statement import Statement, parse
from skerry.records.record import Refusal, Rejection, expired
from skerry.routing.circle import (
    CIRCLE_KIND,
    DESCRIPTION_CHARACTERS_MAX,
    EPOCH_MAX,
    MEMBERS_MAX,
    NONCE_BYTES,
    TTL_MS,
    AgentCircle,
    CallableBy,
    announcement_key,
    capability_key,
    check_id,
    read_bytes,
    read_callable_by,
    read_flag,
    read_name,
    read_number,
    read_text,
    read_texts,
    wrong,
)

CAPABILITIES_MAX = 64  # of one circle; more is a directory
SPEAKERS_MAX = 8  # nodes named in an announcement: a caller tries a few
ADDRESSES_MAX = 4  # of one of them
ADDRESS_CHARACTERS_MAX = 300
ANNOUNCEMENT_BYTES_MAX = 24 * 1024  # 64 capabilities of 200 characters and 8 speakers with 4 addresses each
GRANTS_MAX = 4  # that may come along: the author's, and what ends it
PUBLISHED_BYTES_MAX = ANNOUNCEMENT_BYTES_MAX + GRANTS_MAX * 8 * 1024


@dataclass(frozen=True, slots=True)
class Speaker:
    """A node that speaks for a circle: its addresses, and the key under which it tells a DHT where it is (empty where it does not)."""

    node: bytes
    addresses: tuple[str, ...]
    dht_key: bytes = b""


@dataclass(frozen=True, slots=True)
class CircleAnnouncement:
    """The seed's fields, and what decides whether and how the circle is called. `signature` covers all of it, as `signed` has it."""

    circle_id: bytes
    name: str
    description: str
    capabilities: tuple[str, ...]
    member_count: int
    available_count: int
    open_membership: bool
    timestamp: int
    formation: bytes
    founder: bytes
    nonce: bytes
    epoch: int
    roll: bytes
    callable_by: CallableBy
    speakers: tuple[Speaker, ...]
    author: bytes
    expires: int
    idempotent: tuple[str, ...] = ()
    signature: bytes = b""
    signed: bytes = field(default=b"", repr=False)

    @classmethod
    def from_circle(cls, circle: AgentCircle, *, speakers: Iterable[Speaker], author: bytes, now_ms: int) -> CircleAnnouncement:
        """What `author` says of a circle now; not signed yet."""
        return cls(
            circle_id=circle.id,
            name=circle.name,
            description=circle.charter.description,
            capabilities=circle.capabilities[:CAPABILITIES_MAX],
            member_count=len(circle.members),
            available_count=circle.available_count,
            open_membership=circle.charter.open_membership,
            timestamp=now_ms,
            formation=circle.formation,
            founder=circle.founder,
            nonce=circle.charter.nonce,
            epoch=circle.epoch,
            roll=circle.roll,
            callable_by=circle.charter.callable_by,
            speakers=tuple(speakers)[:SPEAKERS_MAX],
            author=author,
            expires=now_ms + TTL_MS,
            idempotent=tuple(one for one in circle.idempotent if one in circle.capabilities[:CAPABILITIES_MAX]),
        )

    def dht_key(self) -> bytes:
        """Where this announcement is looked for."""
        return announcement_key(self.circle_id)

    def capability_keys(self) -> list[bytes]:
        """Where it is looked for by what it offers."""
        return [capability_key(capability) for capability in self.capabilities]

    def offers(self, query: str) -> bool:
        return any(matches(query, capability) for capability in self.capabilities)

    def body(self) -> dict[str, Any]:
        """What the record says; the time is its stamp's, the author its author."""
        return {
            "name": self.name,
            "description": self.description,
            "capabilities": list(self.capabilities),
            "idempotent": [place for place, capability in enumerate(self.capabilities) if capability in self.idempotent],
            "member_count": self.member_count,
            "available_count": self.available_count,
            "open": self.open_membership,
            "founder": self.founder,
            "nonce": self.nonce,
            "epoch": self.epoch,
            "roll": self.roll,
            "callable_by": self.callable_by.value,
            "speakers": [{"node": one.node, "addresses": list(one.addresses), "dht_key": one.dht_key} for one in self.speakers],
        }


def read_announcement(statement: Statement) -> CircleAnnouncement:
    """The announcement in a verified record. Raises ProtocolError with the field that is wrong; whether its author may speak for the
    formation, and whether it still holds, is judged elsewhere."""
    body = statement.body
    founder, nonce = read_bytes(body, "founder", KEY_BYTES), read_bytes(body, "nonce", NONCE_BYTES)
    check_id(statement, founder, nonce)
    members, available = read_number(body, "member_count", MEMBERS_MAX), read_number(body, "available_count", MEMBERS_MAX)
    if available > members:
        raise wrong("available_count", "at most as many as there are members are wanted")
    capabilities = read_texts(body, "capabilities", CAPABILITIES_MAX, 200)
    try:
        for capability in capabilities:
            check_capability(capability)
    except UsageError as error:
        raise wrong("capabilities", error.message) from None
    said_ms = stamp_ms(statement.stamp)
    return CircleAnnouncement(
        circle_id=bytes.fromhex(statement.name),
        name=read_name(body),
        description=read_text(body, "description", DESCRIPTION_CHARACTERS_MAX),
        capabilities=tuple(capabilities),
        member_count=members,
        available_count=available,
        open_membership=read_flag(body, "open"),
        timestamp=said_ms,
        formation=statement.formation,
        founder=founder,
        nonce=nonce,
        epoch=read_number(body, "epoch", EPOCH_MAX),
        roll=read_bytes(body, "roll", KEY_BYTES),
        callable_by=read_callable_by(body),
        speakers=_speakers(body),
        author=statement.author,
        expires=min(statement.expires, said_ms + TTL_MS),
        idempotent=_idempotent(body, capabilities),
        signature=read(statement.signed).signature,
        signed=statement.signed,
    )


def _idempotent(body: dict[str, Any], capabilities: list[str]) -> tuple[str, ...]:
    """Said by their places, so that no name is there twice; whoever says nothing of it offers nothing that may be done twice."""
    said = body.get("idempotent", [])
    if not isinstance(said, list) or not all(type(place) is int and 0 <= place < len(capabilities) for place in said):
        raise wrong("idempotent", "places in the list of capabilities are wanted")
    if len(set(said)) != len(said):
        raise wrong("idempotent", "each place once is wanted")
    return tuple(capabilities[place] for place in said)


def _speakers(body: dict[str, Any]) -> tuple[Speaker, ...]:
    said = body.get("speakers")
    if not isinstance(said, list) or not 0 < len(said) <= SPEAKERS_MAX or not all(isinstance(one, dict) for one in said):
        raise wrong("speakers", f"1 to {SPEAKERS_MAX} nodes are wanted")
    return tuple(
        Speaker(
            read_bytes(one, "node", KEY_BYTES),
            tuple(read_texts(one, "addresses", ADDRESSES_MAX, ADDRESS_CHARACTERS_MAX)),
            read_bytes(one, "dht_key", KEY_BYTES) if one.get("dht_key") else b"",
        )
        for one in said
    )


@dataclass(frozen=True, slots=True)
class PublishedCircle:
    """An announcement as it travels between formations: the signed record, and what its author is judged by."""

    announcement: CircleAnnouncement
    grants: tuple[bytes, ...] = ()

    @property
    def circle_id(self) -> bytes:
        return self.announcement.circle_id

    def to_bytes(self) -> bytes:
        return encode([self.announcement.signed, list(self.grants)])


def judge(payload: bytes, *, now_ms: int, also: Sequence[IPNetwork] = ()) -> PublishedCircle | Refusal:
    """What somebody sent as a circle of another formation: believed, or refused with the reason. `also`: networks that the settings add."""
    if len(payload) > PUBLISHED_BYTES_MAX:
        return Refusal(Rejection.TOO_LARGE, f"an announcement of {len(payload)} bytes, where {PUBLISHED_BYTES_MAX} are allowed")
    try:
        signed, grants = _parts(payload)
        statement = parse(signed, size_bytes_max=ANNOUNCEMENT_BYTES_MAX)
        if statement.kind != CIRCLE_KIND or statement.audience != "public" or statement.tombstone:
            return Refusal(Rejection.MALFORMED, "it is no announcement of a public circle")
        announcement = read_announcement(statement)
        refusal = _judge_time(statement, announcement, now_ms) or _judge_author(statement, grants, now_ms)
    except ProtocolError as error:
        reasons = {"bad_signature": Rejection.BAD_SIGNATURE, Code.TOO_LARGE: Rejection.TOO_LARGE, Code.NOT_GRANTED: Rejection.NOT_GRANTED}
        return Refusal(reasons.get(error.code, Rejection.MALFORMED), error.message)
    if refusal is not None:
        return refusal
    speakers = tuple(replace(one, addresses=tuple(a for a in one.addresses if may_dial(a, also=also))) for one in announcement.speakers)
    reached = tuple(one for one in speakers if one.addresses)
    if not reached:
        return Refusal(Rejection.ADDRESS, "it names no address that is dialled for a stranger")
    return PublishedCircle(replace(announcement, speakers=reached), tuple(grants))


def may_dial(address: str, *, also: Sequence[IPNetwork] = ()) -> bool:
    """Whether an address in an announcement may be dialled, as far as it says itself: a name is judged when it is resolved."""
    try:
        place = parse_address(address)
        check_port(place.port)
    except SkerryError:
        return False
    if place.scheme != "tcp":
        return False
    try:
        ipaddress.ip_address(place.host)
    except ValueError:
        return True
    return not why_not(place.host, also=also)


def _parts(payload: bytes) -> tuple[bytes, list[bytes]]:
    match unpack(payload, size_bytes_max=PUBLISHED_BYTES_MAX):
        case [bytes(signed), list(grants)] if len(grants) <= GRANTS_MAX and all(isinstance(one, bytes) for one in grants):
            return signed, grants
    raise ProtocolError("an announcement comes as the record and the grants of its author")


def _judge_time(statement: Statement, announcement: CircleAnnouncement, now_ms: int) -> Refusal | None:
    if too_far_ahead(statement.stamp, now_ms=now_ms):
        return Refusal(Rejection.TOO_FAR_AHEAD, "it is of the future: a clock is off by more than 5 minutes")
    if expired(announcement.expires, now_ms=now_ms):
        return Refusal(Rejection.EXPIRED, "its time is over")
    return None


def _judge_author(statement: Statement, grants: list[bytes], now_ms: int) -> Refusal | None:
    roster = Roster(statement.formation)
    for signed in grants:
        roster.learn(parse(signed))
    standing = roster.standing(statement.author, now_ms=now_ms)
    if standing.state is not State.VALID or standing.role is Role.CLIENT:
        why = standing.reason or "it is granted to call, and nothing else"
        return Refusal(Rejection.NOT_GRANTED, f"its author may not speak for the formation: {why}")
    return None
