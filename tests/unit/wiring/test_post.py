"""Carriers: each session in order and by itself, again until it was handled, aside where it can't be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from skerry.agents.letters import Letter, session_of
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.sim.clock import SimRandom
from skerry.sim.disk import SimDisk
from skerry.wiring import outbox as outbox_module
from skerry.wiring.outbox import BELIEVED_MAX, Outbox, Target
from skerry.wiring.post import BATCH_LETTERS, FINAL, MOST_S, Post
from tests.support import async_poll_until
from tests.support.links import simulated

HERE, THERE = session_of(b"here", "a"), session_of(b"there", "a")
TARGET = Target("ab" * 16, b"n" * 32)


class Office:
    """An outbox, its post, and a receiver that answers as `answer` says."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.store = self.disk.open()
        self.outbox = Outbox(self.store)
        self.offered: list[list[int]] = []
        self.done: list[int] = []
        self.aside: list[tuple[str, str, int]] = []
        self.renumbered: list[int] = []
        self.answer: Callable[[list[Letter]], int] = lambda letters: letters[-1].seq
        self.gate = asyncio.Event()
        self.gate.set()
        self.post = Post(
            self.outbox, deliver=self._deliver, random=SimRandom("post"), done=self._done, failed=self._failed, passed=self._passed
        )

    async def _deliver(self, target: Target, letters: list[Letter]) -> int:
        assert target == TARGET
        self.offered.append([one.seq for one in letters])
        await self.gate.wait()
        return self.answer(letters)

    def _done(self, letters: list[Letter]) -> None:
        self.done += [one.seq for one in letters]

    def _failed(self, session: str, error: SkerryError, most: int) -> None:
        gone = self.outbox.give_up(session, most=most)
        self.aside.append((session, error.code, len(gone)))

    def _passed(self, session: str, up_to: int) -> bool:
        entries, _ = self.outbox.renumber(session, up_to)
        self.outbox.renumbered(session, entries)
        self.renumbered.append(up_to)
        return True

    def send(self, count: int = 1, session: str = HERE) -> list[int]:
        sent = []
        for _ in range(count):
            entry = self.outbox.write(session, TARGET, sender="alpha", reply_to="", content=b"\x01", now_ms=1_750_000_000_000)
            self.outbox.note(entry)
            sent.append(entry.letter.seq)
        self.post.carry(session)
        return sent

    async def empty(self) -> None:
        await async_poll_until(lambda: not len(self.outbox), 60.0)
        await async_poll_until(lambda: not self.post._carriers, 60.0)


def refuse(code: str) -> Callable[[list[Letter]], int]:
    def answer(_: list[Letter]) -> int:
        raise Refused("no", code=code)

    return answer


@simulated
async def test_all_of_a_session_goes_in_order_and_in_batches() -> None:
    office = Office()
    sent = office.send(3 * BATCH_LETTERS + 1)
    await office.empty()
    assert office.done == sent
    assert [len(batch) for batch in office.offered] == [BATCH_LETTERS] * 3 + [1]


@simulated
async def test_a_closed_way_is_tried_again_sooner_where_somebody_says_so() -> None:
    office, loop = Office(), asyncio.get_running_loop()

    def away(_: list[Letter]) -> int:
        raise Unreachable("nobody there")

    office.answer = away
    sent = office.send(2)
    await asyncio.sleep(60)
    tries = len(office.offered)
    assert 10 <= tries <= 60 / (MOST_S / 3)
    assert all(batch == sent for batch in office.offered)
    office.answer = lambda letters: letters[-1].seq
    began = loop.time()
    office.post.try_again()
    await office.empty()
    assert loop.time() - began < 0.1
    assert office.done == sent
    assert office.post._tired == {}


@simulated
async def test_one_session_waits_for_no_other_one() -> None:
    office = Office()
    office.answer = lambda letters: letters[-1].seq if letters[0].session == THERE else 0
    office.send(2, HERE)
    there = office.send(2, THERE)
    await async_poll_until(lambda: office.done == there, 5.0)
    await office.post.close()


