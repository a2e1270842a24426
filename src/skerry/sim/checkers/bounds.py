"""Bounded queues: what others make a node hold stays within its limits, and what was closed leaves nothing open."""

from __future__ import annotations

from skerry.agents.resident import QUEUE_MAX
from skerry.channel.links import UNPROVEN_MAX
from skerry.routing.ledger import REMEMBER_BYTES
from skerry.sim.machine import Machine
from skerry.sim.world import World

LINKS_EACH = 4  # with one peer: two that were dialled at once, one that drains, a probe
LEDGER_SLACK_BYTES = 32 * 1024 * 1024  # what runs is not forgotten, and the newest result may be large


class Bounds:
    """Looks into every node."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> list[str]:
        return [wrong for machine in self._world.up() for wrong in self._of(machine)]

    def settled(self) -> list[str]:
        return self.look() + [
            f"{machine.name} left open: {left}" for machine in self._world.machines.values() for left in machine.left_open
        ]

    def _of(self, machine: Machine) -> list[str]:
        node, wrong = machine.node, []
        links = len(node.links.all())
        if links > LINKS_EACH * len(self._world.machines):
            wrong.append(f"{machine.name} has {links} links in a world of {len(self._world.machines)} nodes")
        if node.links.unproven > UNPROVEN_MAX:
            wrong.append(f"{machine.name} holds {node.links.unproven} connections that did not prove who they are")
        held = node.tasks._ledger.held_bytes
        if held > REMEMBER_BYTES + LEDGER_SLACK_BYTES:
            wrong.append(f"{machine.name} remembers {held} bytes of results")
        wrong.extend(
            f"{machine.name}'s agent {resident.spec.name} has {resident.load} tasks"
            for resident in node.host.all()
            if resident.load > QUEUE_MAX
        )
        return wrong
