"""A node runs a task once: whatever its clock does, however little it remembers, and when it starts anew."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skerry.routing import ledger as module
from skerry.routing.ledger import ENTRY_BYTES, REMEMBER_BYTES, Done, Fresh, Ledger, Running, Stale
from tests.support.formation import NOW_MS

REQUESTERS = (b"r" * 32, b"q" * 32)
MINUTE_MS = 60_000
STEPS = st.sampled_from([0, 1, 2, 10, 500, 1_000, 30_000, 2 * MINUTE_MS, 6 * MINUTE_MS, 11 * MINUTE_MS])


class OneNode(RuleBasedStateMachine):
    """Tasks are made by requesters whose clocks are right or wrong by a constant, and asked for again and again.

    `_true_ms` is the time by which everything happens; the node's own clock is off from it by `_off_ms`, which steps.
    """

    @initialize(errors=st.tuples(st.sampled_from([0, 3, 40, -40, 200_000, -200_000]), st.just(0)))
    def start(self, errors: tuple[int, int]) -> None:
        self._true_ms = NOW_MS
        self._off_ms = 0
        self._errors = dict(zip(REQUESTERS, errors, strict=True))
        self._tasks: list[tuple[bytes, bytes, int]] = []
        self._runs: dict[tuple[bytes, bytes], int] = {}
        self._running: set[tuple[bytes, bytes]] = set()
        self._results: dict[tuple[bytes, bytes], bytes] = {}
        self._ledger = Ledger(start_ms=self._now_ms)

    @property
    def _now_ms(self) -> int:
        return self._true_ms + self._off_ms

    @rule(step_ms=STEPS)
    def time_passes(self, step_ms: int) -> None:
        self._true_ms += step_ms

    @rule(step_ms=st.sampled_from([-60 * MINUTE_MS, -6 * MINUTE_MS, -1_500, 1_500, 6 * MINUTE_MS, 60 * MINUTE_MS]))
    def somebody_sets_the_clock(self, step_ms: int) -> None:
        self._off_ms += step_ms

    @rule()
    def somebody_sets_it_right(self) -> None:
        self._off_ms = 0

    @rule(requester=st.sampled_from(REQUESTERS))
    def a_task_is_made_and_asked_for(self, requester: bytes) -> None:
        task_id = len(self._tasks).to_bytes(32, "big")
        self._tasks.append((requester, task_id, self._true_ms + self._errors[requester]))
        self._ask(len(self._tasks) - 1)

    @precondition(lambda self: self._tasks)
    @rule(data=st.data())
    def it_is_asked_for_again(self, data: st.DataObject) -> None:
        self._ask(data.draw(st.integers(0, len(self._tasks) - 1)))

    def _ask(self, number: int) -> None:
        requester, task_id, created_ms = self._tasks[number]
        key = (requester, task_id)
        match self._ledger.begin(requester, task_id, created_ms=created_ms, now_ms=self._now_ms):
            case Fresh():
                self._runs[key] = self._runs.get(key, 0) + 1
                self._running.add(key)
                assert self._runs[key] == 1, "a task ran twice"
            case Running():
                assert key in self._running
            case Done(result):
                assert result == self._results[key]
            case Stale():
                assert key not in self._running

    @precondition(lambda self: self._running)
    @rule(size_bytes=st.sampled_from([0, 100, REMEMBER_BYTES // 2, REMEMBER_BYTES + 1]))
    def one_ends(self, size_bytes: int) -> None:
        key = min(self._running)
        self._running.discard(key)
        self._results[key] = _zeros(size_bytes)
        self._ledger.finish(*key, self._results[key])

    @precondition(lambda self: self._running)
    @rule()
    def one_never_started(self) -> None:
        key = max(self._running)
        self._running.discard(key)
        self._ledger.abandon(*key)
        del self._runs[key]

    @invariant()
    def the_bytes_are_counted(self) -> None:
        if hasattr(self, "_ledger"):
            entries = self._ledger._entries.values()
            assert self._ledger.held_bytes == sum(ENTRY_BYTES + len(entry.result or b"") for entry in entries)


_ZEROS: dict[int, bytes] = {}


def _zeros(size_bytes: int) -> bytes:
    return _ZEROS.setdefault(size_bytes, bytes(size_bytes))


TestOneNode = OneNode.TestCase
assert module.CLOCK_MS > 200_000  # the errors above are within what is allowed for
