"""Requests and replies of the routing verbs. What a task is made of travels as `task.Request`, `task.Task` and `task.TaskResult`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CapabilityQuery:
    """`capability.list`, `capability.show`: a capability, or a query that ends in `*`."""

    query: str = "*"


@dataclass(frozen=True, slots=True)
class CapabilityInfo:
    """One capability as one agent offers it. `latency_ms` as this node measured it, None where it has not."""

    capability: str
    agent: str
    agent_id: str
    node: str
    node_name: str
    reachable: bool
    idempotent: bool
    streams: bool
    description: str = ""
    latency_ms: float | None = None
    payload: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    example: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CapabilityList:
    capabilities: list[CapabilityInfo]
