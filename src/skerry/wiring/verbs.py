"""Requests and replies of the verbs about letters."""

from __future__ import annotations

from dataclasses import dataclass

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
    """`mail.deliver`: letters of one session to an agent of this node, oldest first."""

    agent: str
    letters: list[Letter]


@dataclass(frozen=True, slots=True)
class DeliverReply:
    """Up to which `seq` that session's letters were handled, and what came of them is on the disk."""

    handled: int
