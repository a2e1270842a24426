"""Vouchers: by what a receiver knows that the node which delivers a letter may write in its session.

A session follows from its sender and its receiver, so whoever knows both can name it; and who writes in it moves the receiver's cursor,
past letters that have not come yet. So a node shows with each batch for whom it speaks:

    an agent    its public key, and its signature over the session and the node: only who holds the agent's key makes that, for itself
    people      the id that the session was made of, together with the node's own

The agent's node makes it, wherever the agent lives: after a move the new node shows one of its own, and the session stays the same. A
session that hung on the node alone would begin anew with each move, and what the old node still had under way could count twice.

The rule: a letter is taken from the node that its sender lives on, under that sender's session and address, and from nobody else.
"""

from __future__ import annotations

from skerry.agents.letters import Letter, session_of, shown_session
from skerry.errors import Code, Refused
from skerry.identity.keys import KEY_BYTES, SIGNATURE_BYTES, KeyPair, agent_id, verify

AGENT_VOUCHER_BYTES = KEY_BYTES + SIGNATURE_BYTES
KEPT_MAX = 10_000  # 130 bytes each
_DOMAIN = b"skerry/voucher/1:"


def agent_voucher(key: KeyPair, session: str, *, node: bytes) -> bytes:
    """For letters of the agent with that key, which lives on `node`; one for both lanes of a session."""
    return key.public + key.sign(_DOMAIN + node + shown_session(session).encode())


class Vouchers:
    """Those that one node shows; each is made once."""

    def __init__(self, node: bytes) -> None:
        self._node = node
        self._kept: dict[str, bytes] = {}

    def of(self, key: KeyPair, session: str) -> bytes:
        """For an agent of that node."""
        if session not in self._kept:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[session] = agent_voucher(key, session, node=self._node)
        return self._kept[session]


def is_agents(voucher: bytes) -> bool:
    """Whether it is for an agent; else for people."""
    return len(voucher) == AGENT_VOUCHER_BYTES


def check_voucher(voucher: bytes, letters: list[Letter], *, agent: str, node: bytes) -> None:
    """Whether `node` may deliver these letters, all of one session, to an agent. Raises Refused(peer_spec)."""
    key = voucher[:KEY_BYTES]
    session, addresses = "", {""}  # who takes no letters has no address
    if is_agents(voucher):
        session = session_of(key, agent)
        addresses.add(f"{agent_id(key)}@{node.hex()}")
        if not verify(key, _DOMAIN + node + session.encode(), voucher[KEY_BYTES:]):
            raise _refused("its voucher is not by its sender")
    elif len(voucher) == KEY_BYTES:
        session = session_of(key + node, agent)
    else:
        raise _refused("nothing vouches for it")
    if any(shown_session(letter.session) != session or letter.reply_to not in addresses for letter in letters):
        raise _refused("its session or its address is another sender's")


def _refused(why: str) -> Refused:
    return Refused(f"a letter is not taken from this node: {why}", code=Code.PEER_SPEC, hint="a node delivers letters of its own agents")
