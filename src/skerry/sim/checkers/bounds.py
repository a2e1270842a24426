"""Bounded queues: what others make a node hold stays within its limits, and so does what it has under way."""

from __future__ import annotations

from skerry.agents.resident import QUEUE_MAX
from skerry.channel.links import UNPROVEN_EACH_MAX, UNPROVEN_MAX
from skerry.channel.stream import BUFFER_BYTES_MAX, HELD_FRAMES_MAX
from skerry.node.node import Node
from skerry.node.strangers import LINKS_MAX as STRANGERS_MAX
from skerry.records.replica import RECOGNISED_MAX, UNKNOWN_AUTHORS_RECORDS_MAX
from skerry.routing.ledger import REMEMBER_BYTES
from skerry.sim.adversary import FLOOD_CALLS
from skerry.sim.machine import Machine
from skerry.sim.world import World

LINKS_EACH = 4  # with one peer: two that were dialled at once, one that drains, a probe
LINKS_HOSTILE = 32 + UNPROVEN_EACH_MAX  # of an adversary: what one key may have, and strangers of one address
LEDGER_SLACK_BYTES = 32 * 1024 * 1024  # what runs is not forgotten, and the newest result may be large
TASKS_FREE = 200 + FLOOD_CALLS  # of a node's own, of agents and their calls, and of one peer that floods
TASKS_EACH = 24  # for each node of the world: a dial, pulls, pushes, calls
OUTBOX_RECORDS_MAX = 20_000  # that wait to be pushed to one peer: all of a formation of 200 nodes


class Bounds:
    """Looks into every node."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> list[str]:
        return [wrong for machine in self._world.up() for wrong in self._of(machine)]

    def settled(self) -> list[str]:
        return self.look()

    def _of(self, machine: Machine) -> list[str]:
        node, wrong = machine.node, []
        count = len(self._world.machines)
        links = len(node.links.all())
        if links > LINKS_EACH * count + (LINKS_HOSTILE if self._world.network.tap is not None else 0):
            wrong.append(f"{machine.name} has {links} links in a world of {count} nodes")
        measures = (
            (node.links.unproven, UNPROVEN_MAX, "connections that did not prove who they are"),
            (_most_from_one_place(node), UNPROVEN_EACH_MAX, "of them from one place"),
            (len(node.strangers), STRANGERS_MAX, "links of strangers"),
            (node.tasks._ledger.held_bytes, REMEMBER_BYTES + LEDGER_SLACK_BYTES, "bytes of results"),
            (len(node.replica._unheard), UNKNOWN_AUTHORS_RECORDS_MAX, "records of unknown authors"),
            (len(node.replica._recognised), RECOGNISED_MAX, "records told by their bytes"),
            (max(map(len, node.federation.pushes.outbox.values()), default=0), OUTBOX_RECORDS_MAX, "records to push to one peer"),
            (len(node.federation._tasks) + len(node._tasks), TASKS_FREE + TASKS_EACH * count, "pulls and pushes under way"),
            (
                max((link.connection.unsent_bytes for link in node.links.all()), default=0),
                BUFFER_BYTES_MAX,
                "bytes that a peer does not read",
            ),
            (max((len(link.connection._held) for link in node.links.all()), default=0), HELD_FRAMES_MAX, "frames between two users"),
        )
        wrong.extend(f"{machine.name} holds {held} {what}: {most} are allowed" for held, most, what in measures if held > most)
        wrong.extend(
            f"{machine.name}'s agent {resident.spec.name} has {resident.load} tasks"
            for resident in node.host.all()
            if resident.load > QUEUE_MAX
        )
        return wrong


def _most_from_one_place(node: Node) -> int:
    return max((len(at) for place, at in node.links._unproven._at.items() if place), default=0)
