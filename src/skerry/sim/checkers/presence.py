"""Who is there is known: in a healed world every member sees every other one alive, and nobody keeps more than it may of what was said.

On the way a node may be gone for another one that can't reach it. But nobody is ever gone or away for itself, and what is held about who
is there is about members alone.
"""

from __future__ import annotations

from skerry.discovery.moves import PRESENT, State
from skerry.discovery.suspicion import WITNESSES_MAX
from skerry.sim.machine import Machine
from skerry.sim.world import World


class KnownPresence:
    """Asks every node how it sees the others."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> list[str]:
        return [wrong for machine in self._world.up() for wrong in self._of(machine)]

    def _of(self, machine: Machine) -> list[str]:
        node, wrong = machine.node, []
        states = node.presence.machine.states()
        if node.presence.state_of(node.key.public) not in PRESENT:
            wrong.append(f"{machine.name} is away and serves")
        known = frozenset(node.roster.subjects())
        wrong.extend(f"{machine.name} counts {other.hex()[:6]} as a member, which it never was" for other in states if other not in known)
        held, most = node.presence.machine.held_claims, (len(states) + 1) * (WITNESSES_MAX + 1)
        if held > most:
            wrong.append(f"{machine.name} holds {held} claims about who is there: {most} are allowed")
        return wrong

    def settled(self) -> list[str]:
        members = self._world.members()
        return self.look() + [
            f"{machine.name} sees {other.name} as {state.value if state else 'nobody'}"
            for machine in members
            for other in members
            if other is not machine and (state := machine.node.presence.state_of(other.key.public)) is not State.ALIVE
        ]
