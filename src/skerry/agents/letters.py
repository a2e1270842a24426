"""Letters: what one agent is sent by another, by a client, or by itself, and the words in which they travel.

A letter belongs to a session, the standing talk of one sender with one agent. Its `seq` is a stamp of the sender's node and only rises
within a session, so that order and what came already can be told from it alone, also after the sender's home came back from a backup.

The rule: session and `seq` are a letter's key; whoever takes the same key twice takes one letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec
from blake3 import blake3

from skerry.identity.pieces import Pieces, pack_array

LETTER_BYTES_MAX = 48 * 1024  # of the content: with its envelope it fits one frame, also towards a contact, who gets no bulk connection
ADDRESS_CHARACTERS_MAX = 300  # of a sender's name, of whom to reply to: agent, node and formation as ids take 162
SEQ_MAX = 2**63 - 1  # what a disk keeps
HANDLER_S = 60.0  # that a handler may take for one letter
SESSION_CHARACTERS = 32
_SESSION_DOMAIN = b"skerry/session/1:"
_URGENT = "!"
_SESSION = re.compile(f"[0-9a-f]{{{SESSION_CHARACTERS}}}{_URGENT}?")


class Letter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One letter as it travels and lies in an outbox.

    session, seq   its key; see above
    sender         who says it, as its receiver may address it: `[contact/][node/]agent`, or `node` for people
    reply_to       `id@node[@formation]` of an agent that takes letters, "" where the sender takes none
    content        CBOR
    """

    session: str
    seq: int
    sender: str
    reply_to: str
    content: bytes

    @property
    def id(self) -> str:
        return f"{self.session}-{self.seq:x}"

    @property
    def is_sound(self) -> bool:
        """Whether it may be kept: all in it is within its bounds, whoever sent it."""
        return (
            _SESSION.fullmatch(self.session) is not None
            and 0 < self.seq <= SEQ_MAX
            and len(self.content) <= LETTER_BYTES_MAX
            and max(len(self.sender), len(self.reply_to)) <= ADDRESS_CHARACTERS_MAX
        )

    @property
    def urgent(self) -> bool:
        return self.session.endswith(_URGENT)


def session_of(sender: bytes, receiver: str, *, urgent: bool = False) -> str:
    """The session of a sender with an agent: 32 hex characters. What interrupts has a lane of its own beside it, since it overtakes.

    sender: the id of the agent or, for people, of the node that says it; receiver: the agent's id
    """
    name = blake3(_SESSION_DOMAIN + sender + receiver.encode()).hexdigest()[:SESSION_CHARACTERS]
    return name + _URGENT if urgent else name


def shown_session(session: str) -> str:
    """The session as people see it: both its lanes are one."""
    return session.removesuffix(_URGENT)


# --- node and worker ---------------------------------------------------------------------------------------------------------------


class HearRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`agent.hear`: letters to be handled in this order. `turn` as in `RunRequest`."""

    turn: int
    letters: list[Letter]


class Outgoing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a handler sent: it leaves when the state that the handler left behind is kept. `to` as the node resolved it."""

    to: str
    content: bytes
    urgent: bool = False


class KeepRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`agent.keep`: what tasks changed, where they did, and sent."""

    state: bytes | None
    sent: list[Outgoing]

    def to_bytes(self) -> bytes | Pieces:
        return pack_array([self.state, [[one.to, one.content, one.urgent] for one in self.sent]], large=0)


class HearReply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How many of the letters were handled, from the first on.

    state    what the agent declares as its state, where these letters changed it
    failed   what a handler raised, "" where all is well; failed_at: of which letter, as many as there are where nobody knows. With a state
             to keep it is as it was before the first letter then, and none counts
    busy     it failed because there was no room for what it sent: that is no fault of the letter's
    passing  it failed for want of somebody whom the handler asked, and who may be there soon
    """

    handled: int
    state: bytes | None = None
    sent: list[Outgoing] = []
    failed: str = ""
    failed_at: int = 0
    busy: bool = False
    passing: bool = False


@dataclass(frozen=True, slots=True)
class MeshSendRequest:
    """`mesh.send`: an agent sends a letter. `only_look`: say whom it would reach, and send nothing; its handler has not ended yet.

    to    `[contact/][node/]name`, an agent's id, or a letter's `reply_to`
    """

    to: str
    content: bytes
    urgent: bool = False
    only_look: bool = False


@dataclass(frozen=True, slots=True)
class MeshSendReply:
    """`to`: the same address as ids, good for as long as the agent lives where it is."""

    session_id: str
    to: str


@dataclass(frozen=True, slots=True)
class PeersRequest:
    """`agent.peers`: whom the agent is wired to, or no more."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
