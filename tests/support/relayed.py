"""Sides of which one forwards for the others, over whatever network they are on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from skerry.channel.address import via
from skerry.channel.link import Link
from skerry.errors import Unreachable
from tests.support.links import Side


class Told:
    """What sides know of relays (`channel.via.Relays`), and how a relay calls the other end: in one program, without verbs."""

    def __init__(self, *sides: Side) -> None:
        self.sides = {side.id: side for side in sides}
        self.asked: list[tuple[bytes, bytes]] = []
        self.coming: list[asyncio.Task[None]] = []
        self.nobody_comes = False
        self.sends_instead: Side | None = None  # a relay that lies about who comes
        for side in sides:
            side.links.via.relays = _OfOne(self, side)


class _OfOne:
    def __init__(self, told: Told, side: Side) -> None:
        self._told = told
        self._side = side

    async def ask(self, relay: bytes, node: bytes) -> bytes:
        self._told.asked.append((relay, node))
        told, sides = self._told, self._told.sides
        if relay not in sides:
            raise Unreachable("that relay is down")
        comes = told.sends_instead or sides[node]
        _, token, called = sides[relay].links.pipes.prepare(self._side.id, comes.id)
        if not told.nobody_comes:
            told.coming.append(asyncio.create_task(comes.links.via.come(relay, called)))
        return token

    def addresses_of(self, relay: bytes) -> Sequence[str]:
        return [self._told.sides[relay].address]

    def ways(self) -> Sequence[str]:
        return ()


async def over(here: Side, relay: Side, there: Side) -> Link:
    """A link through a pipe."""
    return await here.links.dial(via(relay.id), expected=there.id)
