"""No right without a valid chain: whatever a peer may do on a link, and whoever a node counts as one of its formation, follows from a grant
that leads to the root key, and from nothing else.

Judged anew (`chains.py`) from the signed bytes in the node's own store. Time is taken as the node's clock has shown it lately: rights are
looked through every half minute, and a clock may be set in between.
"""

from __future__ import annotations

from collections import deque

from skerry.channel.link import Link
from skerry.identity.grants import LAPSED_MS, TOLERANCE_MS
from skerry.node.policy import RIGHTS, Right
from skerry.node.upkeep import EVERY_S
from skerry.sim.checkers.chains import TRUSTED, Chains, Reader
from skerry.sim.machine import Machine
from skerry.sim.world import World

_STRANGER = frozenset({Right.PING, Right.JOIN})
LATE_S = EVERY_S * 1.2 + 12.0  # a right may outlast its grant until the next round of chores, also of a node that stood still


class GrantedRights:
    """Looks at every open link of every node, and at whom it believes in: of one node at a time while it lasts, of all in the end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reader = Reader()
        self._times: dict[str, deque[tuple[float, int]]] = {}  # machine -> when, and what its clock showed
        self._looks = 0

    def look(self) -> list[str]:
        up = self._world.up()
        for machine in up:
            self._note_time(machine)
        if not up:
            return []
        self._looks += 1
        return self._of(up[self._looks % len(up)])

    def settled(self) -> list[str]:
        for machine in self._world.up():
            self._note_time(machine)
        return [wrong for machine in self._world.up() for wrong in self._of(machine)]

    def _note_time(self, machine: Machine) -> None:
        times, now_s = self._times.setdefault(machine.name, deque()), self._world.now_s
        times.append((now_s, machine.clock.now_ms()))
        while times[0][0] < now_s - LATE_S:
            times.popleft()

    def _of(self, machine: Machine) -> list[str]:
        store = machine.node.ports.store
        rows = [row for kind in TRUSTED for row in store.of_kind(kind)]
        chains = Chains(rows, formation=machine.node.formation, reader=self._reader)
        wrong = [self._of_link(machine, link, chains) for link in machine.node.links.all()]
        believed = [subject for subject in machine.node.roster.subjects() if machine.node.trust.standing(subject).belongs]
        wrong += [
            f"{machine.name} believes that {subject.hex()[:6]} belongs to its formation, which no grant says"
            for subject in believed
            if not self._has_grant(machine, subject, frozenset({Right.CALL}), chains)
        ]
        return [one for one in wrong if one]

    def _of_link(self, machine: Machine, link: Link, chains: Chains) -> str:
        assert link.peer is not None
        beyond = frozenset(link.rights) - _STRANGER
        if not beyond or link.peer.same_owner or self._has_grant(machine, link.id, beyond, chains):
            return ""
        return f"{machine.name} lets {link.id.hex()[:6]} {', '.join(sorted(beyond))}, which no grant allows"

    def _has_grant(self, machine: Machine, subject: bytes, beyond: frozenset[str], chains: Chains) -> bool:
        now_ms = min((shown for _, shown in self._times.get(machine.name, ())), default=machine.clock.now_ms())
        late_ms = TOLERANCE_MS if Right.OBSERVE in beyond else LAPSED_MS
        return any(now_ms <= grant.expires + late_ms and beyond <= _most(str(grant.body.get("role"))) for grant in chains.grants(subject))


def _most(role: str) -> frozenset[str]:
    """All that a role can ever have."""
    return frozenset(right for (_, held), rights in RIGHTS.items() if held is not None and held.value == role for right in rights)
