"""What clerks and people write to each other all day: letters, answers, wires made and taken away.

It runs beside the workload, with a random stream of its own. What comes of it is the checkers' to see (`checkers/letters.py`, `wires.py`).

The rule: numbers are given by whoever sends, and a number is given once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from skerry.errors import SkerryError
from skerry.identity.codec import pack
from skerry.sim.checkers.letters import SCRIPT, LettersCount
from skerry.sim.clock import SimRandom
from skerry.sim.machine import Machine
from skerry.sim.process import Died
from skerry.sim.world import World
from skerry.wiring.verbs import SendRequest, WireAddRequest

UNDER_WAY_MAX = 32
CLERKS_EACH = 2
LETTERS_MAX = 8  # that one task sends
Act = Callable[[], Coroutine[Any, Any, None]]


class Correspondence:
    """Of one world."""

    def __init__(self, world: World, letters: LettersCount) -> None:
        self._world = world
        self._letters = letters
        self._random = SimRandom(f"{world.seed}/correspondence")
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._clerks = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._writing: set[tuple[str, str]] = set()  # a person writes one letter after the other

    async def run(self, seconds: float, *, every_s: float) -> None:
        """Something new about every `every_s`, for so long."""
        ends = self._world.now_s + seconds
        acts: list[tuple[Act, int]] = [(self._hire, 3), (self._tell, 10), (self._write, 5), (self._wire, 4), (self._unwire, 1)]
        while self._world.now_s < ends:
            await asyncio.sleep(self._random.expovariate(1 / every_s))
            (act,) = self._random.choices([act for act, _ in acts], [weight for _, weight in acts])
            if len(self._tasks) < UNDER_WAY_MAX:
                task = self._world.loop.create_task(act())
                self._tasks[task] = None
                task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def finish(self) -> None:
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _try(self, machine: Machine, what: str, work: Coroutine[Any, Any, Any]) -> Any:
        """None where it failed; the trace says why."""
        try:
            return await work
        except (SkerryError, Died) as error:
            self._world.note(machine.name, f"{what} failed: {getattr(error, 'code', 'died')}")
        return None

    def clerks(self) -> list[tuple[Machine, str, str]]:
        """All that there are on nodes that serve: the machine, name and id."""
        return [
            (machine, resident.spec.name, resident.spec.id)
            for machine in self._world.members()
            for resident in machine.node.host.all()
            if resident.spec.entry.endswith(SCRIPT)
        ]

    def _two(self) -> list[tuple[Machine, str, str]]:
        clerks = self.clerks()
        return self._random.sample(clerks, 2) if len(clerks) > 1 else []

    # --- acts -----------------------------------------------------------------------------------------------------------------

    async def _hire(self) -> None:
        """A name begins with its machine's, and nobody else ever has it."""
        clerks = self.clerks()
        free = [machine for machine in self._world.members() if sum(one[0] is machine for one in clerks) < CLERKS_EACH]
        if free:
            machine = self._random.choice(free)
            self._clerks += 1
            await self._try(machine, "hire", machine.run_agent("Clerk", f"{machine.name}-clerk-{self._clerks}"))

    async def _tell(self) -> None:
        """A clerk writes some letters to another one, which may answer each."""
        pair = self._two()
        if pair:
            (machine, _, one), (host, _, other) = pair
            address = f"{other}@{host.key.public.hex()}"
            payload = [address, self._random.randint(1, LETTERS_MAX), self._random.random() < 0.5]
            await self._try(machine, "tell", machine.call("custom:tell", payload, agent=one, timeout_s=30.0))

    async def _write(self) -> None:
        """A person writes by one of the nodes."""
        clerks, members = self.clerks(), self._world.members()
        if not clerks or not members:
            return
        machine = self._random.choice(members)
        host, name, other = self._random.choice(clerks)
        key = (machine.name, other)
        if key in self._writing:
            return
        self._writing.add(key)
        number = self._numbers[key] = self._numbers.get(key, 0) + 1
        stream = f"{machine.name}/{name}"
        request = SendRequest(f"{other}@{host.key.public.hex()}", pack([stream, number, None]))
        if await self._try(machine, "write", machine.ask("mail.send", request)) is not None:
            self._letters.taken.setdefault((machine.name, stream, other), []).append(number)
        self._writing.discard(key)

    async def _wire(self) -> None:
        pair = self._two()
        if pair:
            (machine, name, _), (host, other, _) = pair
            await self._try(machine, "wire", machine.ask("wire.add", WireAddRequest(name, f"{host.name}/{other}")))

    async def _unwire(self) -> None:
        wired = [(machine, half) for machine in self._world.members() for half in machine.node.wires.halves()]
        if wired:
            machine, half = self._random.choice(wired)
            await self._try(machine, "unwire", machine.ask("wire.remove", WireAddRequest(half.own.short_name, half.peer.agent)))
