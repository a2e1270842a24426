"""Bugs that were never there, to see whether the simulator would find them: each is a realistic slip in one real module, switched on for a
while. Which fault shows it is left to the seeds.

`python -m tests.sim.planted` (`make planted`) plays the seeds from 1 on with each, until one of 200 finds it.

The rule: a planted bug says nothing itself; a checker has to see what it does to a world. It counts as found only by the checker whose
business it is, with a seed that ends well without it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from skerry.agents.mailbox import CURSORS
from skerry.agents.sdk import HeldBack
from skerry.channel.links import Links
from skerry.identity.grants import Departure, Roster
from skerry.identity.statement import parse_unverified
from skerry.node.wire_rounds import Rounds
from skerry.ports import Fact
from skerry.records import replica as replica_module
from skerry.records.exchange import Compared, Outcome
from skerry.records.federation import Federation
from skerry.records.record import Refusal
from skerry.records.replica import Replica
from skerry.routing.ledger import Fresh, Ledger, Running
from skerry.sim.campaign import Plan, play
from skerry.sim.store import SimStore
from skerry.wiring.wires import Half

Plant = Callable[[pytest.MonkeyPatch], None]


def merge_by_arrival(patch: pytest.MonkeyPatch) -> None:
    """The merge forgets to compare: what came last wins, also the older over its tombstone."""
    patch.setattr(replica_module, "wins", lambda new, old_stamp, old_hash: new.hash != old_hash)


def merge_by_hash(patch: pytest.MonkeyPatch) -> None:
    """The merge forgets the stamps: of two versions the greater hash wins, whichever is newer."""
    patch.setattr(replica_module, "wins", lambda new, old_stamp, old_hash: new.hash > old_hash)


def task_forgotten_when_asked_again(patch: pytest.MonkeyPatch) -> None:
    """A task that comes again while it runs, as after a reconnect, is taken for a new one."""
    begin = Ledger.begin

    def begin_again(self: Ledger, requester: bytes, task_id: bytes, **times: int) -> Any:
        outcome = begin(self, requester, task_id, **times)
        return Fresh() if isinstance(outcome, Running) else outcome

    patch.setattr(Ledger, "begin", begin_again)


def grants_of_the_revoked_hold(patch: pytest.MonkeyPatch) -> None:
    """Whoever was let in by an operator stays in when that operator is revoked."""
    judge = Roster._judge

    def judge_alone(self: Roster, grant: Any, now_ms: int) -> Any:
        verdict = judge(self, grant, now_ms)
        if verdict.state == "revoked" and grant.issuer_grant is not None:
            known, self._revocations = self._revocations, {}
            try:
                return judge(self, grant, now_ms)
            finally:
                self._revocations = known
        return verdict

    patch.setattr(Roster, "_judge", judge_alone)


def departures_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """A node that has left is still one of us."""

    def none(self: Roster, subject: bytes) -> Departure | None:
        return None

    patch.setattr(Roster, "departure_of", none)


def unproven_uncounted(patch: pytest.MonkeyPatch) -> None:
    """A queue without its bound: connections in their handshake are as many as come."""
    init = Links.__init__

    def unbounded(self: Links, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        self._unproven._most_each = self._unproven._most = 1_000_000

    patch.setattr(Links, "__init__", unbounded)
    patch.setattr("skerry.channel.handshake.TIMEOUT_S", 3600.0)
    patch.setattr("skerry.channel.greeting.TIMEOUT_S", 3600.0)


def cursor_moves_over_pushes(patch: pytest.MonkeyPatch) -> None:
    """A push that was taken moves the cursor to the sender's end, over what never came; whoever has a cursor is not compared with again."""
    compare = Federation._compare

    async def skip(self: Federation, link: Any, *, gives: bool) -> Compared | None:
        if self._store.fact("cursor", link.id.hex()) is None:
            return await compare(self, link, gives=gives)
        self._is_in_sync(link, None)
        return Compared(Outcome.EQUAL)

    patch.setattr(Federation, "_compare", skip)


def refused_left_open(patch: pytest.MonkeyPatch) -> None:
    """A connection whose handshake failed is forgotten and not closed."""
    from skerry.channel.greeting import Greeting
    from skerry.channel.handshake import Closed

    perform = Greeting._perform

    def leave_open(self: Greeting, effects: list[Any]) -> None:
        closing = [effect for effect in effects if isinstance(effect, Closed)]
        perform(self, [effect for effect in effects if effect not in closing])
        for effect in closing:
            self._failed(effect.error)

    patch.setattr(Greeting, "_perform", leave_open)
    patch.setattr(Greeting, "_too_slow", lambda self: self._failed(RuntimeError("too slow")))


