"""Two agents that write to each other: one asks, the other has a chat model answer."""

from __future__ import annotations

from typing import Any

from skerry import Agent, Message, Session, handles

ANSWER_TOKENS = 32


class Keeper(Agent):
    """Keeps a light, and answers whoever is wired to it."""

    state = ("answered",)

    def __init__(self) -> None:
        self.answered = 0

    async def on_message(self, session: Session, message: Message) -> None:
        asked = {"messages": [{"role": "user", "content": message.content}], "max_tokens": ANSWER_TOKENS, "temperature": 0}
        said = await self.call("inference:smollm2", asked)
        self.answered += 1
        await session.reply(said["choices"][0]["message"]["content"])


class Visitor(Agent):
    """Asks one question after the other, each when the last was answered."""

    state = ("open", "talk")

    def __init__(self) -> None:
        self.open: list[str] = []
        self.talk: list[list[str]] = []

    def peer_added(self, peer: str) -> None:
        self.log.info("wired to %s", peer)

    async def on_message(self, session: Session, message: Message) -> None:
        self.talk.append([message.sender, message.content])
        if self.open:
            await self._ask(session.peer, self.open.pop(0))

    @handles("custom:visit")
    async def visit(self, wish: dict[str, Any]) -> str:
        """{"whom": an address, "questions": [...]}: begins to ask; returns the session."""
        first, *self.open = wish["questions"]
        return await self._ask(wish["whom"], first)

    @handles("custom:talk")
    def told(self) -> list[list[str]]:
        """Who said what, so far."""
        return self.talk

    async def _ask(self, whom: str, question: str) -> str:
        self.talk.append([self.name, question])
        return await self.send(whom, question)
