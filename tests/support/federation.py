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
from skerry.node.federating import Federating, NoLists
from skerry.node.node import Node
from skerry.records.abroad import Abroad, Shared
from skerry.records.card import AgentCard, sign_card
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


@asynccontextmanager
async def public_node(folder: Path, *, tls: bool = True, lists: Any = None, behind_proxy: bool = False) -> AsyncIterator[PublicNode]:
    """A founder with a public listener on a free port."""
    async with node_here(folder) as node:
        shared = Shared(
            node.replica, node.ports.store, node.roster, lists=lists or NoLists(), believed=lambda a: node.trust.standing(a).belongs
        )
        federating = Federating(node, shared=shared, contacts=Abroad(node.ports.store), seeds=())
        scheme = "https" if tls else "http"
        context = RealNetwork(node.key).listening_context
        door = PublicDoor(node, federating, f"{scheme}://127.0.0.1:0", tls=context, behind_proxy=behind_proxy)
        bound = await door.open()
        try:
            yield PublicNode(node, federating, f"{scheme}://{bound}")
        finally:
            await federating.close()
            await door.close()
