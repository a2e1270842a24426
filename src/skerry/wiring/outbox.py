"""What this node's agents and clients have sent and nobody has handled yet, on the disk.

A letter is here from the commit in which it was sent until the receiver's node says that it was handled. Each session is a queue of its
own. What lies here is bounded for each session and in all, and a full outbox refuses whoever sends more.

What is to be written is returned, so that it goes into one commit with whatever it belongs to; `note` is called once it is on the disk, and
`forgo` where it never will be. Until then it takes its room already: many may be sent in one moment.

The rule: a letter leaves the outbox only because it was handled, or because it can't be, and then it is kept with the reason (`aside.py`).
`now_ms` is a parameter.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from skerry.agents.letters import Letter
from skerry.channel.messages import convert
from skerry.errors import Code, ProtocolError, Refused
from skerry.identity.codec import pack, unpack
from skerry.identity.stamps import next_stamp
from skerry.ports import Fact, Store

SPACE = "outbox"  # the space of facts: session/seq -> Entry
STAMP = "stamp"  # the last `seq` that was given; in the space ...
META = "outbox-meta"
SESSION_LETTERS_MAX = 1000  # that wait in one session: above it the sender hears `busy`
SESSION_BYTES_MAX = 8 * 1024 * 1024
LETTERS_MAX = 100_000  # in all
BYTES_MAX = 128 * 1024 * 1024
HELD_PARTS = 2  # times those bounds: for all at most, with what handlers found room for and held back
BELIEVED_MAX = 2**62  # a receiver's cursor beyond it is no number that any clock gave
log = logging.getLogger(__name__)


class Target(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a letter goes: an agent's id, the node that hosts it, and the formation, empty for our own."""

    agent: str
    node: bytes
    formation: bytes = b""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """As it lies on the disk. `voucher`: by which its receiver takes it from us (`vouchers.py`), also when its sender is gone."""

    target: Target
    letter: Letter
    voucher: bytes = b""


def read_entry(data: bytes) -> Entry:
    """Raises ProtocolError."""
    entry = convert(unpack(data), Entry)
    if not entry.letter.is_sound:
        raise ProtocolError("a letter that is no letter")
    return entry


@dataclass(slots=True)
class Session:
    """What waits in one session, oldest first."""

    target: Target
    voucher: bytes
    letters: deque[Letter] = field(default_factory=deque)
    size_bytes: int = 0


