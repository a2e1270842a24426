"""Wires: the standing link of two agents, as two half-records, one by each end's node.

A half says: this agent of mine is wired to that one. It is a record of kind `wire`, signed by the node that hosts the agent; shown to the
other side it is the *descriptor* of a peer. The wire stands while both halves do. Either side may take its half away; the other follows.

The rule: a half is believed of the node that hosts its agent and of nobody else, and a wire that only one side wants does not last.
`now_ms` is a parameter.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from enum import Enum
from typing import Any

from skerry.channel.address import VIA, parse_address
from skerry.errors import Code, ProtocolError, UsageError
from skerry.identity.keys import KEY_BYTES, agent_id
from skerry.identity.stamps import AHEAD_MS_MAX, stamp_ms, too_far_ahead
from skerry.identity.statement import Statement, parse
from skerry.records.record import KINDS

KIND = "wire"
PART_CHARACTERS_MAX = 64
ADDRESS_CHARACTERS_MAX = 300  # as of a contact's
_ENDS = ("own", "peer")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a wire.

    agent       its id, which follows from `key`, its public key
    node        that hosts it; formation: whose node that is
    name        `{node}/{role}/{agent}`, for people
    """

    agent: str
    node: bytes
    formation: bytes
    name: str
    key: bytes

    @property
    def short_name(self) -> str:
        """The agent's own name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Half:
    """What one side says, read and verified."""

    own: End
    peer: End
    stamp: int
    signed: bytes


class Step(Enum):
    """What a node does about a wire of which its own half is there."""

    STANDS = "stands"
    COMPLETE = "complete"  # ask the other side to write its half
    GIVE_UP = "give up"  # the other side took its half away: take ours away too


def next_step(*, has_stood: bool, theirs: bool) -> Step:
    """has_stood: both halves were there once; theirs: whether the other side says now that it has its half."""
    if theirs:
        return Step.STANDS
    return Step.GIVE_UP if has_stood else Step.COMPLETE


def wire_name(own: str, peer: str) -> str:
    """The record's name: the ids of both agents, one's own first."""
    return f"{own}~{peer}"


def comms_name(node: str, role: str, agent: str) -> str:
    """`{node}/{role}/{agent}`, without what would make it ambiguous."""
    return "/".join(part.replace("/", "_")[:PART_CHARACTERS_MAX] or "_" for part in (node, role, agent))


def check_comms_name(name: Any) -> str:
    """Raises ProtocolError(invalid_comms_name)."""
    parts = name.split("/") if isinstance(name, str) else []
    if len(parts) != 3 or not all(0 < len(part) <= PART_CHARACTERS_MAX and part.isprintable() for part in parts):
        raise ProtocolError(
            f"{str(name)[:100]!r} is no comms name", code=Code.INVALID_COMMS_NAME, hint="it has the form {node}/{role}/{agent}"
        )
    return str(name)


def check_back_pointer(address: str) -> None:
    """Where the other side says that it is reached. Raises ProtocolError(peer_spec)."""
    try:
        if len(address) > ADDRESS_CHARACTERS_MAX or not address.startswith(("tcp://", "uds://", VIA)):
            raise UsageError(f"{address[:80]!r} is no address")
        parse_address(address)
    except UsageError as error:
        raise ProtocolError(
            f"local_peer_spec_address: {error.message}", code=Code.PEER_SPEC, hint="it is tcp://HOST:PORT, uds:///PATH or via:NODE"
        ) from error


def peer_id(key: bytes) -> str:
    """The UUIDv5 of an agent's public key, as the control channel's verbs name a peer."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, key.hex()))


def key_text(key: bytes) -> str:
    """A public key in base64."""
    return base64.b64encode(key).decode()


def half_body(own: End, peer: End) -> dict[str, Any]:
    """The body of the record that `own`'s node writes."""
    return {
        side: {"agent": end.agent, "node": end.node, "formation": end.formation, "name": end.name, "key": end.key}
        for side, end in zip(_ENDS, (own, peer), strict=True)
    }


def read_descriptor(signed: bytes, *, now_ms: int) -> Half:
    """What a peer shows as its half: signed, of the size and the time that a record of a wire may have. Raises ProtocolError(peer_spec |
    invalid_comms_name)."""
    limits = KINDS[KIND]
    try:
        statement = parse(signed, size_bytes_max=limits.size_bytes_max)
    except ProtocolError as error:
        raise _wrong(error.message) from error
    if too_far_ahead(statement.stamp, now_ms=now_ms):
        raise _wrong("it is of the future: a clock is off by more than 5 minutes")
    if now_ms > statement.expires + AHEAD_MS_MAX:
        raise _wrong("its time is over")
    if statement.expires - stamp_ms(statement.stamp) > limits.longest_ms(tombstone=False):
        raise _wrong("it is to hold for longer than a half of a wire may")
    return read_half(statement)


def read_half(statement: Statement) -> Half:
    """A verified statement as a half. Raises ProtocolError(peer_spec | invalid_comms_name) that names the field."""
    if statement.kind != KIND or set(statement.body) != set(_ENDS):
        raise _wrong("a record of kind `wire` with the fields own and peer is wanted")
    own, peer = (_end(statement.body[side], side) for side in _ENDS)
    if own.node != statement.author or own.formation != statement.formation:
        raise _wrong("own.node: the record is not by the node that hosts the agent")
    if statement.name != wire_name(own.agent, peer.agent):
        raise _wrong("name: not that of its two ends")
    if own.agent == peer.agent:
        raise _wrong("peer.agent: an agent is not wired to itself")
    return Half(own, peer, statement.stamp, statement.signed)


def _end(value: Any, side: str) -> End:
    if not isinstance(value, dict) or set(value) != {"agent", "node", "formation", "name", "key"}:
        raise _wrong(f"{side}: agent, node, formation, name and key are wanted")
    for field in ("node", "formation", "key"):
        if not isinstance(value[field], bytes) or len(value[field]) != KEY_BYTES or not any(value[field]):
            raise _wrong(f"{side}.{field}: 32 bytes that are not all zero are wanted")
    if value["agent"] != agent_id(value["key"]):
        raise _wrong(f"{side}.agent: not the id of that key")
    return End(value["agent"], value["node"], value["formation"], check_comms_name(value["name"]), value["key"])


def _wrong(what: str) -> ProtocolError:
    return ProtocolError(f"a peer's descriptor is wrong: {what}", code=Code.PEER_SPEC)
