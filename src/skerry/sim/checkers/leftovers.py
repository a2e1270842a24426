"""Nothing left open: a node that ended in order leaves no connection, task, timer, worker or file, and a living one has none that lead
nowhere once the world is calm.
"""

from __future__ import annotations

import asyncio

from skerry.sim.machine import Machine
from skerry.sim.secure import Secured
from skerry.sim.stream import End
from skerry.sim.world import World


class NothingLeftOpen:
    """Looks from outside: at the hosts' connections, the loop's tasks and timers, the disks."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> list[str]:
        return [f"{machine.name} left open: {left}" for machine in self._world.machines.values() for left in machine.left_open]

    def settled(self) -> list[str]:
        return self.look() + [wrong for machine in self._world.up() for wrong in self._of(machine)]

    def _of(self, machine: Machine) -> list[str]:
        known = _known(machine)
        lost: dict[str, int] = {}
        for end in self._world.network.open_ends(machine.name):
            if end.security.transport == "tcp" and _user(end) not in known:
                lost[_far(end)] = lost.get(_far(end), 0) + 1
        return [f"{machine.name} holds {count} connections with {name} that are nobody's" for name, count in sorted(lost.items())]


def _known(machine: Machine) -> set[asyncio.BaseProtocol]:
    """Whose connections a node knows: of its links, of their large values, of those who have not proved yet who they are; and the ends of
    the pipes that it forwards."""
    links = machine.node.links
    found: set[asyncio.BaseProtocol] = {link.connection for link in links.all()}
    found |= {link._bulk._stream for link in links.all() if link._bulk is not None}
    found |= {end for pipe in links.pipes._open.values() for end in (*pipe._ends, pipe._waiting) if end is not None}
    return found | set(links._unproven.all())


def _user(end: End) -> asyncio.BaseProtocol:
    """Who uses a connection; through a pipe, whoever lies above it."""
    protocol = end.get_protocol()
    return protocol.get_protocol() if isinstance(protocol, Secured) and protocol.done.done() else protocol


def _far(end: End) -> str:
    return end.out.path[1]
