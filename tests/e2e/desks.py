"""Agents that write to each other."""

import os
import signal
from typing import Any

from skerry import Agent, Message, Session, handles


class Book(Agent):
    """Counts what it is told, once each, and knows what it heard twice."""

    state = ("heard", "senders")

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.senders: list[str] = []
        self.peers: list[list[str]] = []

    async def on_message(self, session: Session, message: Message) -> None:
        content = message.content
        self.heard.append(content)
        self.senders.append(message.sender)
        if content == "raise":
            raise ValueError("this one can't be handled")
        if content == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(content, dict) and "echo" in content:
            await session.reply(content["echo"])
        if isinstance(content, dict) and "ask" in content:
            self.heard[-1] = await self.call(content["ask"], ["left", "asked"])
        if isinstance(content, dict) and "rally" in content and content["rally"] > 0:
            await session.reply({"rally": content["rally"] - 1})

    def peer_added(self, peer: str) -> None:
        self.peers.append(["added", peer])

    def peer_removed(self, peer: str) -> None:
        self.peers.append(["removed", peer])

    @handles("custom:peers")
    def met(self) -> list[list[str]]:
        return self.peers

    @handles("custom:heard")
    def told(self) -> list[Any]:
        return self.heard

    @handles("custom:senders")
    def who(self) -> list[str]:
        return self.senders

    @handles("custom:tell")
    async def tell(self, order: list) -> str:  # type: ignore[type-arg]
        """[peer, content, ...]: sends each; returns the session."""
        session = ""
        for content in order[1:]:
            session = await self.send(order[0], content)
        return session

    @handles("custom:tell-and-fail")
    async def tell_and_fail(self, order: list) -> None:  # type: ignore[type-arg]
        await self.send(order[0], order[1])
        raise ValueError("after it sent")


class Slow(Agent):
    """Takes its time with each letter."""

    state = ("heard",)

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def on_message(self, session: Session, message: Message) -> None:
        sum(range(2_000_000))  # some hundredths of a second
        self.heard.append(message.content)

    @handles("custom:slowly")
    def told(self) -> list[Any]:
        return self.heard


class Deaf(Agent):
    @handles("custom:deaf")
    def nothing(self) -> None:
        return None

    @handles("custom:deaf-tells")
    async def tell(self, order: list) -> str:  # type: ignore[type-arg]
        return await self.send(order[0], order[1])


class Silent(Agent):
    """Takes letters, and nothing else."""

    def on_message(self, session: Session, message: Message) -> None:
        self.log.info("heard %s", message.content)


class Counter(Agent):
    """Numbers what it sends, and counts what it hears: what did not follow the number before was lost, or came twice."""

    state = ("sent", "heard", "wrong")

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.heard: dict[str, int] = {}
        self.wrong: list[list[Any]] = []

    @handles("custom:send")
    async def write(self, order: list) -> int:  # type: ignore[type-arg]
        """[peer, how many]: what was sent in all."""
        peer, count = order
        for number in range(self.sent.get(peer, 0) + 1, self.sent.get(peer, 0) + count + 1):
            await self.send(peer, [self.name, number])
        self.sent[peer] = self.sent.get(peer, 0) + count
        return self.sent[peer]

    async def on_message(self, session: Session, message: Message) -> None:
        who, number = message.content
        if number != self.heard.get(who, 0) + 1:
            self.wrong.append([who, self.heard.get(who, 0), number])
        self.heard[who] = number

    @handles("custom:count", idempotent=True)
    def counted(self) -> list[Any]:
        return [self.sent, self.heard, self.wrong]
