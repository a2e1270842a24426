"""Rounds: each wire is made whole, or taken away, after whatever happened.

A round now and then, and whenever a way opens, shows each half to the other side: where its half is missing, and the wire never stood, it
is asked to write it; where the wire did stand, it took its half away, and ours goes too.

The rule: what was decided while we asked counts, not what was so before; what fails stays for the next round, and no failure ends them.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from skerry.errors import Code, Refused, SkerryError
from skerry.identity.grants import State
from skerry.node.sides import Sides
from skerry.ports import jitter
from skerry.wiring.proxy import ControlChannelUnavailable
from skerry.wiring.verbs import WireCheckRequest
from skerry.wiring.wires import End, Half, Step, next_step, wire_name

if TYPE_CHECKING:
    from skerry.node.node import Node
    from skerry.node.wiring import Wires

ROUND_S = 20.0  # how often all wires are looked after
BUSY_S = 2.0  # until they are again, where a node of ours that has just started could not say yet
NODES_AT_ONCE = 16  # that are asked; one that does not answer takes some seconds
CHECKS_AT_ONCE = 16  # of one node
log = logging.getLogger(__name__)


class Rounds:
    """One node's."""

    def __init__(self, node: Node, wires: Wires, sides: Sides) -> None:
        self._node = node
        self._wires = wires
        self._sides = sides
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.rounds = 0
        self._some_busy = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._look_after())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self) -> None:
        self._wake.set()

    async def _look_after(self) -> None:
        while True:
            with suppress(TimeoutError):
                most_s = BUSY_S if self._some_busy else ROUND_S
                async with asyncio.timeout(jitter(self._node.ports.random, most_s * 0.5, most_s)):
                    await self._wake.wait()
            self._wake.clear()
            self._some_busy = False
            await self._node.may_write.wait()
            try:
                halves = self._wires.halves()
            except SkerryError as error:
                log.error("the wires can't be looked after: %s", error)
                continue
            by_node: dict[bytes, list[Half]] = {}
            for half in halves:
                by_node.setdefault(half.peer.node, []).append(half)
            places = asyncio.Semaphore(NODES_AT_ONCE)
            await asyncio.gather(*(self._check_all(some, places) for some in by_node.values()))
            self.rounds += 1

    async def _check_all(self, halves: list[Half], places: asyncio.Semaphore) -> None:
        """Those with one node. Where it does not answer for one, it does not for the others either, and nobody waits for that again."""
        down: SkerryError | None = None
        async with places:
            for start in range(0, len(halves), CHECKS_AT_ONCE):
                some = halves[start : start + CHECKS_AT_ONCE]
                failed = await asyncio.gather(*(self._check(half, down) for half in some))
                down = down or next((error for error in failed if isinstance(error, ControlChannelUnavailable)), None)

    async def _check(self, half: Half, down: SkerryError | None) -> SkerryError | None:
        """See that a wire is whole, or gone. Whatever fails stays for the next round, and is returned."""
        name = wire_name(half.own.agent, half.peer.agent)
        try:
            await self._make_so(half, name, down)
            self._wires.problems.pop(name, None)
        except SkerryError as error:
            self._some_busy |= error.code == Code.BUSY and half.peer.formation == self._node.formation
            if self._wires.is_still(half):
                self._wires.problems[name] = self._explained(half.peer, error)
            return error
        return None

    async def _make_so(self, half: Half, name: str, down: SkerryError | None) -> None:
        if self._node.host.get(half.own.agent) is None or self._is_out(half.peer):
            self._wires.take_away(name)
            return
        if down is not None:
            raise down
        has_stood = self._wires.theirs(name) is not None
        try:
            other = await self._sides.of_end(half.peer)
            said = (await other.check(WireCheckRequest(half.signed))).descriptor
            if not self._wires.is_still(half):
                return  # it was taken away, or written anew, while we asked
            step = next_step(has_stood=has_stood, theirs=bool(said))
            if step is Step.COMPLETE:
                said = (await other.wire(self._wires.request(half))).descriptor
            if step is Step.GIVE_UP:
                self._wires.take_away(name)
            else:
                self._wires.believe(half, said)
        except Refused as error:
            is_ours = half.peer.formation == self._node.formation  # a node of ours may not have heard of our grant yet
            is_over = error.code == Code.UNKNOWN_MEMBER or (not has_stood and error.code == Code.NOT_GRANTED and not is_ours)
            if not is_over or not self._wires.is_still(half):
                raise
            log.info("the wire of %s to %s is given up: %s", half.own.name, half.peer.name, error)
            self._wires.take_away(name)

    def _explained(self, end: End, error: SkerryError) -> SkerryError:
        """A right that is missing where we are no contact is not what ails it."""
        contact = self._node.contacts.directory.of(node=end.node, formation=end.formation)
        if contact is not None and error.code == Code.NOT_GRANTED and self._node.envoy.is_shut_out(contact):
            return Refused(f"for the contact {contact.name} this formation is no contact (any more)", code=Code.NOT_GRANTED)
        return error

    def _is_out(self, end: End) -> bool:
        """Whether an end's node was put out of our formation, or left it: that is final for its key."""
        return end.formation == self._node.formation and self._node.trust.standing(end.node).state in (State.REVOKED, State.DEPARTED)
