"""What a node and its workers say to each other, and the verbs about agents that people call.

Between node and worker the list is closed. Node to worker: `agent.activate`, `agent.run`, `agent.hear`, `agent.peers`, `agent.health`,
`agent.stop`. Worker to node: `mesh.call`, `mesh.send`, and `agent.keep` with `[state or None, what was sent]` (`unkept.py`). What
letters look like says `letters.py`. The connection itself is the worker's identity, so none of them carries one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from skerry.agents.about import About
from skerry.agents.runtimes.contract import Offer
from skerry.identity.pieces import Pieces, pack_array

ACTIVATE = "agent.activate"
RUN = "agent.run"
HEALTH = "agent.health"
STOP = "agent.stop"
HEAR = "agent.hear"
PEERS = "agent.peers"
KEEP = "agent.keep"
MESH_CALL = "mesh.call"
MESH_SEND = "mesh.send"
HUNG_S = 2.0  # how long a worker lets a task go on after its deadline before it ends itself
WORKER_VERBS = frozenset({MESH_CALL, MESH_SEND, KEEP})  # all that a worker may ask of its node


@dataclass(frozen=True, slots=True)
class ActivateRequest:
    """Load what `runtimes.contract.Source` says. `path` is "" where there is nothing stored."""

    runtime: str
    name: str
    path: str
    entry: str
    options: dict[str, Any]
    concurrency: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    state: bytes = b""


@dataclass(frozen=True, slots=True)
class ActivateReply:
    """hears: it takes letters; role: what it is, as names of peers say it (a class's name)"""

    instance_id: str
    offers: list[Offer]
    about: About = field(default_factory=About)
    hears: bool = False
    role: str = ""


class RunRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One task, an array as tasks are; `payload` is CBOR. The reply's body, or each part's, is CBOR too, and nothing around it.

    `turn` counts up from 1 for each worker, and tells after its end what it had begun.
    """

    turn: int
    capability: str
    payload: bytes
    task_id: bytes
    priority: int = 5

    def to_bytes(self) -> bytes | Pieces:
        return pack_array([self.turn, self.capability, self.payload, self.task_id, self.priority], large=2)


@dataclass(frozen=True, slots=True)
class HealthReply:
    ok: bool
    detail: str
    offers: list[Offer]


@dataclass(frozen=True, slots=True)
class MeshCallRequest:
    """An agent asks the mesh; the agent named in `agent` where it is not empty. `task_id`: of the task for which it asks."""

    capability: str
    payload: bytes
    agent: str = ""
    reach: str = "formation"
    task_id: bytes = b""


# --- verbs for people -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentRunRequest:
    """`agent.run`: host something new.

    target         as on the command line, paths absolute; folder: store all of it with a Python file
    requirements   lines as pip reads them; environment: variables; settings: what `--set` chose
    replace        where the name is taken: put this in its place, under the same key, with the same state
    share          names of contacts that may have it, or `public`; as the host takes it, their ids
    about          what its card says, beside or in place of what the code says of itself
    shipped        its files by relative path, where it comes from another machine; paths above are then relative to them
    """

    target: str
    name: str = ""
    capabilities: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    requirements: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    concurrency: int = 1
    memory_bytes: int = 0
    replace: bool = False
    shipped: dict[str, bytes] = field(default_factory=dict)
    share: list[str] = field(default_factory=list)
    about: About = field(default_factory=About)


@dataclass(frozen=True, slots=True)
class AgentName:
    """An agent by its name on this node, or by its id."""

    name: str


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """`agent.share`: who outside the formation may have an agent of this node: contacts by name, `public`, or `none`."""

    name: str
    share: list[str]


@dataclass(frozen=True, slots=True)
class AgentQuery:
    """`agent.list`: all agents, or those that have all that is asked for.

    capability   `kind:name`, or a query that ends in `*`; skill, tag: exactly, in any case
    words        each of them somewhere in name, description, skills, tags, capabilities or their descriptions
    public       also what formations that are no contacts say to everybody, as far as seeds and peers brought it
    """

    capability: str = ""
    skill: str = ""
    tag: str = ""
    words: str = ""
    public: bool = False


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """One agent as `agent list` and `agent show` present it. Times are Unix ms; `status` as in `profile.Status`.

    contact        whose it is, where it is a contact's; share: who outside may have it, of local agents only
    formation      whose it is, where it is another formation's
    pid, sandbox   of its process, and whether that is inside bubblewrap; of local agents only
    hears          it takes letters; None: not known
    letters_waiting, letters_aside   letters for it that the asked node knows of: that wait, that were put aside
    """

    id: str
    name: str
    node: str
    node_name: str
    runtime: str
    status: str
    capabilities: list[str]
    offers: list[Offer] = field(default_factory=list)
    detail: str = ""
    local: bool = False
    reachable: bool = True
    restarts: int = 0
    pid: int = 0
    sandbox: bool = False
    created_at: int = 0
    contact: str = ""
    share: list[str] = field(default_factory=list)
    updated_at: int = 0
    version: str = ""
    description: str = ""
    skills: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    endpoint: str = ""
    formation: str = ""
    hears: bool | None = None
    letters_waiting: int = 0
    letters_aside: int = 0


@dataclass(frozen=True, slots=True)
class AgentList:
    agents: list[AgentInfo]


@dataclass(frozen=True, slots=True)
class LogsRequest:
    """The last `lines` of an agent's log, or what came after a reply's cursor."""

    name: str
    lines: int = 200
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class LogsReply:
    text: str
    cursor: str = ""
