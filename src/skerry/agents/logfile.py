"""Log files that stay small: one file that is written, and a bounded number of older ones beside it.

`NAME.log` is put aside as `NAME.log.1` when it is full, that one as `.2`, and so on; the oldest goes. A full disk loses lines, never the
program that writes them.

What an agent prints comes through a pipe that its node reads (`Pump`), because nothing else bounds it: a file that the worker holds open
itself grows between two looks at it by as much as the agent can write, and cutting it from outside loses what is written meanwhile. An
agent that prints faster than the node cares to read waits in its own `print`; the last words of a process that dies are still in the pipe.

The rule: no agent can fill the disk, or keep the node busy, by what it prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

SIZE_BYTES_MAX = 10 * 1024 * 1024  # of one file, where nobody says otherwise
AGENT_FILES = 2  # the log in use and one older: half of the space always holds the newest lines
READ_BYTES = 64 * 1024  # at most at once, so that the loop goes on
PER_S_BYTES_MAX = 4 * 1024 * 1024  # more than anybody reads; copying it costs the node about 1 % of a core
TURN_S = 0.05  # how long an agent waits that printed more than its share of such a time
OFFSET_DIGITS_MAX = 18  # of a cursor: no file is larger
PIPE_BYTES_MAX = 1024 * 1024  # the most that Linux keeps in a pipe: more can't be the last words of a process that is gone


class LogFile:
    """One log on the disk, 0600. `write` never raises for a disk that is full or gone: `lost_bytes` counts what it cost."""

    def __init__(self, path: Path, *, size_bytes_max: int = SIZE_BYTES_MAX, files: int = AGENT_FILES) -> None:
        self.path = path
        self.lost_bytes = 0
        self._size_bytes_max = size_bytes_max
        self._files = files
        self._descriptor: int | None = None
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append whole lines, or what there is of them."""
        rest = memoryview(data)
        try:
            while rest:
                self._open()
                assert self._descriptor is not None
                room = self._size_bytes_max - self._size
                piece = rest if len(rest) <= room else rest[: _cut(rest, room, fresh=self._size == 0)]
                if not piece:
                    self._put_aside()
                    continue
                written = os.write(self._descriptor, piece)
                self._size += written
                rest = rest[written:]
        except OSError:
            self.lost_bytes += len(rest)
            self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._descriptor).st_size

    def _put_aside(self) -> None:
        self.close()
        for number in range(self._files - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                older(self.path, number - 1).replace(older(self.path, number))
        if self._files == 1:
            self.path.unlink(missing_ok=True)


def older(path: Path, number: int) -> Path:
    """The log that was put aside `number` files ago; 0 is the one in use."""
    return path.with_name(f"{path.name}.{number}") if number else path


def _cut(data: memoryview, room: int, *, fresh: bool) -> int:
    """Where to cut what does not fit: after the last line that does. A line that not even a fresh file can hold is cut anywhere."""
    return bytes(data[: max(room, 0)]).rfind(b"\n") + 1 or (max(room, 1) if fresh else 0)


def last_lines(path: Path, *, lines: int, size_bytes_max: int) -> str:
    """The last lines of a log, from the files put aside too where the newest one is short; "" where there is none."""
    found = b""
    number = 0
    while len(found) < size_bytes_max and found.count(b"\n") <= lines:
        try:
            with older(path, number).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - (size_bytes_max - len(found))))
                found = file.read() + found
        except OSError:
            break
        number += 1
    return "\n".join(found.decode(errors="replace").splitlines()[-lines:]) if lines > 0 else ""


def end_of(path: Path) -> str:
    """The cursor of somebody who has read all of a log: `inode.offset`; "" where there is no log yet."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_ino}.{stat.st_size}"


def lines_after(path: Path, cursor: str, *, size_bytes_max: int) -> tuple[str, str]:
    """The whole lines that came after a cursor, and the next cursor. Where that file was put aside, its rest comes first; a cursor that
    means nothing any more starts at the beginning of the log in use. Of more than fits the newest is kept."""
    inode, _, digits = cursor.partition(".")
    offset = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= OFFSET_DIGITS_MAX else 0
    found = b""
    for number in (1, 0):
        try:
            with older(path, number).open("rb") as file:
                stat = os.fstat(file.fileno())
                known = str(stat.st_ino) == inode
                if number and not known:
                    continue
                start = max(min(offset, stat.st_size) if known else 0, stat.st_size - size_bytes_max)
                file.seek(start)
                data = file.read(size_bytes_max)
                data = data[: data.rfind(b"\n") + 1]
                found = (found + data)[-size_bytes_max:]
                cursor = f"{stat.st_ino}.{start + len(data)}"
        except OSError:
            continue
    return "\n".join(found.decode(errors="replace").splitlines()), cursor


class Pump:
    """Carries what one worker prints from its pipe into its log."""

    def __init__(self, reading: int, log: LogFile) -> None:
        """`reading`: the pipe's end, ours from now on."""
        os.set_blocking(reading, False)
        self._reading: int | None = reading
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._share = PER_S_BYTES_MAX * TURN_S
        self._turn_ends = 0.0
        self._waits: asyncio.TimerHandle | None = None
        self._loop.add_reader(reading, self._read)

    def _read(self) -> None:
        if self._take() and self._share <= 0:  # it printed its share of this time: let it wait
            assert self._reading is not None
            self._loop.remove_reader(self._reading)
            self._waits = self._loop.call_later(TURN_S, self._go_on)

    def _go_on(self) -> None:
        self._waits = None
        if self._reading is not None:
            self._loop.add_reader(self._reading, self._read)

    def _take(self) -> bool:
        """One piece; False where there is none now, or never will be."""
        assert self._reading is not None
        try:
            data = os.read(self._reading, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._end()
            return False
        now = self._loop.time()
        if now >= self._turn_ends:
            self._turn_ends, self._share = now + TURN_S, PER_S_BYTES_MAX * TURN_S
        self._share -= len(data)
        self._log.write(data)
        return True

    def drain(self) -> None:
        """Its process is gone: take its last words, which are in the pipe, and end; a child that fled may hold the other end still."""
        for _ in range(PIPE_BYTES_MAX // READ_BYTES):
            if self._reading is None or not self._take():
                break
        self._end()

    def _end(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
        if self._reading is not None:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = None
        self._log.close()
