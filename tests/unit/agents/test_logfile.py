"""Logs stay small whatever is written, lose nothing that fits, and cost the writer patience rather than the node its disk."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path

import pytest

from skerry.agents.logfile import PER_S_BYTES_MAX, READ_BYTES, LogFile, Pump, end_of, last_lines, lines_after, older
from skerry.agents.processes import ProcessExecutor
from skerry.channel.stream import FrameStream
from skerry.ports import WorkerStart
from tests.support import async_poll_until


def _sizes(path: Path) -> list[int]:
    return [file.stat().st_size for number in range(10) if (file := older(path, number)).exists()]


def test_a_log_is_put_aside_between_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path, size_bytes_max=100, files=3)
    for number in range(100):
        log.write(b"line %04d\n" % number)
    log.close()
    assert _sizes(path) == [100, 100, 100]
    assert path.read_text().splitlines()[-1] == "line 0099"
    assert older(path, 1).read_text().splitlines()[-1] == "line 0089"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_many_lines_at_once_are_cut_between_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path, size_bytes_max=95, files=4)
    log.write(b"".join(b"line %04d\n" % number for number in range(20)))
    log.close()
    whole = b"".join(older(path, number).read_bytes() for number in (2, 1, 0))
    assert whole == b"".join(b"line %04d\n" % number for number in range(20))
    assert all(older(path, number).read_bytes().endswith(b"\n") for number in (2, 1, 0))


def test_a_line_without_an_end_does_not_grow_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path, size_bytes_max=100_000, files=2)
    for _ in range(20):
        log.write(b"x" * READ_BYTES)
    log.close()
    assert max(_sizes(path)) <= 100_000
    assert len(_sizes(path)) == 2


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_limit_smaller_than_a_line_ends_all_the_same(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path, size_bytes_max=size, files=1)
    log.write(b"a line of words\n" * 2 + b"y" * 500)
    log.close()
    assert max(_sizes(path)) <= size


def test_an_old_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"before\n" * 10)
    log = LogFile(path, size_bytes_max=75)
    log.write(b"after 1\n")
    log.close()
    assert path.read_text() == "after 1\n"
    assert older(path, 1).read_text() == "before\n" * 10


def test_a_disk_that_takes_nothing_costs_lines_alone(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "gone" / "a.log")
    log.write(b"nobody reads this\n")
    assert log.lost_bytes == 18
    (tmp_path / "gone").mkdir()
    log.write(b"back\n")
    log.close()
    assert (tmp_path / "gone" / "a.log").read_text() == "back\n"


def test_the_last_lines_reach_back_into_the_file_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    older(path, 1).write_text("".join(f"old {n}\n" for n in range(10)))
    path.write_text("new 0\nnew 1\n")
    assert last_lines(path, lines=4, size_bytes_max=10_000) == "old 8\nold 9\nnew 0\nnew 1"
    assert last_lines(path, lines=1, size_bytes_max=10_000) == "new 1"
    assert last_lines(path, lines=9, size_bytes_max=8) == "0\nnew 1"
    assert last_lines(tmp_path / "none.log", lines=9, size_bytes_max=100) == ""


def test_who_follows_a_log_loses_nothing_where_it_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert (end_of(path), lines_after(path, "0.0", size_bytes_max=1000)) == ("", ("", "0.0"))
    log = LogFile(path, size_bytes_max=100)
    log.write(b"before\n")
    cursor, seen = end_of(path), []
    for number in range(60):
        log.write(b"line %04d\n" % number)
        if number % 7 == 0:
            text, cursor = lines_after(path, cursor, size_bytes_max=1000)
            seen += text.splitlines()
    text, cursor = lines_after(path, cursor, size_bytes_max=1000)
    log.write(b"half a line")
    assert seen + text.splitlines() == [f"line {number:04d}" for number in range(60)]
    assert lines_after(path, cursor, size_bytes_max=1000) == ("", cursor)
    log.write(b", and its end\n")
    assert lines_after(path, cursor, size_bytes_max=1000)[0] == "half a line, and its end"
    log.close()


@pytest.mark.parametrize("cursor", ["0.0", "x", "1." + "9" * 5000, ".", "1.\u00b2", "-1.-1"])
def test_a_cursor_that_means_nothing_starts_at_the_beginning(tmp_path: Path, cursor: str) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\n")
    assert lines_after(path, cursor, size_bytes_max=1000)[0] == "one\ntwo"
    assert lines_after(path, cursor, size_bytes_max=5)[0].endswith("two")


async def test_a_pump_carries_everything_and_ends_with_its_writer(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    path = tmp_path / "a.log"
    Pump(reading, LogFile(path))
    os.write(writing, b"first\n")
    await async_poll_until(lambda: path.exists() and path.read_text() == "first\n")
    os.write(writing, b"last words\n")
    os.close(writing)
    await async_poll_until(lambda: path.read_text() == "first\nlast words\n")


async def test_last_words_are_taken_at_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    pump = Pump(reading, LogFile(tmp_path / "a.log"))
    os.write(writing, b"last words\n")
    pump.drain()  # a child that fled holds the other end still
    assert (tmp_path / "a.log").read_text() == "last words\n"
    pump.drain()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"nobody listens\n")
    os.close(writing)


async def test_who_prints_too_much_waits_and_the_loop_goes_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    path = tmp_path / "a.log"
    pump = Pump(reading, LogFile(path, size_bytes_max=256 * 1024))
    total = PER_S_BYTES_MAX // 2
    loop = asyncio.get_running_loop()
    began = loop.time()

    def flood() -> None:
        left = total
        while left > 0:
            left -= os.write(writing, b"z" * 1023 + b"\n")
        os.close(writing)

    thread = threading.Thread(target=flood)
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += 1
        await asyncio.sleep(0)
    took_s = loop.time() - began
    thread.join()
    pump.drain()
    assert took_s > 0.3  # half a second's share
    assert turns > 1000
    assert sum(_sizes(path)) <= 512 * 1024


async def test_what_a_worker_prints_lands_in_a_log_that_stays_small(tmp_path: Path) -> None:
    """The real executor: the worker is told nonsense, so it dies with a traceback, and those last words are in the log."""
    path = tmp_path / "a.log"
    executor = ProcessExecutor(sandbox=False, log_bytes_max=4096)
    path.write_bytes(b"before\n" * 1000)
    worker = await executor.spawn(WorkerStart("a", path, env={"PYTHONHOME": "/nonexistent"}), FrameStream, FrameStream)
    assert await worker.wait() != 0
    assert "PYTHONHOME" in path.read_text()
    assert path.stat().st_size <= 4096
    assert older(path, 1).read_bytes() == b"before\n" * 1000
