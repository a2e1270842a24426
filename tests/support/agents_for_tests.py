"""Small agents that follow OpenAI's shapes, with the faults and habits that agents have. Run as `agents_for_tests.py:Class`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from skerry import Agent, handles

PART_EVERY_S = 0.01
FLOOD_CHARACTERS = 16 * 1024


def _said(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def _chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


class Echo(Agent):
    """Chats word by word, also under a name as hubs have them."""

    @handles("inference:echo")
    def echo(self, body: dict) -> Iterator[dict]:  # type: ignore[type-arg] # as users write it
        for word in _said(body).split():
            yield _chunk(f"{word} ")
        yield _chunk("", "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}

    @handles("inference:org/model:8b")
    def whole(self, body: dict) -> dict:  # type: ignore[type-arg]
        """Does not stream. Answers with what it was asked for beside the messages."""
        rest = {key: value for key, value in sorted(body.items()) if key not in ("messages", "model", "stream")}
        call = {"id": "call-1", "type": "function", "function": {"name": "note", "arguments": "{}"}}
        message = {"role": "assistant", "content": str(rest), "tool_calls": [call]}
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        return {"model": "inner", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


class Toy(Agent):
    """Embeds a text as its length and its number of words; always as floats, whatever was asked."""

    @handles("embedding:toy")
    def embed(self, body: dict) -> dict:  # type: ignore[type-arg]
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        width = body.get("dimensions") or 2
        return {"data": [{"embedding": [float(len(text)), float(len(text.split())), 0.5][:width]} for text in texts]}


class Faulty(Agent):
    """Fails in every way that a caller must hear of."""

    @handles("inference:broken")
    def broken(self, body: dict) -> dict:  # type: ignore[type-arg]
        raise RuntimeError("the GPU is on fire")

    @handles("inference:torn")
    async def torn(self, body: dict) -> AsyncIterator[dict]:  # type: ignore[type-arg]
        yield _chunk("so far ")
        raise RuntimeError("the GPU is on fire")

    @handles("inference:chatty")
    def chatty(self, body: dict) -> str:  # type: ignore[type-arg]
        return "plain words"


class Endless(Agent):
    """Never comes to an end by itself. Its log tells, for the word it was told, how many parts it made, and that it was given up."""

    @handles("inference:endless")
    async def endless(self, body: dict) -> AsyncIterator[dict]:  # type: ignore[type-arg]
        """`flood`: large parts, as quick as they are taken."""
        word, _, flood = _said(body).partition(" ")
        made = 0
        try:
            while True:
                yield _chunk("x" * FLOOD_CHARACTERS if flood else "more ")
                made += 1
                self.log.info("%s made %d", word, made)
                await asyncio.sleep(0 if flood else PART_EVERY_S)
        finally:
            self.log.info("%s ended", word)

    @handles("inference:silent")
    async def silent(self, body: dict) -> dict:  # type: ignore[type-arg]
        self.log.info("%s made 0", _said(body))
        try:
            return await asyncio.Event().wait()  # type: ignore[return-value] # never
        finally:
            self.log.info("%s ended", _said(body))
