"""However many calls come at once: some begin in each turn of the loop, and nobody waits for all of another's."""

from __future__ import annotations

import asyncio

from skerry.channel.turns import BESIEGED, CALLS_PER_TURN, FIRST_PER_TURN, LOW, Turns

COUNTED = 20  # turns of the loop, more than any test takes


class Callers:
    """Notes which call of whom began in which turn of the loop."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.turn = 0
        self.begun: list[tuple[int, str]] = []
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._count)

    def _count(self) -> None:
        self.turn += 1
        if self.turn < COUNTED:
            self._loop.call_soon(self._count)

    def call(self, caller: str, *, first: bool = False, is_wanted: bool = True) -> None:
        if self.turns.take():
            self._begin(caller)
        else:
            self.turns.wait(caller.encode(), lambda: is_wanted and self._begin(caller), first=first)

    def _begin(self, caller: str) -> bool:
        self.begun.append((self.turn, caller))
        return True

    async def rest(self) -> None:
        while self.turn < COUNTED:
            await asyncio.sleep(0)

    def begun_in(self, turn: int) -> list[str]:
        return [caller for at, caller in self.begun if at == turn]


async def test_few_calls_begin_at_once_in_every_turn() -> None:
    callers = Callers()
    for _ in range(COUNTED):
        for _ in range(LOW):
            callers.call("ada")
        assert len(callers.begun_in(callers.turn)) == LOW
        await asyncio.sleep(0)


async def test_many_begin_some_in_each_turn() -> None:
    callers = Callers()
    for _ in range(CALLS_PER_TURN + 3 * BESIEGED + 1):
        callers.call("ada")
    await callers.rest()
    assert [len(callers.begun_in(turn)) for turn in range(6)] == [CALLS_PER_TURN, BESIEGED, BESIEGED, BESIEGED, 1, 0]


async def test_callers_have_their_turns_one_after_the_other() -> None:
    callers = Callers()
    for _ in range(3 * CALLS_PER_TURN):
        callers.call("greedy")
    callers.call("modest")
    assert "modest" not in callers.begun_in(0)
    await callers.rest()
    assert callers.begun_in(1)[:2] == ["greedy", "modest"]


async def test_nobody_passes_those_who_wait() -> None:
    callers = Callers()
    for _ in range(CALLS_PER_TURN + 2 * BESIEGED):
        callers.call("greedy")
    await asyncio.sleep(0)
    callers.call("late")
    assert "late" not in callers.begun_in(callers.turn)
    await callers.rest()
    assert callers.begun_in(2).count("greedy") == BESIEGED - 1


async def test_a_first_call_does_not_wait_for_those_who_have_others_but_not_too_many_come_so() -> None:
    callers = Callers()
    for _ in range(2 * CALLS_PER_TURN):
        callers.call("greedy")
    for number in range(FIRST_PER_TURN + 5):
        callers.call(f"modest {number}", first=True)
    at_once = [caller for caller in callers.begun_in(0) if caller != "greedy"]
    assert at_once == [f"modest {number}" for number in range(FIRST_PER_TURN)]
    await callers.rest()
    assert len(callers.begun) == 2 * CALLS_PER_TURN + FIRST_PER_TURN + 5


async def test_a_call_that_nobody_wants_takes_no_turn() -> None:
    callers = Callers()
    for _ in range(CALLS_PER_TURN):
        callers.call("ada")
    for _ in range(5):
        callers.call("gone", is_wanted=False)
    for _ in range(BESIEGED):
        callers.call("ada")
    await callers.rest()
    assert callers.begun_in(1) == ["ada"] * BESIEGED
