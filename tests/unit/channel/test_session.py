"""What a peer may say next, and what ends the connection."""

from __future__ import annotations

import pytest

from skerry.channel.framing import CALL, CANCEL, CREDIT, FAIL, PART, PING, PONG, REPLY, Frame, FrameReader, encode_frame
from skerry.channel.session import (
    CALLS_MAX,
    CREDIT_MAX,
    TEXT_CHARACTERS_MAX,
    VERB_CHARACTERS_MAX,
    Answer,
    CallOpened,
    Failed,
    PartArrived,
    PeerAway,
    PongArrived,
    Replied,
    Session,
)
from skerry.errors import Code, ProtocolError


def opened(*, credit: int = 0) -> tuple[Session, int]:
    session = Session()
    return session, session.call("echo", b"", timeout_ms=1000, credit=credit)[1]


def served(*, credit: int = 0) -> Session:
    session = Session()
    session.receive([CALL, 1, "echo", 1000, credit, b""])
    return session


@pytest.mark.parametrize(
    "frame",
    [
        [REPLY, 2, b""],
        [REPLY, 0, b""],
        [FAIL, 9, "busy", "", "", False],
        [PART, 1, b""],
        [PART, 7, b""],
        [CALL, 0, "echo", 1, 0, b""],
        [CALL, 1, "", 1, 0, b""],
        [CALL, 1, "v" * (VERB_CHARACTERS_MAX + 1), 1, 0, b""],
        [CALL, 1, "echo", 1, CREDIT_MAX + 1, b""],
        [16, 1, 1],
        [20, 1],
        [32, 1, 1, b"", b"", "call", b"", 0],
        [35, b"", b"", b""],
    ],
)
def test_what_may_not_be_said(frame: Frame) -> None:
    session, _ = opened()
    with pytest.raises(ProtocolError):
        session.receive(frame)


def test_a_number_is_used_once_also_after_its_end() -> None:
    session = served()
    session.reply(1, b"")
    for number in (1, 0):
        with pytest.raises(ProtocolError):
            session.receive([CALL, number, "echo", 1, 0, b""])
    assert isinstance(session.receive([CALL, 5, "echo", 1, 0, b""]), CallOpened), "numbers may be left out"
    with pytest.raises(ProtocolError):
        session.receive([CALL, 4, "echo", 1, 0, b""])


def test_parts_need_credit() -> None:
    session, number = opened(credit=2)
    for _ in range(2):
        assert isinstance(session.receive([PART, number, b"x"]), PartArrived)
    with pytest.raises(ProtocolError, match="without credit"):
        session.receive([PART, number, b"x"])


@pytest.mark.parametrize("parts", [0, CREDIT_MAX + 1, CREDIT_MAX - 1])
def test_credit_has_bounds(parts: int) -> None:
    session = served(credit=2)
    with pytest.raises(ProtocolError):
        session.receive([CREDIT, 1, parts])


def test_a_call_that_wants_one_reply_takes_no_credit() -> None:
    session = served()
    assert session.credit_of(1) == 0
    with pytest.raises(ProtocolError):
        session.receive([CREDIT, 1, 1])


def test_what_comes_late_is_dropped() -> None:
    session, number = opened(credit=2)
    session.cancel(number)
    for frame in ([PART, number, b""], [REPLY, number, b""], [FAIL, number, "x", "", "", False], [CREDIT, 1, 1], [CANCEL, 1]):
        assert session.receive(frame) is None
    assert session.cancel(number) is None
    assert session.give_credit(number, 1) is None


def test_above_the_most_calls_a_peer_hears_busy_and_goes_on() -> None:
    session = Session()
    for number in range(1, CALLS_MAX + 1):
        session.receive([CALL, number, "echo", 1, 0, b""])
    answer = session.receive([CALL, CALLS_MAX + 1, "echo", 1, 0, b""])
    assert isinstance(answer, Answer)
    assert answer.frame[:3] == [FAIL, CALLS_MAX + 1, Code.BUSY]
    assert session.served_calls == CALLS_MAX
    session.reply(1, b"")
    assert isinstance(session.receive([CALL, CALLS_MAX + 2, "echo", 1, 0, b""]), CallOpened)


def test_texts_are_cut_both_ways() -> None:
    session = served()
    frame = session.fail(1, "code", "m" * 10**5, "h" * 10**5)
    assert frame is not None
    assert FrameReader().feed(encode_frame(frame)) == [frame]
    caller, number = opened()
    failed = caller.receive([FAIL, number, "c" * 5000, "m" * 5000, "h" * 5000, False])
    assert isinstance(failed, Failed)
    assert len(failed.code) == len(failed.message) == len(failed.hint) == TEXT_CHARACTERS_MAX


def test_any_file_name_may_be_told() -> None:
    """Names that are no UTF-8 come with half characters, which no frame can hold: the call was never answered."""
    frame = served().fail(1, "bad_model", "no such file: caf\udce9.onnx", "\ud800")
    assert frame is not None
    assert FrameReader().feed(encode_frame(frame))[0][3].startswith("no such file: caf")


def test_the_rest() -> None:
    session, number = opened()
    assert session.receive([PING, 7]) == Answer([PONG, 7])
    assert session.receive([PONG, 7]) == PongArrived(7)
    assert session.receive([9, "x" * 9000]) == PeerAway("x" * TEXT_CHARACTERS_MAX)
    assert session.receive([REPLY, number, 5]) == Replied(number, 5), "the number of a transfer"
    assert (session.open_calls, session.served_calls) == (0, 0)
