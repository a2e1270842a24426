"""Nodes with a public listener in this process, and cards to give away."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skerry.channel.transports import RealNetwork
from skerry.gateway.public import PublicDoor
from skerry.identity.keys import KeyPair, agent_id
from skerry.node.federating import Federating
from skerry.node.node import Node
from skerry.records.card import AgentCard, sign_card
from skerry.records.confidence import SHARE, share_body, share_expires
from skerry.records.registry import AgentRegistry
from tests.support.node_here import node_here


def new_key() -> KeyPair:
    return KeyPair.from_seed(os.urandom(32))


def card_at(node: str, name: str = "greeter", key: KeyPair | None = None, **fields: Any) -> AgentCard:
    """A signed card of an agent at that node."""
    key = key or new_key()
    offered = f"custom:{name}"
    card = AgentCard(
        agent_id(key.public), name, key.public, endpoint=f"skerry://{node}/{name}", capabilities=(offered,), skills=(name,), updated_at=1000
    )
    return sign_card(replace(card, **fields), key)[0]


@dataclass(slots=True)
class PublicNode:
    """A node and its public listener."""

    node: Node
    federating: Federating
    url: str

    @property
    def registry(self) -> AgentRegistry:
        return self.federating.registry

    @property
    def id(self) -> str:
        return self.node.key.public.hex()

    @property
    def place(self) -> str:
        """As a seed names it."""
        scheme, _, authority = self.url.partition("://")
        return f"{scheme}://{self.id}@{authority}"

    def give(self, card: AgentCard, *contacts: bytes) -> None:
        """Put an agent that was registered for contacts on the list of these."""
        now_ms = self.node.ports.clock.now_ms()
        body = share_body(contacts, had=(), anybody=False, tombstone=b"")
        self.node.confidence.say(SHARE, card.id, body, expires=share_expires(contacts, now_ms=now_ms), now_ms=now_ms)


@asynccontextmanager
async def public_node(folder: Path, *, tls: bool = True, behind_proxy: bool = False, **options: Any) -> AsyncIterator[PublicNode]:
    """A founder with a public listener on a free port; `options` are further settings."""
    async with node_here(folder, **options) as node:
        federating = node.federating
        assert federating is not None
        scheme = "https" if tls else "http"
        context = RealNetwork(node.key).listening_context
        door = PublicDoor(node, federating, f"{scheme}://127.0.0.1:0", tls=context, behind_proxy=behind_proxy)
        bound = await door.open()
        try:
            yield PublicNode(node, federating, f"{scheme}://{bound}")
        finally:
            await door.close()
