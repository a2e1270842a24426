"""Every call ends in time: within its deadline, and within five seconds where nobody that offers it can be reached.

Where several nodes that offer it fell silent at once, on links that still seem open, each is found out in its turn: five seconds a node.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.errors import EXIT_UNREACHABLE, Code, meaning
from skerry.sim.machine import Machine
from skerry.sim.process import Process
from skerry.sim.world import World

SLACK_S = 0.5  # a dial that is under way at the deadline may still end with its own error
UNREACHED_S = 5.0  # SPEC 3: if no candidate can be reached a call ends within 5 s
ROUNDING_S = 0.05
DONE = "done"  # the outcome of a call that went well; else its code
NOBODYS = frozenset({Code.DEADLINE_EXCEEDED, Code.NOT_AVAILABLE, Code.UNKNOWN_CAPABILITY})  # said by the caller's own node
ANSWERS = frozenset({DONE, *(code for code in Code if meaning(code).exit != EXIT_UNREACHABLE)}) - NOBODYS


@dataclass(slots=True)
class Asked:
    """A call under way. `unreachable`: at its start every one of the nodes that offer it was cut off from the caller."""

    caller: str
    what: str
    began_s: float
    timeout_s: float
    unreachable: bool
    candidates: int  # nodes
    openings: int
    process: Process  # of the caller
    stalled_s: float  # how long it had stood still by then

    @property
    def stood_still_s(self) -> float:
        """How long the caller's node ran nothing since: its timers were late by that."""
        return self.process.stalled_s - self.stalled_s


class TimelyCalls:
    """Whoever calls says when it begins and when it has ended."""

    def __init__(self, world: World) -> None:
        self.ended = 0
        self.outcomes: dict[str, int] = {}
        self._world = world
        self._open: dict[int, Asked] = {}
        self._wrong: list[str] = []
        self._next = 0

    def begin(self, machine: Machine, capability: str, timeout_s: float) -> int:
        world, self._next = self._world, self._next + 1
        nodes = {candidate.node for candidate in machine.node.catalogue.find(capability)}
        hosts = [other for other in world.machines.values() if other.key.public in nodes]
        unreachable = all(world.is_cut_off(machine, other) for other in hosts)
        process = machine.process
        self._open[self._next] = Asked(
            machine.name,
            capability,
            world.now_s,
            timeout_s,
            unreachable,
            len(hosts),
            world.openings,
            process,
            process.stalled_s - process.stall_left_s,
        )
        world.note(machine.name, f"call {self._next} {capability}")
        return self._next

    def end(self, number: int, outcome: str) -> None:
        asked, now_s = self._open.pop(number), self._world.now_s
        self._world.note(asked.caller, f"call {number} {outcome}")
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.ended += 1
        took_s = now_s - asked.began_s - asked.stood_still_s
        if took_s > asked.timeout_s + SLACK_S:
            self._wrong.append(f"call {number} of {asked.caller} ({asked.what}) took {took_s:.2f} s, {asked.timeout_s:g} were allowed")
        most_s = UNREACHED_S * max(asked.candidates, 1) + ROUNDING_S
        reached = asked.openings != self._world.openings or outcome in ANSWERS  # by an agent that was not there when it began
        if asked.unreachable and not reached and took_s > most_s:
            self._wrong.append(f"call {number} of {asked.caller} ({asked.what}) took {took_s:.2f} s, and nobody could be reached")

    def look(self) -> list[str]:
        now_s = self._world.now_s
        late = [
            f"call {number} of {asked.caller} ({asked.what}) has not ended {now_s - asked.began_s:.2f} s after its start"
            for number, asked in self._open.items()
            if now_s - asked.began_s - asked.stood_still_s > asked.timeout_s + SLACK_S
        ]
        return self._wrong + late

    def settled(self) -> list[str]:
        return self.look()
