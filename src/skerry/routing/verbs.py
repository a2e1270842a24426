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


# --- circles ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CircleCreateRequest:
    """`callable_by`: formation, contacts or anyone; `public`: announced to everybody."""

    name: str
    description: str = ""
    open: bool = False
    callable_by: str = "formation"
    public: bool = False


@dataclass(frozen=True, slots=True)
class CircleName:
    """A circle by name, id, or the start of its id."""

    name: str


@dataclass(frozen=True, slots=True)
class CircleMember:
    """A circle and an agent, by name or id."""

    circle: str
    agent: str


@dataclass(frozen=True, slots=True)
class CircleQuery:
    """Circles that offer a capability (a query; "" for all); `discover`: look for those of others first."""

    capability: str = ""
    discover: bool = False


@dataclass(frozen=True, slots=True)
class CircleMemberInfo:
    id: str
    name: str
    node: str
    status: str
    capabilities: list[str]


@dataclass(frozen=True, slots=True)
class CircleInfo:
    """`foreign`: discovered, of another formation. Times in Unix ms, 0 where it is not announced by this node. `reputation`: this node's
    own score of it, None where it never asked it anything."""

    id: str
    name: str
    description: str
    formation: str
    founder: str
    open: bool
    public: bool
    callable_by: str
    epoch: int
    capabilities: list[str]
    member_count: int
    available_count: int
    members: list[CircleMemberInfo] = field(default_factory=list)
    invited: list[str] = field(default_factory=list)
    foreign: bool = False
    addresses: list[str] = field(default_factory=list)
    announced_at: int = 0
    expires_at: int = 0
    reputation: float | None = None
    blacklisted: bool = False


@dataclass(frozen=True, slots=True)
class CircleList:
    """`refused`: how many announcements of others were not believed since the node started, by reason; `first`: where something was asked
    for, the id of the circle that a task for it goes to before the others."""

    circles: list[CircleInfo]
    refused: dict[str, int] = field(default_factory=dict)
    first: str = ""


@dataclass(frozen=True, slots=True)
class AnnouncementsRequest:
    """`circle.announcements`: of public circles that offer that, or of that one."""

    capability: str = ""
    circle: bytes = b""


@dataclass(frozen=True, slots=True)
class AnnouncementsReply:
    """Each as `routing.announcement.judge` takes it."""

    announcements: list[bytes]


@dataclass(frozen=True, slots=True)
class MeshStats:
    """Circles of this node's formation, and those that were discovered. capacity: members of these that are said to be available."""

    local_circle_count: int = 0
    local_capability_count: int = 0
    local_member_count: int = 0
    local_available_count: int = 0
    discovered_circle_count: int = 0
    discovered_capacity: int = 0


# --- what routing did, and what it makes of whom ----------------------------------------------------------------------------------


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
