"""Requests and replies of the routing verbs. What a task is made of travels as `task.Request`, `task.Task` and `task.TaskResult`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CapabilityQuery:
    """`capability.list`, `capability.show`: a capability, or a query that ends in `*`."""

    query: str = "*"
    where: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CapabilityInfo:
    """One capability as one agent offers it.

    latency_ms   as this node measured it, None where it has not
    load         tasks that wait or run there, as far as this node knows; reputation: this node's own, 0.5 for whom it never asked
    """

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
    load: int = 0
    reputation: float = 0.5
    blacklisted: bool = False


@dataclass(frozen=True, slots=True)
class CapabilityList:
    capabilities: list[CapabilityInfo]


@dataclass(frozen=True, slots=True)
class RouterStats:
    """What a node's routing knows and did since it started. Members are agents that offer something; available: those it may ask now."""

    strategy: str
    circle_count: int
    capability_count: int
    total_members: int
    available_members: int
    choices: dict[str, int] = field(default_factory=dict)
    failovers: int = 0
    hedges_won: int = 0
    hedges_lost: int = 0
    restarts: int = 0
    blacklisted: int = 0


@dataclass(frozen=True, slots=True)
class ScoreQuery:
    """`reputation.list`: agents, nodes and circles that this node asked something."""


@dataclass(frozen=True, slots=True)
class Score:
    """What this node makes of one subject. kind: agent, node or circle; name: as people know it, "" where it is gone."""

    kind: str
    id: str
    name: str
    score: float
    observations: int
    blacklisted: bool


@dataclass(frozen=True, slots=True)
class ScoreList:
    scores: list[Score]


@dataclass(frozen=True, slots=True)
class ForgiveRequest:
    """`reputation.forgive`: by name, id or the start of an id."""

    name: str
