"""The agent that is called: it gives back what it gets, so that what is measured is the way there and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from skerry import Agent, Message, Session, handles

CAPABILITY = "custom:echo"
PARTS = "custom:count"
LARGE = "custom:large"
LETTERS = "custom:letters"
HANG = "custom:hang"


class Echo(Agent):
    """For small calls and streams."""

    @handles(CAPABILITY)
    async def echo(self, payload: Any) -> Any:
        return payload

    @handles(PARTS)
    async def count(self, parts: int) -> AsyncIterator[int]:
        for number in range(parts):
            yield number


class Book(Agent):
    """Counts letters."""

    state = ("letters",)

    def __init__(self) -> None:
        self.letters = 0

    async def on_message(self, session: Session, message: Message) -> None:
        self.letters += 1

    @handles(LETTERS)
    def count(self) -> int:
        return self.letters


class Large(Agent):
    """For large values, in a process of its own."""

    @handles(LARGE)
    async def large(self, payload: Any) -> Any:
        return payload


class Hang(Agent):
    """The one that a task names never ends it, and says so in its log; others do it at once."""

    @handles(HANG, idempotent=True)
    async def hang(self, victim: str) -> str:
        name, _, what = victim.partition(" ")
        if self.name == name:
            self.log.info("hangs for %s", what)
            await asyncio.Event().wait()
        return self.name
