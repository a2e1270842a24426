"""One seed, played out: a formation grows and works while faults rage, then all is mended and must come to rest.

First the safety phase: whatever happens, the checkers' `look` finds nothing, every second. Then the liveness phase on a healed world:
within `SETTLE_S` everything is `settled`, and every node gets a call done. Last all nodes end in order and leave nothing open.

The rule: a run that fails says what, when and with which seed; the same seed fails again.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from skerry.errors import Code
from skerry.sim import loop as virtual
from skerry.sim.checkers import Checker, Violation
from skerry.sim.checkers.authors import SignedByAuthors
from skerry.sim.checkers.bounds import Bounds
from skerry.sim.checkers.breaches import NoBreach
from skerry.sim.checkers.calls import TimelyCalls
from skerry.sim.checkers.chains import TRUSTED, Chains, Reader
from skerry.sim.checkers.graves import Graves
from skerry.sim.checkers.leftovers import NothingLeftOpen
from skerry.sim.checkers.letters import LettersCount
from skerry.sim.checkers.once import RunOnce
from skerry.sim.checkers.presence import KnownPresence
from skerry.sim.checkers.records import EqualRecords
from skerry.sim.checkers.rights import GrantedRights
from skerry.sim.checkers.wires import WholeWires
from skerry.sim.correspondence import Correspondence
from skerry.sim.faults import SORTS, Faults
from skerry.sim.faults.weather import weather_of
from skerry.sim.trace import Trace
from skerry.sim.workload import Workload
from skerry.sim.world import World, name_of

LOOK_EVERY_S = 1.0
SETTLE_S = 120.0  # reconnecting takes up to 30 s of patience on a dead path and 30 s of backoff, twice at worst
CALM_S = 15.0  # what was under way when the world was mended still comes late, and may cost a link
WORK_EVERY_S = 0.5
WRITE_EVERY_S = 0.5
WRONG_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play. `hidden`: so many of the nodes stand behind a NAT each, where nobody can dial them; `busy`: the clerks are."""

    seed: int
    nodes: int = 5
    faults: str = "heavy"
    seconds: float = 60.0
    hidden: int = 0
    busy: bool = False


@dataclass(slots=True)
class Report:
    """What came of it. `failure` is empty where all went well."""

    plan: Plan
    failure: str = ""
    virtual_s: float = 0.0
    formed_s: float = 0.0  # of real time, until all had joined and were connected with the same records
    trace_lines: int = 0
    digest: str = ""
    tail: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    letters: int = 0  # that were sent and heard, of those that count
    wires: int = 0  # halves of those that stood at the end


def play(plan: Plan, *, trace_file: Path | None = None) -> Report:
    """Play one seed from its first to its last moment."""
    report, trace = Report(plan), Trace(trace_file)
    try:
        with _no_collections():
            virtual.run(_Campaign(plan, trace, report).play())
    except Exception as error:  # noqa: BLE001 - the boundary: whatever goes wrong in a world is that seed's failure
        report.failure = f"{type(error).__name__}: {error}" + "".join(f"\n  {note}" for note in getattr(error, "__notes__", []))
        report.tail = trace.tail()
    finally:
        trace.close()
    report.digest, report.trace_lines = trace.digest, trace.lines
    return report


