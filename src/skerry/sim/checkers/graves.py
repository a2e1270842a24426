"""No resurrection: a removed agent's record does not come back over its tombstone, and a revoked node stays out.

A node that lost power, or whose disk was full at the commit, may forget a tombstone; it starts with no graves of its own, and has to
learn of them again before the world is settled. So does one that took all anew from a peer and dropped what that one does not hold.
"""

from __future__ import annotations

from skerry.identity.grants import TOLERANCE_MS, State
from skerry.identity.statement import Statement
from skerry.ports import Row
from skerry.sim.machine import Machine
from skerry.sim.process import Process
from skerry.sim.world import World

CLOCK_OFF_MS = TOLERANCE_MS  # what such a clock signed is dropped with its tombstones when it is set right, and what was before comes back
Identity = tuple[bytes, str, str]


class Graves:
    """Told by whoever removes and revokes; hears every record that is new to a node."""

    def __init__(self, world: World) -> None:
        self.removed: dict[str, str] = {}  # agent id -> who hosted it
        self.revoked: dict[bytes, str] = {}  # node id -> its name
        self._world = world
        self._seen: dict[str, tuple[tuple[Process, int], dict[Identity, int]]] = {}  # of each machine, in its present life: stamps
        self._wrong: list[str] = []
        world.watch(self._learned)
        world.watch_forgetting(self._forgot)

    def _learned(self, machine: Machine, statement: Statement, sender: bytes) -> None:
        life, graves = self._seen.get(machine.name, (None, {}))
        if life != (machine.process, machine.store.losses):
            graves = {}
            self._seen[machine.name] = ((machine.process, machine.store.losses), graves)
        if machine.clock.most_off_ms > CLOCK_OFF_MS:
            return  # it has thrown away by the wrong time what was to be kept, and hears of it again
        if statement.tombstone:
            graves[statement.identity] = statement.stamp
        elif statement.stamp <= graves.get(statement.identity, -1) and self._holds(machine, statement):
            self._wrong.append(f"{machine.name} took the {statement.kind} record {statement.name[:10]} back over its tombstone")

    def _forgot(self, machine: Machine, row: Row) -> None:
        _, graves = self._seen.get(machine.name, (None, {}))
        graves.pop((row.author, row.kind, row.name), None)

    def _holds(self, machine: Machine, statement: Statement) -> bool:
        """Whether it is there now: an author that hears its own old word answers before anybody else hears of it."""
        row = machine.store.get(*statement.identity)
        return row is not None and row.hash == statement.hash

    def look(self) -> list[str]:
        return list(self._wrong)

    def settled(self) -> list[str]:
        wrong = list(self._wrong)
        for machine in self._world.members():
            node, now_ms = machine.node, machine.clock.now_ms()
            wrong.extend(
                f"{machine.name} still believes in the agent {statement.name[:10]}, which {self.removed[statement.name]} removed"
                for statement in node.replica.living("agent", now_ms=now_ms)
                if statement.name in self.removed and self.removed[statement.name] not in self._world.revoked  # who is out can't say so
            )
            for subject, name in (self.revoked | self._world.banned).items():
                if node.trust.standing(subject).state is not State.REVOKED:
                    wrong.append(f"{machine.name} does not know that {name} was revoked")
                if node.links.get(subject) is not None:
                    wrong.append(f"{machine.name} has a link to {name}, which was revoked")
        return wrong
