"""No wire on one side only: in a whole world each half has its other half within two rounds, and both know it."""

from __future__ import annotations

from skerry.node.wire_rounds import ROUND_S
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.wires import wire_name

LASTS_S = 2 * ROUND_S


class WholeWires:
    """Looks at each member's own halves."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[tuple[str, str], float] = {}  # machine and wire -> since when it is on that side only, in a whole world
        self.settled_wires = 0

    def look(self) -> list[str]:
        return []

    def settled(self) -> list[str]:
        """Once the world is mended. Those that are new may still be on their way."""
        members = self._world.members()
        if not self._world.is_whole(members):
            self._since.clear()
            return []
        found, self.settled_wires = self._one_sided(members)
        now_s = self._world.now_s
        self._since = {key: self._since.get(key, now_s) for key in found}
        return [f"{what}, {now_s - self._since[key]:.0f} s in a whole world" for key, what in found.items()]

    def overdue(self) -> list[str]:
        """Those that have lasted too long."""
        return [wrong for wrong in self.settled() if float(wrong.rpartition(", ")[2].split()[0]) > LASTS_S]

    def _one_sided(self, members: list[Machine]) -> tuple[dict[tuple[str, str], str], int]:
        by_key = {machine.key.public: machine for machine in members}
        found: dict[tuple[str, str], str] = {}
        whole = 0
        for machine in members:
            for half in machine.node.wires.halves():
                name = wire_name(half.own.agent, half.peer.agent)
                other = by_key.get(half.peer.node)
                if other is None:
                    found[machine.name, name] = f"{machine.name} has half a wire with a node that is out ({name})"
                elif not other.node.wires.stands(own=half.peer.agent, peer=half.own.agent):
                    found[machine.name, name] = f"{machine.name} has half a wire that {other.name} does not have ({name})"
                elif not machine.node.wires.stands(own=half.own.agent, peer=half.peer.agent):
                    found[machine.name, name] = f"{machine.name} does not know that its wire with {other.name} stands ({name})"
                else:
                    whole += 1
        return found, whole
