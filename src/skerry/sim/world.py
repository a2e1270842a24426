"""A world of whole nodes over simulated ports, from one seed.

Each machine has a random stream of its own, and so have the network and whoever makes trouble, so that what one does more or less
leaves the others' luck alone.

The rule: a world is its seed: what happens in it depends on nothing else, in any process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from skerry.errors import SkerryError
from skerry.identity.grants import Role
from skerry.identity.statement import Statement
from skerry.ports import Row
from skerry.sim.agents import Witness
from skerry.sim.clock import EPOCH_MS, SimClock, SimRandom
from skerry.sim.dht import DhtTable
from skerry.sim.link import Link
from skerry.sim.machine import Machine, Place
from skerry.sim.network import LAN, SimNetwork
from skerry.sim.trace import Trace

LOOK_EVERY_S = 0.25  # how often `until` looks
LEARNED_PER_S_EACH = 200  # records that are new to somebody, for each pair of nodes: ten times what a flood brings
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu")
Watcher = Callable[[Machine, Statement, bytes], None]


class World:
    """Made inside a running virtual loop."""

    def __init__(self, seed: int | str, *, trace: Trace | None = None, link: Link = LAN) -> None:
        self.seed = str(seed)
        self.trace = trace or Trace()
        self.random = SimRandom(f"{seed}/world")
        self.loop = asyncio.get_running_loop()
        self.network = SimNetwork(SimRandom(f"{seed}/network"), link=link, record=self.trace.note)
        self.witness = Witness(note=self.note)
        self.machines: dict[str, Machine] = {}
        self.revoked: dict[str, None] = {}  # names of machines that are out, said by whoever revoked them
        self.banned: dict[bytes, str] = {}  # nodes that are no machines of the world, and have to be out in the end
        self.tickets: dict[bytes, bool] = {}  # the secret of each that was made, and whether somebody joined with it
        self.breaches: list[str] = []  # what an adversary got and should not have
        self.openings = 0  # how often a way or a node opened: what was out of reach may be in it since
        self._learned_count = 0  # since `_learned_from`
        self._learned_from = 0.0
        self._watchers: list[Watcher] = []
        self._forgetters: list[Callable[[Machine, Row], None]] = []
        self.dht = DhtTable()
        self._place = Place(
            self.seed, self.network, self.witness, self.note, self._learned, self._forgot, self._opened, self.tickets, self.dht
        )

    @property
    def now_s(self) -> float:
        return self.loop.time()

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.note(f"{self.loop.time():.6f} {who} {what}")

    def watch(self, watcher: Watcher) -> None:
        """Hear of every record that is new to a node: (machine, statement, sender)."""
        self._watchers.append(watcher)

    def watch_forgetting(self, forgetter: Callable[[Machine, Row], None]) -> None:
        """Hear of every record that a node holds no more, without a tombstone."""
        self._forgetters.append(forgetter)

    def _forgot(self, machine: Machine, row: Row) -> None:
        for forgetter in self._forgetters:
            forgetter(machine, row)

    def _learned(self, machine: Machine, statement: Statement, sender: bytes) -> None:
        which = f"{statement.kind} {statement.name[:10]} of {statement.author.hex()[:6]} {statement.hash.hex()[:8]}"
        self.note(machine.name, f"learned {which}{' gone' if statement.tombstone else ''}")
        self._count_learned()
        for watcher in self._watchers:
            watcher(machine, statement, sender)

    def _count_learned(self) -> None:
        """Records that chase each other round the world have no end, and a second of theirs takes hours."""
        if self.now_s - self._learned_from >= 1:
            self._learned_count, self._learned_from = 0, self.now_s
        self._learned_count += 1
        if self._learned_count > LEARNED_PER_S_EACH * max(len(self.machines), 2) ** 2:
            storm = AssertionError(f"a storm of records: {self._learned_count} were new to somebody within a virtual second")
            self.loop.call_exception_handler({"message": "a storm", "exception": storm})

    def _opened(self) -> None:
        self.openings += 1

    def heal(self, a: str | None = None, b: str | None = None) -> None:
        """Undo the cuts: all, those of `a`, or those between `a` and `b`."""
        self._opened()
        self.network.heal(a, b)

    # --- machines -------------------------------------------------------------------------------------------------------------

    def machine(self, name: str, *, ahead_ms: int = 0, drift: float = 0.0) -> Machine:
        """A new machine, with an empty disk and nothing that runs; its clock may be off."""
        assert name not in self.machines, f"{name} is there already"
        clock = SimClock(self.loop, start_ms=EPOCH_MS + int(self.now_s * 1000) + ahead_ms, drift=drift)
        made = self.machines[name] = Machine(self._place, name, clock=clock)
        return made

    async def formation(self, count: int, *, operators: int = 1) -> list[Machine]:
        """`count` nodes of one formation, connected and with the same records: the first founded it and invited the others."""
        machines = [self.machine(name_of(number)) for number in range(count)]
        await machines[0].start()
        for number, machine in enumerate(machines[1:], 1):
            await machine.start(await machines[0].invite(role=Role.OPERATOR if number < operators else Role.MEMBER))
        await self.until(lambda: self.is_whole(machines), what="everybody is connected with everybody")
        return machines

    def up(self) -> list[Machine]:
        """Whose nodes serve, in the order in which they were made."""
        return [machine for machine in self.machines.values() if machine.is_up]

    def members(self) -> list[Machine]:
        """Those of `up` that belong to their formation."""
        return [machine for machine in self.up() if machine.name not in self.revoked]

    def is_whole(self, machines: Iterable[Machine]) -> bool:
        """Whether all of them are up and each has a link to each."""
        machines = list(machines)
        return all(
            machine.is_up and all(other is machine or machine.node.links.get(other.key.public) is not None for other in machines)
            for machine in machines
        )

    def is_cut_off(self, machine: Machine, other: Machine) -> bool:
        """Whether nothing can be asked of `other` from `machine` now: it is down, or one of the ways is blocked."""
        if machine is other:
            return not machine.is_up
        there = (machine.name, other.name)
        return not other.is_up or self.network.is_blocked(there) or self.network.is_blocked(there[::-1])

    async def until(self, holds: Callable[[], object], timeout_s: float = 60.0, *, what: str = "") -> None:
        """Let time pass until something holds. Raises AssertionError where it does not in time."""
        ends = self.now_s + timeout_s
        while not holds():
            if self.now_s >= ends:
                raise AssertionError(f"not within {timeout_s:g} virtual seconds: {what or 'what was waited for'}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        """End every node in order, as far as it can be."""
        for machine in self.up():
            try:
                await machine.stop()
            except SkerryError as error:
                self.note(machine.name, f"did not stop in order: {error}")
                machine.kill()


def name_of(number: int) -> str:
    """The name of the n-th machine."""
    return NAMES[number] if number < len(NAMES) else f"node{number}"
