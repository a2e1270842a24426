"""Wires: the standing link of two agents, as two half-records, one by each end's node.

A half says: this agent of mine is wired to that one. It is a record of kind `wire`, signed by the node that hosts the agent; shown to the
other side it is the *descriptor* of a peer. The wire stands while both halves do. Either side may take its half away; the other follows.

The rule: a half is believed of the node that hosts its agent and of nobody else, and a wire that only one side wants does not last.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from enum import Enum
from typing import Any

from skerry.errors import Code, ProtocolError
from skerry.identity.keys import KEY_BYTES, agent_id
from skerry.identity.statement import Statement

KIND = "wire"
PART_CHARACTERS_MAX = 64
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
