"""Which tasks this node has run: each (requester, task id) at most once, also across a restart.

A task that comes again while it runs waits for the same outcome; one that is done gets the remembered result. Results are remembered for
10 minutes or 64 MiB. What may be older than this memory reaches is refused as stale, and never run again: with `window` = now less the
time of the newest task that was forgotten (or of the node's start), a task may claim an age of up to `window - slack`, where slack =
min(window / 2, 5 min) is what the requester's clock may be wrong by, beyond the difference that the handshake measured. And of each
requester the newest time that a forgotten task of its bore is kept: what bears that time or an older one is stale whatever our clock says.

The rule: forgetting a result may cost a caller its answer, never run its task twice.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from skerry.identity.pieces import Body

REMEMBER_MS = 10 * 60 * 1000
REMEMBER_BYTES = 64 * 1024 * 1024
ENTRY_BYTES = 400  # what an entry costs beside its result
CLOCK_MS = 5 * 60 * 1000  # the most that a requester's clock may be wrong by
REQUESTERS_MAX = 4096  # whose newest forgotten task is known; nodes of one formation

Key = tuple[bytes, bytes]


@dataclass(slots=True)
class Entry:
    """One task: `result` is None while it runs."""

    seen_ms: int
    created_ms: int
    result: Body | None = None


@dataclass(frozen=True, slots=True)
class Fresh:
    """Run it."""


@dataclass(frozen=True, slots=True)
class Running:
    """It runs already."""


@dataclass(frozen=True, slots=True)
class Done:
    """It ran; this came of it."""

    result: Body


@dataclass(frozen=True, slots=True)
class Stale:
    """It is older than what we remember: whether it ran can't be said."""

    age_ms: int


class Ledger:
    """The memory of one node, from `start_ms` on: before that anything may have run."""

    def __init__(self, *, start_ms: int) -> None:
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._bytes = 0
        self._forgotten_ms = start_ms
        self._forgotten_of: OrderedDict[bytes, int] = OrderedDict()  # requester -> when its newest forgotten task was made

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def begin(self, requester: bytes, task_id: bytes, *, created_ms: int, now_ms: int) -> Fresh | Running | Done | Stale:
        """Whether to run a task; `created_ms` by our clock, as far as we know the requester's. Fresh: it is now noted as running."""
        self.forget(now_ms=now_ms)
        key = (requester, task_id)
        entry = self._entries.get(key)
        if entry is not None:
            return Running() if entry.result is None else Done(entry.result)
        window_ms = max(now_ms - self._forgotten_ms, 0)
        slack_ms = min(window_ms // 2, CLOCK_MS)
        age_ms = now_ms - created_ms
        in_reach = -max(slack_ms, 1000) <= age_ms <= window_ms - slack_ms
        if not in_reach or created_ms <= self._forgotten_of.get(requester, created_ms - 1):
            return Stale(age_ms)
        self._entries[key] = Entry(now_ms, created_ms)
        self._bytes += ENTRY_BYTES
        return Fresh()

    def finish(self, requester: bytes, task_id: bytes, result: Body) -> None:
        """Remember what came of it."""
        entry = self._entries.get((requester, task_id))
        if entry is not None and entry.result is None:
            entry.result = result
            self._bytes += len(result)

    def abandon(self, requester: bytes, task_id: bytes) -> None:
        """It provably never started here: it may be asked for again."""
        if self._entries.pop((requester, task_id), None) is not None:
            self._bytes -= ENTRY_BYTES

    def forget(self, *, now_ms: int) -> None:
        """Drop the oldest that are done, while they are too old or too many; what still runs stays. Called also where no task comes."""
        running: list[tuple[Key, Entry]] = []
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if now_ms - entry.seen_ms <= REMEMBER_MS and self._bytes <= REMEMBER_BYTES:
                break
            del self._entries[key]
            if entry.result is None:
                running.append((key, entry))
                continue
            self._bytes -= ENTRY_BYTES + len(entry.result)
            self._forgotten_ms = max(self._forgotten_ms, entry.seen_ms)
            self._note_forgotten(key[0], entry.created_ms)
        for key, entry in reversed(running):
            self._entries[key] = entry
            self._entries.move_to_end(key, last=False)

    def _note_forgotten(self, requester: bytes, created_ms: int) -> None:
        self._forgotten_of[requester] = max(created_ms, self._forgotten_of.pop(requester, created_ms))
        if len(self._forgotten_of) > REQUESTERS_MAX:
            self._forgotten_of.popitem(last=False)
