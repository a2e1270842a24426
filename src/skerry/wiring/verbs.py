"""Requests and replies of the verbs about letters and wires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skerry.agents.letters import Letter


@dataclass(frozen=True, slots=True)
class SendRequest:
    """`mail.send`: a letter to an agent. `content` is CBOR; `interrupt`: ahead of all that waits there.

    to   `[contact/][node/]agent`, or an agent's id
    """

    to: str
    content: bytes
    interrupt: bool = False


@dataclass(frozen=True, slots=True)
class SendReply:
    """The outbox of the node that was asked holds the letter. `id`: the letter's own."""

    session_id: str
    id: str


@dataclass(frozen=True, slots=True)
class DeliverRequest:
    """`mail.deliver`: letters of one session to an agent of this node, oldest first.

    voucher   that the asking node speaks for their sender (`vouchers.py`)
    contact   the id of the contact that they came from, where a node of ours hands them on; b"" otherwise
    """

    agent: str
    letters: list[Letter]
    voucher: bytes = b""
    contact: bytes = b""


@dataclass(frozen=True, slots=True)
class DeliverReply:
    """Up to which `seq` that session's letters were handled, and what came of them is on the disk."""

    handled: int


# --- the control channel: the seed's verbs and fields -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WireRequest:
    """`wire` and `unwire`: link an agent of the asked node with one of the asking node, or take its half away.

    remote_member             an agent of the asked side: its name, `node/name` or id
    local_peer_spec_address   where the asking node is reached: `tcp://HOST:PORT`, `uds:///PATH`, `via:NODE`
    local_comms_name          `{node}/{role}/{agent}` of the asking side's agent; local_peer_id: UUIDv5 of its key
    local_pubkey_b64          its public key in base64, with or without `ed25519:`
    descriptor                the asking node's signed half of the wire; without it nothing is believed
    """

    remote_member: str
    local_peer_spec_address: str
    local_comms_name: str
    local_peer_id: str
    local_pubkey_b64: str | None = None
    descriptor: bytes = b""


@dataclass(frozen=True, slots=True)
class WireReply:
    """The asked node's own signed half; empty where it has none (any more)."""

    descriptor: bytes = b""


@dataclass(frozen=True, slots=True)
class WireCheckRequest:
    """`wire.check`: this is our half; say whether yours is there."""

    descriptor: bytes


@dataclass(frozen=True, slots=True)
class InjectRequest:
    """`inject`: a letter to an agent of the asked side. `content`: any plain value; `handling_mode`: queue or interrupt."""

    remote_member: str
    content: Any
    handling_mode: str = "queue"


@dataclass(frozen=True, slots=True)
class InjectReply:
    session_id: str


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """`lookup_member`."""

    remote_member: str


@dataclass(frozen=True, slots=True)
class LookupReply:
    """Who that is: the seed's two fields, and the ids that a wire is bound to (hex, base64)."""

    peer_id: str
    comms_name: str
    agent: str = ""
    node: str = ""
    formation: str = ""
    pubkey_b64: str = ""


VERBS_OF_WIRES: dict[str, type[WireRequest] | type[WireCheckRequest] | type[InjectRequest] | type[LookupRequest]] = {
    "wire": WireRequest,
    "unwire": WireRequest,
    "wire.check": WireCheckRequest,
    "inject": InjectRequest,
    "lookup_member": LookupRequest,
}  # what a peer may ask about an agent that it wants to be, or is, wired to


# --- for people ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LetterQuery:
    """`letter.list`: at most so many."""

    limit: int = 200


@dataclass(frozen=True, slots=True)
class LetterInfo:
    """A letter that was not handled (yet). `since`: when it was sent or put aside, Unix ms.

    state    waiting; undelivered: it can't be delivered; failed: an agent of this node could not handle it. The last two were put aside
    reason   why; of one that waits, where there is trouble
    """

    id: str
    sender: str
    to: str
    state: str
    since: int
    size_bytes: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LetterList:
    """Those put aside, oldest first, then those that wait in the outbox. `waiting`, `aside`: how many there are in all."""

    letters: list[LetterInfo]
    waiting: int = 0
    aside: int = 0


@dataclass(frozen=True, slots=True)
class LetterName:
    id: str


@dataclass(frozen=True, slots=True)
class LetterContent:
    """`letter.show`. `content` is CBOR."""

    letter: LetterInfo
    content: bytes


@dataclass(frozen=True, slots=True)
class LetterNames:
    """`letter.retry`, `letter.drop`: those of these ids that were put aside; none: all that were."""

    ids: list[str]


@dataclass(frozen=True, slots=True)
class WireAddRequest:
    """`wire.add`, `wire.remove`: an agent of the asked node, and `[contact/][node/]agent`."""

    agent: str
    peer: str


@dataclass(frozen=True, slots=True)
class WireInfo:
    """A wire as one of its ends sees it. `state`: standing, or waiting for the other side's half; `detail`: why it waits."""

    agent: str
    peer: str
    peer_id: str
    state: str
    since: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WireList:
    wires: list[WireInfo]
