"""No letter lost, none counted twice, each session in order: what clerks keep, held against what they say that they sent.

A clerk's state says of each other one how many letters it sent, and which number it heard last; that is kept in one commit with the
letters. So in a world at rest the two agree, and a number that did not follow the one before was lost, came twice, or overtook.

What a machine lost with its power, and what was sent to or by a node that is out, or was for a while, is not counted: nobody promises it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skerry.agents.launch import STATES
from skerry.agents.profile import Status
from skerry.agents.resident import Resident
from skerry.identity.codec import unpack
from skerry.sim.machine import Machine
from skerry.sim.world import World

SCRIPT = ":Clerk"
NOTHING_YET: dict[str, Any] = {"heard": {}, "people": {}, "sent": {}, "wrong": []}  # of a clerk of whom nothing is kept


@dataclass(frozen=True, slots=True)
class Book:
    """One clerk, where it lives, and its state as the disk has it."""

    machine: Machine
    resident: Resident
    state: dict[str, Any]

    @property
    def id(self) -> str:
        return self.resident.spec.id

    @property
    def works(self) -> bool:
        """Where it was stopped its letters wait."""
        return self.resident.status is not Status.STOPPED


class LettersCount:
    """Told by whoever sends as a person what was taken; looks at the disks for the rest."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.taken: dict[tuple[str, str, str], list[int]] = {}  # the machine, its stream, and a clerk's id -> numbers that were taken
        self.settled_letters = 0  # that were found to have been sent and heard, at the last look at a world at rest

    def look(self) -> list[str]:
        wrong = []
        for name, book in self._books().items():
            for who, last, number in book.state["wrong"]:
                if self._counts(who, book):
                    wrong.append(f"{name} heard number {number} of {who} after number {last}")
            for stream, numbers in book.state["people"].items():
                if sorted(set(numbers)) != numbers and self._may_count(book.machine, self._world.machines[stream.partition("/")[0]]):
                    wrong.append(f"{name} heard of {stream}: {numbers[-10:]}")
        return wrong

    def settled(self) -> list[str]:
        wrong, books = self.look(), self._books()
        by_id = {book.id: (name, book) for name, book in books.items()}
        self.settled_letters = 0
        for name, book in books.items():
            for other, sent in book.state["sent"].items():
                if other not in by_id or not self._may_count(book.machine, by_id[other][1].machine):
                    continue  # it is removed
                heard = by_id[other][1].state["heard"].get(name, 0)
                self.settled_letters += heard
                if heard != sent and by_id[other][1].works:
                    wrong.append(f"{name} sent {sent} letters to {by_id[other][0]}, which heard {heard}")
        for (machine, stream, other), numbers in self.taken.items():
            if other in by_id and self._may_count(self._world.machines[machine], by_id[other][1].machine):
                heard = set(by_id[other][1].state["people"].get(stream, []))
                lost = [number for number in numbers if number not in heard]
                self.settled_letters += len(heard)
                if lost and by_id[other][1].works:
                    wrong.append(f"{by_id[other][0]} did not hear {lost[:5]} of {stream}, which its node took")
        return wrong

    def _counts(self, who: str, book: Book) -> bool:
        """Whether what somebody is said to have sent counts; a clerk that is removed may live on in what it said."""
        machine = self._world.machines[who.partition("-")[0]]
        return self._may_count(machine, book.machine)

    def _may_count(self, *machines: Machine) -> bool:
        return not any(machine.has_lost_commits or machine.was_out or machine.name in self._world.revoked for machine in machines)

    def _books(self) -> dict[str, Book]:
        """By the clerks' names."""
        found = {}
        for machine in self._world.up():
            for resident in machine.node.host.all():
                state = machine.disk.fact(STATES, resident.spec.id)
                if resident.spec.entry.endswith(SCRIPT):
                    found[resident.spec.name] = Book(machine, resident, unpack(state) if state else NOTHING_YET)
        return found
