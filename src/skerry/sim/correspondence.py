"""What clerks and people write to each other all day: letters, answers, wires made and taken away.

It runs beside the workload, with a random stream of its own. What comes of it is the checkers' to see (`checkers/letters.py`, `wires.py`).
A `busy` one writes five times as much, and does besides what goes wrong only now and then: callers that give up at any moment, tasks
that fail after they wrote, agents that are stopped or removed with their hands full, workers that are killed while they work, both
ends wiring at once, and clerks that work on several tasks at a time.

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
BUSY_TIMES = 5  # as much as a calm one
BUSY_CONCURRENCY = 3  # of every other clerk
GIVES_UP_S = 0.01  # after about so long: where a task is done within its node that is in the middle of it
PAUSE_S = 1.0  # that a clerk is stopped for
DIES_S = 0.05  # after about so long a worker dies that was just told to write
Act = Callable[[], Coroutine[Any, Any, None]]
Clerk = tuple[Machine, str, str]  # where it lives, its name and id


class Correspondence:
    """Of one world."""

    def __init__(self, world: World, letters: LettersCount, *, busy: bool = False) -> None:
        self._world = world
        self._busy = busy
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
        if self._busy:
            every_s /= BUSY_TIMES
            acts += [(self._give_up, 6), (self._fail, 2), (self._kill, 4), (self._both, 3), (self._pause, 1), (self._dismiss, 1)]
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

    def clerks(self) -> list[Clerk]:
        """All that there are on nodes that serve."""
        return [
            (machine, resident.spec.name, resident.spec.id)
            for machine in self._world.members()
            for resident in machine.node.host.all()
            if resident.spec.entry.endswith(SCRIPT)
        ]

    def _two(self) -> list[Clerk]:
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
            concurrency = BUSY_CONCURRENCY if self._busy and self._clerks % 2 else 1
            hired = machine.run_agent("Clerk", f"{machine.name}-clerk-{self._clerks}", concurrency=concurrency)
            await self._try(machine, "hire", hired)

    async def _tell(self) -> None:
        """A clerk writes some letters to another one, which may answer each."""
        pair = self._two()
        if pair:
            await self._told(*pair)

    async def _told(self, one: Clerk, other: Clerk, *, fails: bool = False, timeout_s: float = 30.0) -> None:
        machine, _, agent = one
        host, _, peer = other
        payload = [f"{peer}@{host.key.public.hex()}", self._random.randint(1, LETTERS_MAX), self._random.random() < 0.5]
        what = [*payload, True] if fails else payload
        await self._try(machine, "tell", machine.call("custom:tell", what, agent=agent, timeout_s=timeout_s))

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

    # --- what a busy one does besides -------------------------------------------------------------------------------------------

    async def _give_up(self) -> None:
        """Whoever had a clerk write does not wait for the end, or gives it less time than it takes."""
        pair = self._two()
        if not pair:
            return
        after_s = self._random.expovariate(1 / GIVES_UP_S)
        if self._random.random() < 0.5:
            await self._told(*pair, timeout_s=after_s)
            return
        telling = self._world.loop.create_task(self._told(*pair))
        await asyncio.wait({telling}, timeout=after_s)
        telling.cancel()
        await asyncio.wait({telling})

    async def _fail(self) -> None:
        """A task that fails after it wrote, beside another one that does not."""
        pair = self._two()
        if pair:
            await asyncio.gather(self._told(*pair), self._told(*pair, fails=True))

    async def _kill(self) -> None:
        """A worker dies while it writes, or while others write to it."""
        pair = self._two()
        if not pair:
            return
        telling = self._world.loop.create_task(self._told(*pair))
        await asyncio.sleep(self._random.expovariate(1 / DIES_S))
        machine, _, agent = self._random.choice(pair)
        resident = machine.node.host.get(agent) if machine.is_up else None
        for worker in machine.executor.workers() if machine.runs else []:
            if resident is not None and worker.pid == resident.pid:
                self._world.note(machine.name, f"worker {worker.pid} is killed at work")
                worker.kill()
        await asyncio.wait({telling})

    async def _both(self) -> None:
        """Both ends of a wire want it at once; now and then one of them takes it away at once."""
        pair = self._two()
        if not pair:
            return
        ways = [(pair[0], pair[1]), (pair[1], pair[0])]
        wiring = [
            self._try(one, "wire", one.ask("wire.add", WireAddRequest(name, f"{host.name}/{other}")))
            for (one, name, _), (host, other, _) in ways
        ]
        await asyncio.gather(*wiring)
        if self._random.random() < 0.5:
            (machine, name, _), (_, _, other) = self._random.choice(ways)
            if machine.is_up:
                await self._try(machine, "unwire", machine.ask("wire.remove", WireAddRequest(name, other)))

    async def _pause(self) -> None:
        """A clerk is stopped, whatever it does, and started again."""
        clerks = self.clerks()
        if not clerks:
            return
        machine, name, _ = self._random.choice(clerks)
        await self._try(machine, "stop", machine.stop_agent(name))
        await asyncio.sleep(self._random.expovariate(1 / PAUSE_S))
        if machine.is_up:
            await self._try(machine, "start", machine.start_agent(name))

    async def _dismiss(self) -> None:
        """A clerk is removed, with letters on their way from it and to it."""
        clerks = self.clerks()
        if clerks:
            machine, name, _ = self._random.choice(clerks)
            await self._try(machine, "dismiss", machine.remove_agent(name))
