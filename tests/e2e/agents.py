"""The agents that these tests host. This file is copied into the homes of nodes: it imports nothing of the tests."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from skerry import Agent, handles
from skerry.errors import Unreachable


@dataclass
class Person:
    name: str
    age: int = 0


class Greeter(Agent):
    """Every form of handler."""

    state = ("greeted",)

    def __init__(self) -> None:
        self.greeted = 0

    def on_start(self) -> None:
        self.log.info("ready to greet")

    def on_stop(self) -> None:
        self.log.info("stops with %d greeted", self.greeted)

    @handles("custom:greet", description="Says hello.")
    def greet(self, name: str) -> str:
        self.greeted += 1
        return f"Hello, {name}!"

    @handles("custom:greet-async")
    async def greet_async(self, person: Person) -> dict[str, Any]:
        return {"said": f"Hello, {person.name}!", "age": person.age}

    @handles("custom:count")
    async def count(self, most: int) -> AsyncIterator[int]:
        for number in range(most):
            yield number

    @handles("custom:count-sync")
    def count_sync(self, most: int) -> Iterator[int]:
        yield from range(most)

    @handles("custom:echo")
    async def echo(self, anything):  # type: ignore[no-untyped-def]  # no hint: every value is taken
        return anything

    @handles("custom:where")
    async def where(self) -> list[Any]:
        return [self.name, os.getpid()]


class Troubled(Agent):
    """What goes wrong in handlers."""

    @handles("custom:raise")
    async def fail(self, text: str) -> None:
        raise LookupError(text)

    @handles("custom:raise-late")
    async def fail_late(self, parts: int) -> AsyncIterator[int]:
        for number in range(parts):
            yield number
        raise LookupError("after its parts")

    @handles("custom:crash")
    async def crash(self) -> None:
        os._exit(7)

    @handles("custom:print")
    def say(self, text: str) -> None:
        print(text, flush=True)  # stdout is the log too

    @handles("custom:cut-off")
    async def cut_off(self) -> None:
        raise Unreachable("whom it asked is gone", outcome_unknown=True)

    @handles("custom:odd")
    def odd(self) -> object:
        return threading.Lock()  # no value that can travel


class Holder(Agent):
    """Takes a task and does not let go. Its log says what it has begun, and that it was told to stop."""

    @handles("custom:hold")
    async def hold(self, what: str) -> None:
        await self._hold(what)

    @handles("custom:hold-stream")
    async def hold_stream(self, what: str) -> AsyncIterator[str]:
        yield "first"
        await self._hold(what)

    async def _hold(self, what: str) -> None:
        self.log.info("began %s", what)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.log.info("was told to stop %s", what)
            raise


class Blocker(Agent):
    """Holds its whole process: not even its loop turns."""

    @handles("custom:block")
    async def block(self) -> None:
        self.log.info("blocks")
        threading.Event().wait()


class Slow(Agent):
    """Never answers; `Quick` does the same at once, and it may be done twice."""

    @handles("custom:either", idempotent=True)
    async def either(self) -> str:
        self.log.info("began")
        await asyncio.Event().wait()
        return "slow"


class Quick(Agent):
    @handles("custom:either", idempotent=True)
    async def either(self) -> str:
        return "quick"


class Who(Agent):
    """Two of these on two nodes: which one did it?"""

    @handles("custom:who", idempotent=True)
    async def who(self) -> str:
        return self.name


class Asker(Agent):
    """Calls others."""

    @handles("custom:ask")
    async def ask(self, asked: dict[str, Any]) -> Any:
        reach = asked.get("reach", "formation")
        return {"heard": await self.call(asked["capability"], asked["payload"], timeout=asked.get("timeout"), reach=reach)}

    @handles("custom:relay")
    async def relay(self, asked: dict[str, Any]) -> AsyncIterator[Any]:
        async for part in self.stream(asked["capability"], asked["payload"], reach=asked.get("reach", "formation")):
            yield {"relayed": part}


class Large(Agent):
    """Values larger than a frame."""

    @handles("custom:reverse")
    async def reverse(self, data: bytes) -> bytes:
        return data[::-1]


class Broken(Agent):
    """Can't start."""

    def on_start(self) -> None:
        raise RuntimeError("the coffee is out")


class Idle(Agent):
    """Handles nothing."""


NOT_AN_AGENT = 3


class Toiler(Agent):
    """Two of these on two nodes: what one leaves undone the other may do."""

    @handles("custom:toil", idempotent=True)
    async def toil(self, seconds: float) -> str:
        self.log.info("toils")
        await asyncio.sleep(seconds)
        return self.name

    @handles("custom:toil-parts", idempotent=True)
    async def toil_parts(self, seconds: float) -> AsyncIterator[int]:
        self.log.info("toils")
        await asyncio.sleep(seconds)
        for number in range(3):
            yield number

    @handles("custom:toil-on", idempotent=True)
    async def toil_on(self, seconds: float) -> AsyncIterator[int]:
        """Its first part comes at once."""
        for number in range(4):
            yield number
            self.log.info("goes on")
            await asyncio.sleep(seconds / 3)


class Confidant(Agent):
    """Answers prompts. Its log says how many it heard."""

    @handles("inference:confidant")
    async def chat(self, body: dict) -> AsyncIterator[dict]:  # type: ignore[type-arg]
        self.log.info("heard a prompt")
        delta = {"role": "assistant", "content": "I tell nobody"}
        yield {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}