def signatures_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Records are read and not verified."""
    patch.setattr(replica_module, "parse", lambda signed: parse_unverified(signed)[0])


def pushes_that_failed_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What a full disk could not keep counts as kept: the sets have it, so no comparison finds it missing."""
    ingest = Replica.ingest

    def drop(self: Replica, signed: bytes, **options: Any) -> Any:
        from skerry.errors import StorageError
        from skerry.records.record import Rejection

        try:
            return ingest(self, signed, **options)
        except StorageError as error:
            row = replica_module._row_of(parse_unverified(signed)[0])
            for watcher in self._row_watchers:
                watcher(self._store.get(row.author, row.kind, row.name), row)
            return Refusal(Rejection.SUPERSEDED, error.message)

    patch.setattr(Replica, "ingest", drop)


def cursor_before_state(patch: pytest.MonkeyPatch) -> None:
    """That a letter was handled is kept at once, what it changed with the next commit."""

    def kept(self: SimStore, facts: Sequence[Fact]) -> None:
        for is_cursor in (True, False):
            for space, key, value in facts:
                if space.startswith(CURSORS) is is_cursor:
                    self.set_fact(space, key, value)
            if is_cursor:
                self.commit()

    patch.setattr(SimStore, "keep_together", kept)


def letters_leave_before_the_state_is_kept(patch: pytest.MonkeyPatch) -> None:
    """What a handler sends is sent, whatever becomes of the handler."""
    patch.setattr(HeldBack, "__enter__", lambda self: self)
    patch.setattr(HeldBack, "__exit__", lambda self, *_: None)


def no_rounds_of_wires(patch: pytest.MonkeyPatch) -> None:
    """Wires are made and taken away when somebody asks, and looked after by nobody."""

    async def nothing(self: Rounds, half: Half, name: str) -> None:
        return None

    patch.setattr(Rounds, "_make_so", nothing)


SEEDS_MAX = 200
WILD = Plan(0, faults="wild", seconds=30.0)
_DIFFERS = r"differs: "
_LETTERS = r"heard number|which heard \d|did not hear"
_NO_RIGHT = r"which no grant (says|allows)"


@dataclass(frozen=True, slots=True)
class Planted:
    """A plant, what the checker that is there for it says, and the first seed with which it does."""

    plant: Plant
    said: str
    seed: int

    @property
    def name(self) -> str:
        return self.plant.__name__


PLANTS: dict[str, Planted] = {
    one.name: one
    for one in (
        Planted(merge_by_arrival, rf"{_DIFFERS}|over its tombstone|a storm of records", 1),
        Planted(merge_by_hash, rf"{_DIFFERS}|over its tombstone", 1),
        Planted(task_forgotten_when_asked_again, r"ran twice on one node", 91),
        Planted(grants_of_the_revoked_hold, _NO_RIGHT, 1),
        Planted(departures_are_ignored, _NO_RIGHT, 1),
        Planted(unproven_uncounted, r"connections (that did not prove who they are|with \w+ that are nobody's)|of them from one place", 1),
        Planted(cursor_moves_over_pushes, _DIFFERS, 6),
        Planted(refused_left_open, r"that are nobody's|left open", 71),
        Planted(signatures_unchecked, r"its author did not sign", 3),
        Planted(pushes_that_failed_are_forgotten, _DIFFERS, 66),
        Planted(cursor_before_state, _LETTERS, 20),
        Planted(letters_leave_before_the_state_is_kept, _LETTERS, 59),
        Planted(no_rounds_of_wires, r"half a wire|does not know that its wire", 8),
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        PLANTS[name].plant(patch)
        yield


def finds(name: str, seed: int) -> str:
    """What the checker said of the plant with that seed; "" where it said nothing, or says it without the plant too."""
    plan = replace(WILD, seed=seed)
    with planted(name):
        failure = play(plan).failure
    if not re.search(PLANTS[name].said, failure) or play(plan).failure:
        return ""
    return failure.partition("\n")[0]


def first_that_finds(name: str) -> tuple[str, int, str]:
    """Its name, the first seed that finds it (0: none of those that are tried), and what was said."""
    for seed in range(1, SEEDS_MAX + 1):
        said = finds(name, seed)
        if said:
            return name, seed, said
    return name, 0, ""


def main() -> int:
    logging.disable(logging.CRITICAL)
    missed = 0
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for name, seed, said in pool.imap(first_that_finds, PLANTS):
            missed += not seed
            print(f"{name:34} {f'seed {seed}: {said[:120]}' if seed else f'not found by {SEEDS_MAX} seeds'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
