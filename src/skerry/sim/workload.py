"""What people and agents do all day: nodes join, agents come, stop and go, tasks are asked for, a node is revoked.

It takes what comes: a refusal or a dead node is an outcome, noted in the trace, and what matters is checked elsewhere.

The rule: the workload never asks for what a person could not ask for, and tells the checkers what it did, not what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from skerry.errors import Code, SkerryError
from skerry.identity.grants import Role
from skerry.node.verbs import RevokeRequest
from skerry.sim.checkers.calls import DONE, TimelyCalls
from skerry.sim.checkers.graves import Graves
from skerry.sim.clock import SimRandom
from skerry.sim.machine import Machine
from skerry.sim.process import Died
from skerry.sim.world import World

UNDER_WAY_MAX = 64
AGENTS_EACH_MAX = 4
TIMEOUTS_S = (2.0, 6.0, 12.0)
# capability, payload, streamed, weight
CALLS: tuple[tuple[str, Any, bool, int], ...] = (
    ("custom:echo", {"text": "hello"}, False, 6),
    ("custom:*", 0.1, False, 1),
    ("custom:once", [1, 2, 3], False, 4),
    ("custom:slow", 0.5, False, 3),
    ("custom:job", 1.5, False, 3),
    ("custom:count", 12, True, 3),
    ("custom:relay", ["custom:echo", 1], False, 2),
    ("custom:crash", None, False, 1),
    ("custom:nobody", None, False, 1),
)
REVOCATIONS_MAX = 2  # in a world that sees upheaval
OPERATORS_SHARE = 0.5  # of those whom the founder lets in then
OPERATORS_REVOKED = 0.6  # how often it is one of them that is revoked
JOINS_MAX = 40  # that may fail in a healed world: clocks were set right only now
JOIN_AGAIN_S = 3.0
SCRIPTS = ("Echo", "Once", "Slow", "Job", "Count", "Relay", "Crash")
Act = Callable[[], Coroutine[Any, Any, None]]


class Workload:
    """`founder` stays the one that invites and revokes, as the holder of the root key does."""

    def __init__(
        self, world: World, founder: Machine, calls: TimelyCalls, graves: Graves, *, newcomers: list[Machine], upheaval: bool = False
    ) -> None:
        """`upheaval`: others become operators and invite too, some of them are revoked, and nodes leave and come back."""
        self._world = world
        self._founder = founder
        self._calls = calls
        self._graves = graves
        self._random = SimRandom(f"{world.seed}/workload")
        self._newcomers = newcomers
        self._upheaval = upheaval
        self._tickets: dict[str, str] = {}
        self._operators: dict[str, None] = {}  # names of machines that were invited as such
        self._invited_by: dict[str, str] = {}
        self._leaving: dict[str, None] = {}  # names of machines that were told to leave
        self._revocations_left = REVOCATIONS_MAX if upheaval else 1
        self._busy: dict[str, None] = {}  # agents on which something is under way, as node/agent
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._agents = 0

    async def run(self, seconds: float, *, every_s: float) -> None:
        """Something new about every `every_s`, for so long. The founder begins with an agent of nearly every kind."""
        for _ in range(AGENTS_EACH_MAX):
            await self._add_agent()
        ends = self._world.now_s + seconds
        acts: list[tuple[Act, int]] = [
            (self._call, 14),
            (self._join, 3),
            (self._add_agent, 3),
            (self._toggle_agent, 1),
            (self._remove_agent, 1),
            (self._revoke, 1),
        ]
        if self._upheaval:
            acts.append((self._leave, 1))
        while self._world.now_s < ends:
            await asyncio.sleep(self._random.expovariate(1 / every_s))
            (act,) = self._random.choices([act for act, _ in acts], [weight for _, weight in acts])
            if len(self._tasks) < UNDER_WAY_MAX:
                self._start(act())

    async def finish(self) -> None:
        """Wait for what is under way, and let in whoever is still outside."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        for name in list(self._leaving):
            await self._free(self._world.machines[name])
        tries = 0
        self._newcomers = [one for one in self._newcomers if one.name not in self._world.revoked]  # that is final for their keys
        while self._newcomers:
            await self._join()
            failed = self._newcomers[-1] if self._newcomers and self._newcomers[-1].name in self._tickets else None
            if failed is not None:
                del self._tickets[failed.name]  # it may have been made by a clock that was wrong: a person asks for another one
            tries += failed is not None
            assert tries < JOINS_MAX, f"{failed and failed.name} can't join in a healed world"
            await asyncio.sleep(JOIN_AGAIN_S if failed is not None else 0.2)
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        for key in self._world.banned:
            await self._put_out(key)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._world.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _try(self, who: str, what: str, work: Coroutine[Any, Any, Any]) -> Any:
        """None where it failed; the trace says why."""
        try:
            return await work
        except (SkerryError, Died) as error:
            code = getattr(error, "code", "died")
            self._world.note(who, f"{what} failed: {code}")
            if code == Code.REVOKED and what == "join":
                self._world.revoked[who] = None  # its key, or that of whoever let it in before: a person comes back with a new home
        return None

    def _someone(self) -> Machine | None:
        up = self._world.up()
        return self._random.choice(up) if up else None

    # --- acts -----------------------------------------------------------------------------------------------------------------

    async def _join(self) -> None:
        if not self._newcomers or not self._founder.is_up:
            return
        newcomer = self._newcomers.pop(0)
        if newcomer.runs:
            return
        ticket = self._tickets.get(newcomer.name)
        if ticket is None:
            ticket = await self._invite(newcomer)
        if ticket is not None:
            await self._try(newcomer.name, "join", newcomer.start(ticket))
            self._start(self._add_agent())
        if not newcomer.is_up and not newcomer.belongs and newcomer.name not in self._world.revoked:
            self._newcomers.append(newcomer)  # the same command again, later

    async def _invite(self, newcomer: Machine) -> str | None:
        inviter, role = self._founder, Role.MEMBER
        if self._upheaval:
            others = [machine for machine in self._world.members() if machine.name in self._operators]
            others = [one for one in others if self._world.network.can_be_dialled(one.name, by=newcomer.name)]
            inviter = self._random.choice([self._founder, *others])
            if inviter is self._founder and self._random.random() < OPERATORS_SHARE:
                role = Role.OPERATOR
        ticket: str | None = await self._try(inviter.name, "invite", inviter.invite(role=role))
        if ticket is not None:
            self._tickets[newcomer.name] = ticket
            self._invited_by[newcomer.name] = inviter.name
            if role is Role.OPERATOR:
                self._operators[newcomer.name] = None
        return ticket

    async def _call(self) -> None:
        machine = self._someone()
        if machine is None:
            return
        (chosen,) = self._random.choices(CALLS, [weight for *_, weight in CALLS])
        capability, payload, streamed, _ = chosen
        await self.call(machine, capability, payload, streamed=streamed, timeout_s=self._random.choice(TIMEOUTS_S))

    async def call(self, machine: Machine, capability: str, payload: Any, *, streamed: bool = False, timeout_s: float = 6.0) -> str:
        """One call, in the books. Returns its outcome: "done", or the code with which it failed."""
        number = self._calls.begin(machine, capability, timeout_s)
        outcome = DONE
        try:
            if streamed:
                await machine.parts(capability, payload, timeout_s=timeout_s)
            else:
                await machine.call(capability, payload, timeout_s=timeout_s)
        except SkerryError as error:
            outcome = str(error.code) + ("?" if getattr(error, "outcome_unknown", False) else "")
        except Died:
            outcome = "caller died"
        self._calls.end(number, outcome)
        return outcome

    async def _add_agent(self) -> None:
        machine = self._someone()
        if machine is None or len(machine.node.host.all()) >= AGENTS_EACH_MAX:
            return
        script = self._random.choice(SCRIPTS)
        self._agents += 1
        await self._try(machine.name, f"run {script}", machine.run_agent(script, f"{script.lower()}-{self._agents}"))

    def _pick_agent(self) -> tuple[Machine, str, str] | None:
        """A machine and an agent of it on which nothing is under way: its name and id."""
        machine = self._someone()
        agents = [agent.spec for agent in machine.node.host.all()] if machine is not None else []
        free = [spec for spec in agents if machine is not None and f"{machine.name}/{spec.id}" not in self._busy]
        if machine is None or not free:
            return None
        spec = self._random.choice(free)
        return machine, spec.name, spec.id

    async def _toggle_agent(self) -> None:
        picked = self._pick_agent()
        if picked is None:
            return
        machine, name, identity = picked
        self._busy[f"{machine.name}/{identity}"] = None
        if await self._try(machine.name, f"stop {name}", machine.stop_agent(name)) is None:
            await asyncio.sleep(self._random.uniform(0, 5))
            if machine.is_up:
                await self._try(machine.name, f"start {name}", machine.start_agent(name))
        self._busy.pop(f"{machine.name}/{identity}", None)

    async def _remove_agent(self) -> None:
        picked = self._pick_agent()
        if picked is None:
            return
        machine, name, identity = picked
        self._busy[f"{machine.name}/{identity}"] = None
        if await self._try(machine.name, f"remove {name}", machine.remove_agent(name)) is not None:
            self._graves.removed[identity] = machine.name
        self._busy.pop(f"{machine.name}/{identity}", None)

    async def _revoke(self) -> None:
        members = [machine for machine in self._world.members() if machine is not self._founder]
        if not self._revocations_left or len(members) < 3 or not self._founder.is_up:
            return
        self._revocations_left -= 1
        operators = [machine for machine in members if machine.name in self._operators]
        victim = self._random.choice(operators if operators and self._random.random() < OPERATORS_REVOKED else members)
        keeps = not self._upheaval or self._random.random() < 0.4
        try:
            await self._founder.revoke(victim, keeps_members=keeps)
        except (SkerryError, Died) as error:
            self._world.note(self._founder.name, f"revoke {victim.name} failed: {error}")
        if self._founder.belongs and self._founder.has_revoked(victim):
            self._world.revoked[victim.name] = None
            self._graves.revoked[victim.key.public] = victim.name

    async def _put_out(self, key: bytes) -> None:
        """The founder revokes somebody that is no machine of the world: an adversary that was let in."""
        request = RevokeRequest(key.hex(), "it lies")
        while not self._founder.disk.holds("revocation", key.hex()):
            if self._founder.is_up:
                await self._try(self._founder.name, "revoke", self._founder.ask("node.revoke", request))
            await asyncio.sleep(1)

    async def _leave(self) -> None:
        """A member goes, and may come back with another ticket."""
        members = [machine for machine in self._world.members() if machine is not self._founder and machine.name not in self._leaving]
        if len(members) < 3:
            return
        machine = self._random.choice(members)
        self._leaving[machine.name] = None
        await self._try(machine.name, "leave", machine.leave())
        if not machine.belongs:
            await self._free(machine)

    async def _free(self, machine: Machine) -> None:
        """One that was told to leave and was cut in the middle of it finishes; one that never said so stays."""
        if machine.is_up and machine.disk.holds("departure", machine.key.public.hex()):
            await self._try(machine.name, "stop", machine.stop())
        if machine.runs and not machine.is_up:
            machine.kill()
        if not machine.runs:
            try:
                if machine.has_left():
                    machine.free()
                elif machine.belongs:
                    await machine.start()
            except (SkerryError, Died) as error:
                self._world.note(machine.name, f"its home is not free yet: {error}")
        self._leaving.pop(machine.name, None)
        if not machine.belongs and machine.name not in self._world.revoked:
            self._tickets.pop(machine.name, None)
            self._operators.pop(machine.name, None)
            self._newcomers.append(machine)
