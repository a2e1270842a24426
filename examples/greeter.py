"""An agent in a few lines: `skerry agent run examples/greeter.py:Greeter`, then `skerry call custom:greet '{"name": "Ada"}'`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from skerry import Agent, handles


@dataclass
class Who:
    """The type of a payload is its schema: a call that does not fit it is refused with the field's name."""

    name: str


class Greeter(Agent):
    """Greets, and counts."""

    state = ("greeted",)

    def __init__(self) -> None:
        self.greeted = 0

    @handles("custom:greet", description="Greets somebody by name.")
    async def greet(self, who: Who) -> str:
        self.greeted += 1
        return f"Hello {who.name}, you are number {self.greeted}"

    @handles("custom:countdown", description="Counts down to zero, one part at a time.")
    async def countdown(self, start: int) -> AsyncIterator[int]:
        for number in range(start, -1, -1):
            yield number
