"""Requests and replies of the verbs about nodes and formations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skerry.routing.verbs import MeshStats, RouterStats


@dataclass(frozen=True, slots=True)
class Nothing:
    """A request or reply without fields."""


@dataclass(frozen=True, slots=True)
class PingReply:
    """Who is there, and its wall clock (Unix ms)."""

    node: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """`node.join`: a ticket's secret, and the name that the joining node goes by. `client`: it is no node, and only wants to call."""

    secret: bytes
    name: str
    client: bool = False


@dataclass(frozen=True, slots=True)
class JoinReply:
    """The grant (signed, with its chain), and the records that the new member needs to find the others; `seeds`: nodes and addresses that
    the inviter itself was told of, of which it may have no record."""

    grant: bytes
    records: list[bytes]
    seeds: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RenewReply:
    grant: bytes


@dataclass(frozen=True, slots=True)
class DirectoryReply:
    """`formation.directory`: the signed records by which a client finds the nodes and judges them."""

    records: list[bytes]


@dataclass(frozen=True, slots=True)
class TwinRequest:
    """`node.twin`: another process shows the key of the node that is asked; where it did (the asking node's name) is for people."""

    seen_at: str = ""


@dataclass(frozen=True, slots=True)
class RenameRequest:
    name: str


@dataclass(frozen=True, slots=True)
class LeaveReply:
    """`node.leave`: how many nodes heard of it, of how many that are left."""

    formation: str
    told: int
    nodes: int


@dataclass(frozen=True, slots=True)
class InviteRequest:
    role: str = "member"
    uses: int = 1
    ttl_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class InviteReply:
    """`expires_at`: Unix ms. The ticket is a secret."""

    ticket: str
    role: str
    uses: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node of the formation as this one sees it. Times are Unix ms.

    state    of its grant: valid, lapsed, expired, revoked ...; link: "self", "up" or why it is down
    presence alive, suspect, away or gone, as the node that is asked sees it; "" of one that does not belong
    path     how the link goes: "direct ADDRESS", "direct, from HOST" or "via NODE"; "" without a link
    reach    what it says of itself: dialable, outbound (nobody can dial it), or "" where it does not know
    """

    id: str
    name: str
    role: str
    state: str
    link: str
    reachable: bool
    addresses: list[str] = field(default_factory=list)
    version: str = ""
    runtimes: list[str] = field(default_factory=list)
    inventory: dict[str, Any] = field(default_factory=dict)
    agents: int = 0
    grant_expires_at: int = 0
    granted_by: str = ""
    clock_ahead_ms: int = 0
    reason: str = ""
    presence: str = ""
    path: str = ""
    reach: str = ""


@dataclass(frozen=True, slots=True)
class NodeListRequest:
    """`node.list`. `everybody`: clients too, and nodes that left or were forgotten."""

    everybody: bool = False


@dataclass(frozen=True, slots=True)
class NodeList:
    nodes: list[NodeInfo]


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node by its name, its id, or the start of its id."""

    name: str


@dataclass(frozen=True, slots=True)
class RevokeRequest:
    """`node.revoke`. `dry_run` only says what would follow; `keep`: ids whose grants by this operator are issued again (None: all)."""

    name: str
    reason: str = ""
    dry_run: bool = False
    keep: list[str] | None = None


@dataclass(frozen=True, slots=True)
class RevokeReply:
    """Who was revoked, whose grants fell with it, and how many were issued again."""

    id: str
    name: str
    role: str
    voided: list[str]
    reissued: int


@dataclass(frozen=True, slots=True)
class FormationInfo:
    id: str
    founder_home: bool
    operators: list[str]
    nodes: int
    agents: int
    revoked: list[str]
    own_role: str
    own_state: str
    own_expires_at: int
    clients: int = 0


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """`formation.restore`: the root key's seed."""

    seed: bytes


@dataclass(frozen=True, slots=True)
class StatusReply:
    """What one node says about itself and what it sees. Times are Unix ms; `warnings` are for people; `dht`: where others enter it."""

    id: str
    name: str
    formation: str
    role: str
    state: str
    listen: str
    socket: str
    http: str
    version: str
    pid: int
    started_at: int
    grant_expires_at: int
    nodes: list[NodeInfo]
    agents_local: int
    agents_known: int
    capabilities: list[str]
    connections: int
    warnings: list[str]
    dht: str = ""
    circles: MeshStats = field(default_factory=MeshStats)
    routing: RouterStats | None = None


@dataclass(frozen=True, slots=True)
class ContactInfo:
    """One contact. `kind`: formation, node or inproc; `link`: "up", or why it is down; `agents`: how many it shares with us."""

    name: str
    id: str
    kind: str
    addresses: list[str]
    allow: list[str]
    link: str
    agents: int = 0


@dataclass(frozen=True, slots=True)
class ContactList:
    """`problem`: what is wrong with contacts.toml, where it can't be taken as it is."""

    contacts: list[ContactInfo]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ContactName:
    """A contact by its name, its id, or the start of its id."""

    name: str


@dataclass(frozen=True, slots=True)
class ContactAddRequest:
    """`contact.add`: an entry as contacts.toml has it. What is None, and the id of one that is there, stays as it was; `allow` of `none`
    alone leaves it no right."""

    name: str
    addresses: list[str] | None = None
    formation: str = ""
    node: str = ""
    allow: list[str] | None = None


@dataclass(frozen=True, slots=True)
class ContactInviteRequest:
    """`contact.invite`: the name under which the other formation will be a contact, and what it may do here."""

    name: str
    allow: list[str] = field(default_factory=list)
    ttl_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class ContactInviteReply:
    """`expires_at`: Unix ms. The ticket is a secret."""

    ticket: str
    name: str
    allow: list[str]
    expires_at: int


@dataclass(frozen=True, slots=True)
class ContactAcceptRequest:
    """`contact.accept`: the other's ticket, our name for it, and what it may do here (None: what it allows us)."""

    ticket: str
    name: str
    allow: list[str] | None = None


@dataclass(frozen=True, slots=True)
class ContactMeetRequest:
    """`contact.meet`: an operator of another formation shows our ticket, and says where its nodes are."""

    secret: bytes
    addresses: list[str]


@dataclass(frozen=True, slots=True)
class ContactMeetReply:
    """What the other formation may do here, and where our nodes are."""

    allow: list[str]
    addresses: list[str]


@dataclass(frozen=True, slots=True)
class NewsRequest:
    """`contact.news`: there is something new for the contact to pull; and who is out in the formation that says so."""

    records: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PrivatePullRequest:
    """`private.pull`: what is told in confidence, where its digest is another one."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class PrivatePullReply:
    statements: list[bytes]


@dataclass(frozen=True, slots=True)
class PrivatePushRequest:
    statements: list[bytes]


@dataclass(frozen=True, slots=True)
class AskRequest:
    """`node.ask`: put a verb to another node, in this node's name. `body` is the packed request."""

    node: str
    verb: str
    body: bytes
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class AskReply:
    body: bytes


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that `doctor` looked at. `ok` None: it could not be looked at."""

    what: str
    ok: bool | None
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    """A node by name or id, or an address; "" looks at this node itself."""

    peer: str = ""


@dataclass(frozen=True, slots=True)
class DoctorReply:
    checks: list[Check]
