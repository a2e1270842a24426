"""Everything observable of a world, one line per event, with its virtual time.

The rule: two runs are the same when their traces are, byte for byte; so nothing goes in that another process could see otherwise.
"""

from __future__ import annotations

import hashlib
from collections import deque
from pathlib import Path

TAIL_LINES = 60  # shown with a failure


class Trace:
    """Keeps a digest of all lines and the last few; all of them in a file, where one is named."""

    def __init__(self, file: Path | None = None, *, tail_lines: int = TAIL_LINES) -> None:
        self.lines = 0
        self._tail: deque[str] = deque(maxlen=tail_lines)
        self._hasher = hashlib.blake2b(digest_size=16)
        self._file = file.open("w", encoding="utf-8") if file is not None else None

    def note(self, line: str) -> None:
        self.lines += 1
        self._tail.append(line)
        self._hasher.update(line.encode())
        self._hasher.update(b"\n")
        if self._file is not None:
            self._file.write(line + "\n")

    @property
    def digest(self) -> str:
        return self._hasher.hexdigest()

    def tail(self) -> list[str]:
        return list(self._tail)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