@simulated
@pytest.mark.parametrize("code", sorted(FINAL))
async def test_a_refusal_that_will_not_pass_puts_aside_and_goes_on(code: str) -> None:
    office = Office()
    office.answer = refuse(code)
    office.send(3)
    await office.empty()
    assert office.aside == [(HERE, code, 3)]
    office.answer = lambda letters: letters[-1].seq
    again = office.send()
    await office.empty()
    assert office.done == again


@simulated
@pytest.mark.parametrize("code", [Code.BUSY, Code.SHUTTING_DOWN, Code.DEADLINE_EXCEEDED, Code.AGENT_RESTARTING, "a_new_code"])
async def test_any_other_refusal_is_tried_again(code: str) -> None:
    office = Office()
    office.answer = refuse(code)
    sent = office.send(3)
    await asyncio.sleep(20)
    assert office.aside == []
    office.answer = lambda letters: letters[-1].seq
    await office.empty()
    assert office.done == sent


@simulated
async def test_what_was_handled_half_goes_on_with_the_rest() -> None:
    office = Office()
    office.answer = lambda letters: letters[0].seq
    sent = office.send(5)
    await office.empty()
    assert office.done == sent
    assert [len(batch) for batch in office.offered] == [5, 4, 3, 2, 1]


@simulated
async def test_a_peer_that_says_it_handled_what_it_never_had_is_not_believed() -> None:
    office = Office()
    office.answer = lambda letters: BELIEVED_MAX * 2 - 1
    office.send(BATCH_LETTERS + 5)
    await office.empty()
    assert [len(batch) for batch in office.offered] == [BATCH_LETTERS, 5], "the second batch was offered all the same"
    assert office.renumbered == []
    office.answer = lambda letters: -5
    office.send()
    await asyncio.sleep(10)
    assert len(office.outbox) == 1
    await office.post.close()


@simulated
async def test_letters_behind_a_forgotten_cursor_are_offered_anew() -> None:
    office = Office()
    before = office.send()[0] + (60_000 << 16)  # a cursor of a former life: a minute ahead

    def cursor(letters: list[Letter]) -> int:
        return max(before, letters[-1].seq)

    office.answer = cursor
    await office.empty()
    assert office.renumbered == [before]
    assert len(office.offered) == 2
    assert office.done[0] > before
    office.send()
    await office.empty()
    assert len(office.renumbered) == 1


@simulated
async def test_a_peer_that_always_has_a_cursor_beyond_what_it_is_offered_costs_no_more_than_one_that_is_down() -> None:
    office = Office()
    office.answer = lambda letters: letters[-1].seq + 1
    office.send(10)
    await asyncio.sleep(60)
    assert 10 < len(office.offered) < 30, "again and again, further and further apart"
    office.answer = lambda letters: letters[-1].seq
    await office.empty()
    assert len(office.done) == 10


@simulated
async def test_room_is_waited_for_and_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "SESSION_LETTERS_MAX", 2)
    office, loop = Office(), asyncio.get_running_loop()
    office.gate.clear()
    office.send(2)
    began = loop.time()
    with pytest.raises(Refused) as refused:
        await office.post.room(HERE, timeout_s=3.0)
    assert refused.value.code == Code.BUSY
    assert 2.9 < loop.time() - began < 3.2
    waiting = [asyncio.create_task(office.post.room(HERE, timeout_s=30.0)) for _ in range(3)]
    await asyncio.sleep(1)
    assert not any(one.done() for one in waiting)
    office.gate.set()
    await asyncio.gather(*waiting)
    await office.empty()


@simulated
async def test_after_the_end_nothing_is_carried_and_nothing_left() -> None:
    office = Office()
    office.gate.clear()
    office.send(2)
    office.answer = refuse(Code.BUSY)
    office.send(1, THERE)
    await asyncio.sleep(1)
    await office.post.close()
    assert office.post._carriers == {}
    office.send()
    assert office.post._carriers == {}
    assert len(office.outbox) == 4


@simulated
async def test_what_a_former_life_left_is_carried() -> None:
    office = Office()
    office.gate.clear()
    for session in (HERE, THERE):
        entry = office.outbox.write(session, TARGET, sender="alpha", reply_to="", content=b"\x01", now_ms=0)
        office.outbox.note(entry)
    office.gate.set()
    office.post.start()
    await office.empty()
    assert len(office.done) == 2
