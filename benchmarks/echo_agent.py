"""The agent that is called: it gives back what it gets, so that what is measured is the way there and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from skerry import Agent, handles

CAPABILITY = "custom:echo"
PARTS = "custom:count"
LARGE = "custom:large"


class Echo(Agent):
    """For small calls and streams."""

    @handles(CAPABILITY)
    async def echo(self, payload: Any) -> Any:
        return payload

    @handles(PARTS)
    async def count(self, parts: int) -> AsyncIterator[int]:
        for number in range(parts):
            yield number


class Large(Agent):
    """For large values, in a process of its own."""

    @handles(LARGE)
    async def large(self, payload: Any) -> Any:
        return payload
