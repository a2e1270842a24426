"""Large values: what is granted, what is refused, and that each side's numbers are its own."""

from __future__ import annotations

import pytest

from skerry.channel.framing import ABORT, CHUNK, DONE, GRANT, LANDED, OFFER, WITHDRAW, Frame
from skerry.channel.transfer import BYTES_MAX, TRANSFERS_MAX, WINDOW_BYTES, Aborted, MaySend, SendFrames, Sent, Transfers
from skerry.errors import Code, ProtocolError
from skerry.identity.codec import PAYLOAD_BYTES_MAX


def answer(transfers: Transfers, frame: Frame) -> Frame:
    event = transfers.receive(frame)
    assert isinstance(event, SendFrames)
    (sent,) = event.frames
    return sent


def landed(sender: Transfers, receiver: Transfers, data: bytes) -> int:
    """Send it whole; its number."""
    offer = sender.offer(data)
    due = [answer(receiver, offer)]
    number: int = offer[1]
    while due:
        frame = due.pop()
        if isinstance(sender.receive(frame), Sent):
            return number
        while (chunk := sender.next_chunk(number)) is not None:
            event = receiver.receive(chunk)
            due += event.frames if isinstance(event, SendFrames) else []
    raise AssertionError("it never landed")


@pytest.mark.parametrize("size", [0, 1, 60 * 1024, WINDOW_BYTES, WINDOW_BYTES + 1, 3_000_000])
def test_a_value_lands_whole_and_is_taken_once(size: int) -> None:
    sender, receiver = Transfers(), Transfers()
    data = bytes(range(256)) * (size // 256 + 1)
    number = landed(sender, receiver, data[:size])
    assert receiver.held_bytes == size
    assert bytes(receiver.take(number)) == data[:size]
    assert receiver.held_bytes == 0
    with pytest.raises(ProtocolError):
        receiver.take(number)


def test_nothing_leaves_before_it_is_granted() -> None:
    sender = Transfers()
    offer = sender.offer(bytes(1000))
    assert sender.next_chunk(offer[1]) is None
    assert sender.receive([GRANT, 1, 10]) == MaySend(1)
    chunk = sender.next_chunk(1)
    assert chunk is not None
    assert len(chunk[2]) == 10
    assert sender.next_chunk(1) is None


def test_more_than_granted_ends_the_connection() -> None:
    receiver = Transfers()
    grant = answer(receiver, [OFFER, 1, WINDOW_BYTES * 4])
    assert grant == [GRANT, 1, WINDOW_BYTES]
    with pytest.raises(ProtocolError, match="not granted"):
        receiver.receive([CHUNK, 1, bytes(WINDOW_BYTES + 1)])
    with pytest.raises(ProtocolError, match="never offered"):
        receiver.receive([CHUNK, 2, b"x"])
    with pytest.raises(ProtocolError, match="used before"):
        receiver.receive([OFFER, 1, 5])


def test_what_is_too_large_or_too_much_is_refused_and_costs_nothing() -> None:
    receiver = Transfers()
    assert answer(receiver, [OFFER, 1, PAYLOAD_BYTES_MAX + 1])[:3] == [ABORT, 1, Code.TOO_LARGE]
    assert answer(receiver, [OFFER, 2, 2**62])[:3] == [ABORT, 2, Code.TOO_LARGE]
    assert receiver.held_bytes == 0
    assert answer(receiver, [OFFER, 3, PAYLOAD_BYTES_MAX])[0] == GRANT
    assert answer(receiver, [OFFER, 4, BYTES_MAX - PAYLOAD_BYTES_MAX + 1])[:3] == [ABORT, 4, Code.BUSY]
    assert answer(receiver, [OFFER, 5, BYTES_MAX - PAYLOAD_BYTES_MAX])[0] == GRANT
    assert receiver.held_bytes == BYTES_MAX
    assert receiver.receive([CHUNK, 4, b"late"]) is None, "sent before our refusal came"
    for number in (3, 5):
        receiver.receive([WITHDRAW, number])
    assert receiver.held_bytes == 0


def test_there_are_so_many_at_once() -> None:
    receiver = Transfers()
    answers = [answer(receiver, [OFFER, number, 1])[0] for number in range(1, TRANSFERS_MAX + 2)]
    assert answers == [GRANT] * TRANSFERS_MAX + [ABORT]


@pytest.mark.parametrize("digest", [b"", bytes(32)])
def test_a_damaged_value_is_refused_and_forgotten(digest: bytes) -> None:
    receiver = Transfers()
    answer(receiver, [OFFER, 1, 3])
    receiver.receive([CHUNK, 1, b"abc"])
    assert answer(receiver, [DONE, 1, digest])[:3] == [ABORT, 1, Code.DECODE]
    assert receiver.held_bytes == 0
    answer(receiver, [OFFER, 2, 3])
    assert answer(receiver, [DONE, 2, b""])[0] == ABORT, "a part is missing"
    assert answer(receiver, [DONE, 9, b""])[0] == ABORT, "nobody offered it"


def test_a_refusal_ends_our_transfer_and_leaves_theirs_of_the_same_number() -> None:
    side = Transfers()
    side.offer(b"ours")
    answer(side, [OFFER, 1, 4])
    aborted = side.receive([ABORT, 1, "busy", "no"])
    assert isinstance(aborted, Aborted)
    assert (aborted.error.code, aborted.error.message) == ("busy", "no")
    assert side.held_bytes == 4
    assert side.receive([ABORT, 1, "busy", "no"]) is None
    side.offer(b"more")
    side.receive([WITHDRAW, 2])
    assert side.receive([LANDED, 2]) == Sent(2), "they withdrew theirs, not ours"


@pytest.mark.parametrize("frame", [[7, 1], [9, "x"], [10], [1, 1, "v", 1, 0, b""], [36, "a", "b", "c"]])
def test_other_frames_have_no_place_here(frame: Frame) -> None:
    with pytest.raises(ProtocolError, match="no place"):
        Transfers().receive(frame)
