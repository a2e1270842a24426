"""What an agent sees of the mesh, without one: it answers by itself and notes how it was asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from skerry.agents.letters import MeshSendReply
from skerry.agents.runtimes.contract import Context


@dataclass
class NotedMesh:
    """Each call returns its payload in a list; a stream gives it twice."""

    asked: list[tuple[str, Any, float | None, str | None]] = field(default_factory=list)
    sent: list[tuple[str, Any, bool, bool]] = field(default_factory=list)  # to, content, urgent, only looked

    async def call(
        self, capability: str, payload: Any, *, timeout_s: float | None = None, agent: str | None = None, reach: str = "formation"
    ) -> Any:
        self.asked.append((capability, payload, timeout_s, agent))
        return [payload]

    async def stream(
        self, capability: str, payload: Any, *, timeout_s: float | None = None, agent: str | None = None, reach: str = "formation"
    ) -> AsyncIterator[Any]:
        self.asked.append((capability, payload, timeout_s, agent))
        yield payload
        yield payload

    async def send(self, to: str, content: Any, *, urgent: bool = False, only_look: bool = False) -> MeshSendReply:
        self.sent.append((to, content, urgent, only_look))
        return MeshSendReply("session", f"{to}@ids")


def context(mesh: NotedMesh | None = None) -> Context:
    return Context(mesh or NotedMesh(), logging.getLogger("agent.test"))