@contextmanager
def _no_collections() -> Iterator[None]:
    """When the garbage collector runs depends on more than the seed, and it ends what lies around: it waits."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Campaign:
    def __init__(self, plan: Plan, trace: Trace, report: Report) -> None:
        self._plan = plan
        self._trace = trace
        self._report = report
        self._began = time.perf_counter()
        self._reader = Reader()

    async def play(self) -> None:
        plan, weather = self._plan, weather_of(self._plan.faults, sorts=frozenset(SORTS))
        world = self._world = World(plan.seed, trace=self._trace, link=weather.link)
        calls, graves, letters = TimelyCalls(world), Graves(world), LettersCount(world)
        wires = self._wires = WholeWires(world)
        self._checkers: list[Checker] = [
            EqualRecords(world),
            SignedByAuthors(world),
            GrantedRights(world),
            graves,
            RunOnce(world.witness),
            KnownPresence(world),
            calls,
            Bounds(world),
            NothingLeftOpen(world),
            NoBreach(world),
            letters,
            wires,
        ]
        founder, *others = (world.machine(name_of(number), ahead_ms=world.random.randint(-500, 500)) for number in range(plan.nodes))
        for machine in others[len(others) - plan.hidden :]:
            world.network.put_behind_nat(machine.name)
        await founder.start()
        faults = Faults(world, weather)
        workload = Workload(world, founder, calls, graves, newcomers=others, upheaval=weather.upheaval)
        correspondence = Correspondence(world, letters, busy=plan.busy)
        try:
            async with asyncio.TaskGroup() as phase:
                watch = phase.create_task(self._watch())
                await asyncio.gather(
                    faults.run(plan.seconds),
                    workload.run(plan.seconds, every_s=WORK_EVERY_S),
                    correspondence.run(plan.seconds, every_s=WRITE_EVERY_S),
                )
                world.note("world", "is mended")
                await faults.mend()
                await workload.finish()
                await correspondence.finish()
                await self._settle()
                await asyncio.sleep(CALM_S)
                await self._settle()
                await self._prove_life(workload, faults)
                watch.cancel()
            await world.close()
            self._judge([wrong for checker in self._checkers for wrong in checker.look()])
            self._judge(NothingLeftOpen(world).look())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._report.virtual_s, self._report.outcomes = world.now_s, dict(sorted(calls.outcomes.items()))
            self._report.letters, self._report.wires = letters.settled_letters, wires.settled_wires

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._judge([wrong for checker in self._checkers for wrong in checker.look()])

    async def _settle(self) -> None:
        ends = self._world.now_s + SETTLE_S
        while wrong := self._unsettled():
            if self._world.now_s >= ends:
                self._judge([f"{SETTLE_S:g} s after all was mended: {one}" for one in wrong])
            self._judge(self._wires.overdue())
            await asyncio.sleep(LOOK_EVERY_S)
        self._world.note("world", "is settled")
        self._report.formed_s = self._report.formed_s or time.perf_counter() - self._began

    def _note_outcasts(self) -> None:
        """Who was let in by an operator that is revoked is out too, where nobody else has let it in since."""
        world = self._world
        rows = [row for machine in world.up() for kind in TRUSTED for row in machine.node.ports.store.of_kind(kind)]
        formation = next((machine.node.formation for machine in world.up()), b"")
        chains = Chains({row.signed: row for row in rows}.values(), formation=formation, reader=self._reader)
        for machine in world.members():
            if not chains.grants(machine.key.public):
                world.note(machine.name, "is out: nobody's grant for it counts")
                world.revoked[machine.name] = None

    def _unsettled(self) -> list[str]:
        self._note_outcasts()
        wrong = [wrong for checker in self._checkers for wrong in checker.settled()]
        members = self._world.members()
        if not self._world.is_whole(members):
            wrong.append("not every node has a link to every other")
        return wrong

    async def _prove_life(self, workload: Workload, faults: Faults) -> None:
        """An agent that is new is found and used by everybody. Where clocks were set a task may seem older than what its node remembers:
        that refusal is the price of never running one twice."""
        fine = ("done", Code.STALE_TASK) if faults.clocks_stepped else ("done",)
        members = self._world.members()
        host = self._world.random.choice(members)
        await host.run_agent("Echo", "proof-of-life")
        await self._world.until(lambda: all(machine.knows_agent("proof-of-life") for machine in members), 5.0, what="a new agent is known")
        for machine in members:
            outcome = await workload.call(machine, "custom:echo", "alive")
            if outcome not in fine:
                self._judge([f"in a healed world a call of {machine.name} ended with {outcome}"])

    def _judge(self, wrong: list[str]) -> None:
        if wrong:
            for one in wrong[:WRONG_SHOWN_MAX]:
                self._world.note("checker", one)
            raise Violation("; ".join(wrong[:WRONG_SHOWN_MAX]))