class Outbox:
    """One node's."""

    def __init__(self, store: Store) -> None:
        self._sessions: dict[str, Session] = {}
        self._count = self._size = self._coming_bytes = 0
        self._coming: dict[int, Letter] = {}  # written, and not on the disk yet, by their place
        self._coming_to: dict[str, list[int]] = {}  # of each session: how many of those, and their bytes
        stamp = store.fact(META, STAMP)
        self._last = int.from_bytes(stamp, "big") if stamp else 0
        for key, data in store.facts(SPACE):
            try:
                entry = read_entry(data)
            except ProtocolError as error:  # what is damaged stays where it is, and the others go
                log.error("the letter %s of the outbox can't be read, and is not delivered: %s", key, error)
                continue
            self.note(entry)
            self._last = max(self._last, entry.letter.seq)
        self._former = self._last  # what was written up to here is of a former life

    def __len__(self) -> int:
        return self._count

    def sessions(self) -> list[str]:
        """Those in which something waits."""
        return list(self._sessions)

    def waiting(self) -> dict[str, int]:
        """How many letters wait, by the id of the agent that they are for."""
        found: dict[str, int] = {}
        for held in self._sessions.values():
            found[held.target.agent] = found.get(held.target.agent, 0) + len(held.letters)
        return found

    def oldest(self, most: int) -> list[Entry]:
        """What waits, session by session, the oldest of each first."""
        waiting = (Entry(held.target, letter) for held in self._sessions.values() for letter in held.letters)
        return list(islice(waiting, most))

    def check_room(self, session: str) -> None:
        """Raises Refused(busy) where no more may wait in a session, or in all."""
        held = self._sessions.get(session)
        coming, coming_bytes = self._coming_to.get(session, _NONE)
        waiting = coming + (len(held.letters) if held is not None else 0)
        size_bytes = coming_bytes + (held.size_bytes if held is not None else 0)
        is_full = waiting >= SESSION_LETTERS_MAX or size_bytes >= SESSION_BYTES_MAX
        if is_full or self._count + len(self._coming) >= LETTERS_MAX or self._size + self._coming_bytes >= BYTES_MAX:
            raise Refused(
                f"{waiting} letters of this session wait to be handled, {self._count} in all: no more are taken",
                code=Code.BUSY,
                hint="the receiver is slow or away; try again later",
            )

    def check_share(self) -> None:
        """Raises Refused(busy) where others than our own agents and people may add nothing: they fill no more than half of it."""
        if 2 * self._count >= LETTERS_MAX or 2 * self._size >= BYTES_MAX:
            raise Refused(f"{self._count} letters wait at this node to be handled", code=Code.BUSY, hint="try again later")

    def check_held(self, contents: Sequence[bytes]) -> None:
        """Raises Refused(busy) where what handlers held back is too much. Each asked for room as it was written, beside others that did, so
        it may go beyond what there is for others; but a worker may say anything, and without end it would fill the disk."""
        count = self._count + len(self._coming) + len(contents)
        size_bytes = self._size + self._coming_bytes + sum(map(len, contents))
        if count > HELD_PARTS * LETTERS_MAX or size_bytes > HELD_PARTS * BYTES_MAX:
            raise Refused(f"{self._count} letters wait: no more are taken of what handlers sent", code=Code.BUSY, hint="try again later")

    def write(
        self, session: str, target: Target, *, sender: str, reply_to: str, content: bytes, now_ms: int, voucher: bytes = b""
    ) -> Entry:
        """A letter with its place in the session. Whoever may be told no asked `check_room` before; for what handlers sent `check_held`."""
        self._last = next_stamp(self._last, now_ms=now_ms)
        letter = self._coming[self._last] = Letter(session, self._last, sender, reply_to, content)
        self._count_coming(letter, 1)
        return Entry(target, letter, voucher)

    def forgo(self, entries: list[Entry]) -> None:
        """They could not be kept: nobody will take them."""
        for entry in entries:
            if self._coming.pop(entry.letter.seq, None) is not None:
                self._count_coming(entry.letter, -1)

    def _count_coming(self, letter: Letter, sign: int) -> None:
        coming = self._coming_to.setdefault(letter.session, [0, 0])
        coming[0] += sign
        coming[1] += sign * len(letter.content)
        self._coming_bytes += sign * len(letter.content)
        if not coming[0]:
            del self._coming_to[letter.session]

    def facts(self, entries: list[Entry]) -> list[Fact]:
        """What to keep of letters that were written."""
        if not entries:
            return []
        kept: list[Fact] = [(SPACE, _key(one.letter), pack(msgspec.to_builtins(one, builtin_types=(bytes,)))) for one in entries]
        return [*kept, (META, STAMP, self._last.to_bytes(8, "big"))]

    def note(self, entry: Entry) -> None:
        """A letter is on the disk: it waits to be delivered."""
        letter = entry.letter
        self.forgo([entry])  # it takes its room as one that waits
        held = self._sessions.setdefault(letter.session, Session(entry.target, entry.voucher))
        held.target, held.voucher = entry.target, entry.voucher  # the newest: an agent that moved has others
        held.letters.append(letter)
        held.size_bytes += len(letter.content)
        self._count += 1
        self._size += len(letter.content)

    def target(self, session: str) -> Target | None:
        held = self._sessions.get(session)
        return held.target if held is not None else None

    def voucher(self, session: str) -> bytes:
        held = self._sessions.get(session)
        return held.voucher if held is not None else b""

    def head(self, session: str, *, most: int, bytes_max: int) -> list[Letter]:
        """The oldest letters of a session, at least one where there is one."""
        found: list[Letter] = []
        size = 0
        for letter in self._sessions[session].letters if session in self._sessions else ():
            size += len(letter.content)
            if found and (len(found) >= most or size > bytes_max):
                break
            found.append(letter)
        return found

    def done(self, session: str, up_to: int) -> list[Letter]:
        """The receiver handled a session's letters up to that `seq`: they go. Returns them; what is lost of that by a crash costs a second
        delivery."""
        held = self._sessions.get(session)
        gone: list[Letter] = []
        while held is not None and held.letters and held.letters[0].seq <= up_to:
            gone.append(self._drop(session, held))
        return gone

    def is_passed(self, session: str, up_to: int) -> bool:
        """Whether the receiver's cursor stands beyond letters that it can't have handled: no letter of ours has that number. Then this home
        came back from a backup, or lost what it said last with the power, and its clock goes behind."""
        held = self._sessions.get(session)
        ours = [letter.seq for letter in held.letters if letter.seq > self._former] if held is not None else []
        return bool(ours) and ours[0] <= up_to <= BELIEVED_MAX and up_to not in ours

    def renumber(self, session: str, up_to: int) -> tuple[list[Entry], list[Fact]]:
        """New places beyond `up_to` for the letters of a session that were written in this life; `renumbered` is called once the facts are
        on the disk. Older ones may have been handled: they are left to the cursor."""
        held = self._sessions[session]
        self._last = max(self._last, up_to)
        ours = [letter for letter in held.letters if letter.seq > self._former]
        anew: list[Entry] = []
        for letter in ours:
            self._last = next_stamp(self._last, now_ms=0)
            anew.append(Entry(held.target, msgspec.structs.replace(letter, seq=self._last), held.voucher))
        return anew, [*forgotten(ours), *self.facts(anew)]

    def renumbered(self, session: str, entries: list[Entry]) -> None:
        held = self._sessions[session]
        former = [letter for letter in held.letters if letter.seq <= self._former]
        held.letters = deque([*former, *(entry.letter for entry in entries)])

    def give_up(self, session: str, *, most: int) -> list[Entry]:
        """The oldest letters of a session can't be delivered, for a reason that does not pass: they make room. Their place on the disk is
        `forgotten`'s."""
        gone: list[Entry] = []
        held = self._sessions.get(session)
        while held is not None and held.letters and len(gone) < most:
            gone.append(Entry(held.target, self._drop(session, held), held.voucher))
        return gone

    def _drop(self, session: str, held: Session) -> Letter:
        letter = held.letters.popleft()
        held.size_bytes -= len(letter.content)
        self._count -= 1
        self._size -= len(letter.content)
        if not held.letters:
            del self._sessions[session]
        return letter


_NONE = (0, 0)


def forgotten(letters: list[Letter]) -> list[Fact]:
    """What there is to write of letters that left the outbox."""
    return [(SPACE, _key(letter), None) for letter in letters]


def _key(letter: Letter) -> str:
    return f"{letter.session}/{letter.seq:016x}"
