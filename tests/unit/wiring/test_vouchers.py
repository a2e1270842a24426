"""Vouchers: who may write in which session, decided from bytes alone."""

from __future__ import annotations

import pytest

from skerry.agents.letters import Letter, session_of
from skerry.errors import Code, Refused
from skerry.identity.keys import agent_id
from skerry.wiring.vouchers import KEPT_MAX, Vouchers, agent_voucher, check_voucher
from tests.support.formation import key

AGENT, OTHER = key(0x0901), key(0x0902)
NODE, ELSEWHERE = b"n" * 32, b"e" * 32
RECEIVER = "ab" * 16
SESSION = session_of(AGENT.public, RECEIVER)
ADDRESS = f"{agent_id(AGENT.public)}@{NODE.hex()}"


def letter(session: str = SESSION, reply_to: str = ADDRESS) -> Letter:
    return Letter(session, 1, "alpha/desk", reply_to, b"\x01")


@pytest.mark.parametrize("urgent", [False, True])
def test_an_agents_letters_are_taken_from_its_node(urgent: bool) -> None:
    session = session_of(AGENT.public, RECEIVER, urgent=urgent)
    voucher = agent_voucher(AGENT, session, node=NODE)
    check_voucher(voucher, [letter(session), letter(session)], agent=RECEIVER, node=NODE)
    assert voucher == agent_voucher(AGENT, SESSION, node=NODE), "one for both lanes"


def test_an_agent_that_takes_no_letters_has_no_address() -> None:
    check_voucher(GOOD, [letter(reply_to="")], agent=RECEIVER, node=NODE)


def test_after_a_move_the_session_is_the_same_and_the_new_nodes_voucher_is_its_own() -> None:
    moved = letter(reply_to=f"{agent_id(AGENT.public)}@{ELSEWHERE.hex()}")
    check_voucher(agent_voucher(AGENT, SESSION, node=ELSEWHERE), [moved], agent=RECEIVER, node=ELSEWHERE)


def test_peoples_letters_are_bound_to_their_node() -> None:
    who = b"w" * 32
    check_voucher(who, [letter(session_of(who + NODE, RECEIVER), "")], agent=RECEIVER, node=NODE)
    with pytest.raises(Refused):
        check_voucher(who, [letter(session_of(who + NODE, RECEIVER), "")], agent=RECEIVER, node=ELSEWHERE)
    with pytest.raises(Refused):
        check_voucher(who, [letter(session_of(who + NODE, RECEIVER), ADDRESS)], agent=RECEIVER, node=NODE)


GOOD = agent_voucher(AGENT, SESSION, node=NODE)


@pytest.mark.parametrize(
    ("voucher", "one", "agent", "node"),
    [
        (b"", letter(), RECEIVER, NODE),
        (GOOD[:-1], letter(), RECEIVER, NODE),
        (GOOD + b"\x00", letter(), RECEIVER, NODE),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), letter(), RECEIVER, NODE),
        (GOOD, letter(), RECEIVER, ELSEWHERE),
        (GOOD, letter(), "cd" * 16, NODE),
        (agent_voucher(OTHER, SESSION, node=NODE), letter(), RECEIVER, NODE),
        (AGENT.public + OTHER.sign(b"skerry/voucher/1:" + NODE + SESSION.encode()), letter(), RECEIVER, NODE),
        (GOOD, letter(session_of(OTHER.public, RECEIVER)), RECEIVER, NODE),
        (GOOD, letter(reply_to=f"{agent_id(OTHER.public)}@{NODE.hex()}"), RECEIVER, NODE),
        (GOOD, letter(reply_to=f"{ADDRESS}@{'ff' * 32}"), RECEIVER, NODE),
        (AGENT.public, letter(), RECEIVER, NODE),
    ],
    ids=range(12),
)
def test_anything_else_is_refused(voucher: bytes, one: Letter, agent: str, node: bytes) -> None:
    with pytest.raises(Refused) as refused:
        check_voucher(voucher, [letter(), one], agent=agent, node=node)
    assert refused.value.code == Code.PEER_SPEC
    assert refused.value.hint


def test_a_node_makes_each_once_and_keeps_a_bounded_number() -> None:
    vouchers = Vouchers(NODE)
    assert vouchers.of(AGENT, SESSION) == GOOD
    assert vouchers.of(AGENT, SESSION) is vouchers.of(AGENT, SESSION)
    vouchers._kept.update((str(number), b"") for number in range(KEPT_MAX))
    assert vouchers.of(OTHER, "f" * 32)
    assert len(vouchers._kept) <= KEPT_MAX
