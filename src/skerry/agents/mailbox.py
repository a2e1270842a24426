"""What one agent has been sent and has not handled: in order for each session, each letter once, bounded.

For each session a *cursor* is kept on the disk: all up to it was handled, and its trace is in the agent's state. What waits is in memory
alone, since its sender keeps it until it was handled. So a letter that comes again after a crash is handled again, and one that comes
again because its sender did not hear of it is not.

The rule: a cursor only rises, and never past a letter that waits. `now_ms` is a parameter.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from skerry.agents.letters import Letter
from skerry.errors import Code, Refused, StorageError

CURSORS = "mailbox/"  # how the spaces of facts begin that hold an agent's cursors: mailbox/<agent id>
LETTERS_MAX = 1024  # that wait at one agent: seconds of work
BYTES_MAX = 8 * 1024 * 1024  # of their contents
SESSIONS_MAX = 10_000  # of one agent: their cursors take 1 MiB
TRIES_MAX = 3  # of one letter whose handler raises; then it is put aside
PASSING_MS = 120_000  # how long one is tried whose handler lacks somebody else: as long as an agent may take to start
_CURSOR = struct.Struct(">QQ")


@dataclass(slots=True)
class Cursor:
    """handled: the `seq` up to which a session's letters are done; used_ms: when that was, Unix ms."""

    handled: int
    used_ms: int

    def to_bytes(self) -> bytes:
        return _CURSOR.pack(self.handled, self.used_ms)

    @classmethod
    def from_bytes(cls, data: bytes) -> Cursor:
        """Raises StorageError: without it letters that were counted would be counted again."""
        if len(data) != _CURSOR.size:
            raise StorageError(
                "how far an agent's letters were handled can't be read: the disk has damaged it", hint="restore the home from a backup"
            )
        return cls(*_CURSOR.unpack(data))


class Mailbox:
    """One agent's."""

    def __init__(self, agent: str, cursors: Iterable[tuple[str, bytes]]) -> None:
        """`agent`: its name, for people. `cursors`: session and bytes, as `handled` gave them."""
        self._agent = agent
        self._cursors = {session: Cursor.from_bytes(data) for session, data in cursors}
        self._urgent: deque[Letter] = deque()
        self._queue: deque[Letter] = deque()
        self._came: dict[str, int] = {}  # the newest that waits or is being handled, by session
        self._bytes = 0
        self._tries: dict[str, tuple[int, int]] = {}  # by letter id, of those at the head: how many, and since when, Unix ms

    def __len__(self) -> int:
        return len(self._urgent) + len(self._queue)

    def count(self, counts: Callable[[str], bool]) -> int:
        """How many letters wait of those sessions that count."""
        return sum(counts(letter.session) for queue in (self._urgent, self._queue) for letter in queue)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def cursor(self, session: str) -> int:
        held = self._cursors.get(session)
        return held.handled if held is not None else 0

    def take(self, letters: list[Letter], *, is_foreign: bool = False) -> None:
        """Take in what is new of one session's letters, in order. Raises Refused(busy) where there is no room: then none was taken.

        is_foreign: they are of another formation, which leaves half of the room to ours
        """
        if not letters:
            return
        session = letters[0].session
        newest = max(self._came.get(session, 0), self.cursor(session))
        fresh = [letter for letter in letters if letter.seq > newest]
        size = sum(len(letter.content) for letter in fresh)
        parts = 2 if is_foreign else 1
        if fresh and (parts * (len(self) + len(fresh)) > LETTERS_MAX or parts * (self._bytes + size) > BYTES_MAX):
            raise Refused(f"{len(self)} letters wait at the agent {self._agent!r} already", code=Code.BUSY, hint="try again in a moment")
        for letter in sorted(fresh, key=lambda letter: letter.seq):
            (self._urgent if letter.urgent else self._queue).append(letter)
            self._came[session] = letter.seq
        self._bytes += size

    def next(self, most: int) -> list[Letter]:
        """The letters to be handled now: what interrupts first. Their bytes stay in the mailbox's count until `handled`."""
        found: list[Letter] = []
        for queue in (self._urgent, self._queue):
            while queue and len(found) < most:
                if found and (queue[0].id in self._tries or found[0].id in self._tries):
                    return found  # one that failed before goes alone: it must not take others along
                found.append(queue.popleft())
        return found

    def put_back(self, letters: list[Letter]) -> None:
        """They were not handled: they come first again."""
        for letter in reversed(letters):
            (self._urgent if letter.urgent else self._queue).appendleft(letter)

    def failed(self, letter: Letter, *, now_ms: int, passing: bool = False) -> bool:
        """A handler raised, or the process died with it. True: it was the last try. `passing`: for want of somebody who may be back."""
        tries, since_ms = self._tries.get(letter.id, (0, now_ms))
        self._tries[letter.id] = (tries if passing else tries + 1, since_ms)
        return now_ms - since_ms >= PASSING_MS if passing else tries + 1 >= TRIES_MAX

    def after(self, letters: list[Letter], *, now_ms: int) -> list[tuple[str, bytes]]:
        """The cursors to keep once these are handled, by session. Nothing changes here before `handled` says that they are kept."""
        newest: dict[str, int] = {}
        for letter in letters:
            newest[letter.session] = max(letter.seq, newest.get(letter.session, self.cursor(letter.session)))
        return [(session, Cursor(seq, now_ms).to_bytes()) for session, seq in newest.items()]

    def handled(self, letters: list[Letter], *, now_ms: int) -> None:
        """They are done, and the disk knows."""
        for letter in letters:
            self._bytes -= len(letter.content)
            self._tries.pop(letter.id, None)
            self._cursors[letter.session] = Cursor(max(letter.seq, self.cursor(letter.session)), now_ms)
            if self._came.get(letter.session) == letter.seq:
                del self._came[letter.session]

    def surplus(self) -> list[str]:
        """Sessions to forget, because there are too many: those that were used longest ago."""
        many = len(self._cursors) - SESSIONS_MAX
        if many <= 0:
            return []
        idle = sorted((one for one in self._cursors if one not in self._came), key=lambda one: (self._cursors[one].used_ms, one))[:many]
        for session in idle:
            del self._cursors[session]
        return idle
