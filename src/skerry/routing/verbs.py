"""Requests and replies of the routing verbs. A task itself travels as `task.Task` and `task.TaskResult`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from skerry.routing.task import PRIORITY_DEFAULT, REACH_FORMATION


class TaskCall(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`task.call`: a client asks its node to have a task done. As `task.Request`; the reply is a TaskResult."""

    capability: str
    payload: bytes
    agent: str = ""
    priority: int = PRIORITY_DEFAULT
    max_latency_ms: int = 0
    reach: str = REACH_FORMATION


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
