"""The agents of tests/e2e/test_strategies.py. This file is copied into the homes of nodes: it imports nothing of the tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from skerry import Agent, handles

MOMENT_S = 0.02


class Twin(Agent):
    """The one that a task names hangs, and its log says so; the others do it at once."""

    @handles("custom:which", idempotent=True)
    async def which(self) -> str:
        return self.name

    @handles("custom:hang", idempotent=True)
    async def hang(self, victim: str) -> str:
        await self._hang_if(victim)
        return self.name

    @handles("custom:count", idempotent=True)
    async def count(self, victim: str) -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await self._hang_if(victim)
        yield 3

    async def _hang_if(self, victim: str) -> None:
        name, _, what = victim.partition(" ")
        if self.name == name:
            self.log.info("hangs for %s", what)
            await asyncio.Event().wait()


class Ring(Agent):
    """Calls itself, and fails where it is told to."""

    @handles("custom:ring")
    async def ring(self, left: int) -> int:
        return 1 + await self.call("custom:ring", left - 1) if left else 0

    @handles("custom:broken")
    async def broken(self, whole: bool) -> str:
        if not whole:
            raise ValueError("it is broken")
        return "whole again"


class Fine(Agent):
    """One of two that offer the same in different ways."""

    @handles("custom:resize", idempotent=True, attributes={"quantization": "Q8_0", "dimensions": 384, "gpu": True})
    async def resize(self) -> str:
        return "fine"


class Coarse(Agent):
    @handles("custom:resize", idempotent=True, attributes={"quantization": "Q4_K_M", "dimensions": 384})
    async def resize(self) -> str:
        return "coarse"


class Queue(Agent):
    """Takes a moment for each task, one after the other."""

    @handles("custom:take-a-moment")
    async def take_a_moment(self, name: str) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOMENT_S):
                await asyncio.Event().wait()
        return name
