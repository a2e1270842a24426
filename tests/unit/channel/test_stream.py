"""When the frames of a connection leave: alone at once, several in one write, many in several."""

from __future__ import annotations

import asyncio

from skerry.channel.framing import PART, PING, Frame, FrameReader
from skerry.channel.stream import FRAMES_PER_WRITE, FrameStream
from tests.support.links import simulated


class Writes(asyncio.Transport):
    """A transport that keeps each write by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[Frame]] = []
        self._reader = FrameReader()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(self._reader.feed(bytes(data)))

    def take(self) -> list[list[Frame]]:
        taken, self.writes = self.writes, []
        return taken

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """It has no buffer."""


def _stream() -> tuple[FrameStream, Writes]:
    stream, transport = FrameStream(), Writes()
    stream.connection_made(transport)
    return stream, transport


def _parts(count: int) -> list[Frame]:
    return [[PART, number, b"x"] for number in range(1, count + 1)]


async def _turn(stream: FrameStream, frames: list[Frame]) -> None:
    for frame in frames:
        stream.send(frame)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@simulated
async def test_a_frame_alone_leaves_at_once() -> None:
    stream, transport = _stream()
    for frame in _parts(3):
        stream.send(frame)
        assert transport.take() == [[frame]]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert transport.take() == []


@simulated
async def test_several_of_one_turn_leave_together_and_so_do_those_of_the_next() -> None:
    stream, transport = _stream()
    first, *rest = _parts(5)
    await _turn(stream, [first, *rest])
    assert transport.take() == [[first], rest]
    await _turn(stream, _parts(5))
    assert transport.take() == [_parts(5)]


@simulated
async def test_many_of_one_turn_leave_in_several_writes_while_the_turn_goes_on() -> None:
    """Else two sides with 64 calls in flight work by turns: one waits while the other works on all of them."""
    stream, transport = _stream()
    await _turn(stream, _parts(2))
    transport.take()
    frames = _parts(2 * FRAMES_PER_WRITE + 3)
    for frame in frames:
        stream.send(frame)
    assert [len(write) for write in transport.writes] == [FRAMES_PER_WRITE, FRAMES_PER_WRITE]
    await asyncio.sleep(0)
    assert [frame for write in transport.take() for frame in write] == frames
    await _turn(stream, _parts(FRAMES_PER_WRITE))
    assert transport.take() == [_parts(FRAMES_PER_WRITE)], "still crowded: a number that leaves nothing over must not count as none"
    await _turn(stream, _parts(2))
    assert transport.take() == [_parts(2)]


@simulated
async def test_control_frames_overtake_within_a_write() -> None:
    stream, transport = _stream()
    await _turn(stream, _parts(2))
    transport.take()
    await _turn(stream, [*_parts(2), [PING, 1]])
    assert transport.take() == [[[PING, 1], *_parts(2)]]
