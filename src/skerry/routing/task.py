"""Request, Task and TaskResult: what a caller asks for, the work as it goes to a node, and its outcome.

All three travel as CBOR arrays in the order of their fields, because they are the hottest messages of all; payloads are CBOR inside, which
no node on the way opens. A newer peer may append fields.

The rule: a task says everything that decides where it may run and how often, and its id is made of the requester and 16 random bytes.
"""

from __future__ import annotations

from typing import TypedDict

import msgspec
from blake3 import blake3

from skerry.channel.messages import unpack_struct
from skerry.errors import EXIT_UNREACHABLE, Code, ProtocolError, Refused, SkerryError, Unreachable, UsageError, meaning
from skerry.identity.pieces import Body, Pieces, pack_array

PRIORITY_MOST = 10
PRIORITY_DEFAULT = 5
NONCE_BYTES = 16
TASK_ID_BYTES = 32
TIMEOUT_S = 60.0
REACH_FORMATION = "formation"
HOPS_MAX = 16  # agents that wait for one task, each for the next: deeper than people build, and shallower than a runaway goes
WHERE_MAX = 16  # attributes that one request may ask for
VEIL = "~"  # what a veiled agent begins with: no id does
VEILED_BYTES = 16
RESTARTED = b""  # a part that says: the stream begins anew. No value is empty, so no agent's part is
REACH_CONTACTS = "contacts"
REACH_PUBLIC = "public"
REACHES = (REACH_FORMATION, REACH_CONTACTS, REACH_PUBLIC)


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One task on its way to the node that does it.

    id, requester   32 bytes; created_at: Unix ms by the requester's clock
    capability      concrete, never a query; agent: the id of the agent that is asked
    payload         CBOR; max_latency_ms 0: no limit; priority 0 to 10, 10 first
    receipt         a signed one is wanted
    chain           the agents that wait for this task, the first caller first: who is called again is called in a circle. Those of another
                    formation are veiled
    origin          [task id, requester]: of the task of another formation's that a node of ours hands on, for that is what is signed
    """

    id: bytes
    capability: str
    agent: str
    payload: bytes
    requester: bytes
    created_at: int
    priority: int = PRIORITY_DEFAULT
    max_latency_ms: int = 0
    reach: str = REACH_FORMATION
    idempotent: bool = False
    chain: list[str] = []
    receipt: bool = False
    origin: list[bytes] = []

    @property
    def signed_for(self) -> tuple[bytes, bytes]:
        """The task id and the requester that a receipt names."""
        return (self.origin[0], self.origin[1]) if self.origin else (self.id, self.requester)

    def waits(self, agent: str) -> int:
        """How often an agent waits for this very task."""
        return self.chain.count(agent) + self.chain.count(veil(agent)) if self.chain else 0

    def to_bytes(self) -> bytes | Pieces:
        more = [self.chain, self.receipt, self.origin] if self.origin else [self.chain, self.receipt] if self.chain or self.receipt else []
        return pack_array(
            [
                self.id,
                self.capability,
                self.agent,
                self.payload,
                self.requester,
                self.created_at,
                self.priority,
                self.max_latency_ms,
                self.reach,
                self.idempotent,
                *more,
            ],
            large=3,
        )

    @classmethod
    def from_bytes(cls, body: Body) -> Task:
        """Raises ProtocolError that says which field is wrong."""
        task = unpack_struct(cls, body, large="payload")
        if len(task.id) != TASK_ID_BYTES or len(task.requester) != TASK_ID_BYTES or not 0 <= task.priority <= PRIORITY_MOST:
            raise ProtocolError("a task with an id, requester or priority that can't be")
        if task.origin and [len(one) for one in task.origin] != [TASK_ID_BYTES, TASK_ID_BYTES]:
            raise ProtocolError("a task whose origin is no task id and no requester")
        if len(task.chain) > HOPS_MAX:
            raise ProtocolError(f"a task for which {len(task.chain)} agents wait; at most {HOPS_MAX} may", code=Code.HOP_LIMIT)
        return task


class TaskResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The outcome. `payload` is CBOR where `success`; `error` is [code, message, hint, outcome_unknown] where not.

    completed_by: the agent's id; node: the id of the node that ran it; completed_at: Unix ms
    receipt: as in `receipt`, where one was asked for
    load, places: tasks that wait or run at that agent now, and how many it works on at once
    """

    task_id: bytes
    success: bool
    payload: bytes | None
    error: list[str | bool] | None
    completed_by: str
    node: bytes
    completed_at: int
    execution_time_ms: float
    load: int = 0
    places: int = 1
    receipt: bytes | None = None

    def to_bytes(self) -> bytes | Pieces:
        more = [self.load, self.places, self.receipt] if self.receipt is not None else [self.load, self.places]
        if more == [0, 1]:
            more = []
        return pack_array(
            [
                self.task_id,
                self.success,
                self.payload,
                self.error,
                self.completed_by,
                self.node,
                self.completed_at,
                self.execution_time_ms,
                *more,
            ],
            large=2,
        )

    @classmethod
    def from_bytes(cls, body: Body) -> TaskResult:
        return unpack_struct(cls, body, large="payload")

    def raise_error(self) -> None:
        """Raise what the task failed with, where it did."""
        if not self.success:
            raise error_from(self.error)


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a caller asks of the mesh, also as the body of `task.call`: a query, a payload (CBOR), and how to go about it.

    agent      a name or id, "" for any
    strategy   as `strategies.Strategy`, "" for the node's own; where: attributes that the agent must have
    hedge      ask a second agent where the first is slow, of idempotent tasks; restart: begin a cut stream anew at another one
    receipt    have the result signed by the agent; across formations it always is
    """

    capability: str
    payload: bytes
    agent: str = ""
    priority: int = PRIORITY_DEFAULT
    max_latency_ms: int = 0
    reach: str = REACH_FORMATION
    strategy: str = ""
    hedge: bool = False
    restart: bool = False
    where: dict[str, str] = {}
    receipt: bool = False

    @classmethod
    def from_bytes(cls, body: Body) -> Request:
        """Raises ProtocolError that says which field is wrong."""
        request = unpack_struct(cls, body, large="payload")
        if len(request.where) > WHERE_MAX:
            raise ProtocolError(f"a task asks for {len(request.where)} attributes; at most {WHERE_MAX} are taken", code=Code.TOO_LARGE)
        return request


class Wishes(TypedDict, total=False):
    """How to go about a task, as callers say it; the words mean what they mean in `Request`."""

    strategy: str
    hedge: bool
    restart: bool
    priority: int
    max_latency_ms: int
    where: dict[str, str]
    receipt: bool
    reach: str


def request_body(capability: str, payload: Body, agent: str, wishes: Wishes) -> bytes | Pieces:
    """The body of `task.call`, no longer than what is wished for makes it."""
    if not wishes:
        return pack_array([capability, payload, agent], large=1)
    priority, limit_ms = wishes.get("priority", PRIORITY_DEFAULT), wishes.get("max_latency_ms", 0)
    strategy, hedge, restart = wishes.get("strategy", ""), wishes.get("hedge", False), wishes.get("restart", False)
    reach = wishes.get("reach", REACH_FORMATION)
    more = [wishes.get("where", {}), wishes.get("receipt", False)]
    return pack_array([capability, payload, agent, priority, limit_ms, reach, strategy, hedge, restart, *more], large=1)


def read_where(pairs: list[str]) -> dict[str, str]:
    """`key=value` each. Raises UsageError that shows the form."""
    where: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = (part.strip() for part in pair.partition("="))
        if not key or not sign or not value:
            raise UsageError(f"{pair[:60]!r} asks for no attribute", hint="write key=value, for example quantization=Q4*")
        where[key] = value
    if len(where) > WHERE_MAX:
        raise UsageError(f"{len(where)} attributes are asked for; at most {WHERE_MAX} are taken", hint="leave some out")
    return where


def new_task_id(requester: bytes, nonce: bytes) -> bytes:
    """BLAKE3(requester + 16 random bytes), as the seed has it."""
    return blake3(requester + nonce).digest()


def veil(agent: str) -> str:
    """What another formation learns of an agent that waits for a task: enough to know its own again, and nothing of ours."""
    return agent if agent.startswith(VEIL) else VEIL + blake3(f"skerry/chain/1/{agent}".encode()).hexdigest(length=VEILED_BYTES)


def check_reach(reach: str) -> str:
    """How far a task may go to find its agent. Raises UsageError for what is none."""
    if reach not in REACHES:
        raise UsageError(f"the reach {reach[:40]!r} is none", hint=f"use {', '.join(REACHES)}")
    return reach


def clamp_priority(priority: int) -> int:
    return min(max(priority, 0), PRIORITY_MOST)


def error_fields(error: SkerryError) -> list[str | bool]:
    """An error as a result carries it; the fifth field, where it is there: milliseconds until it is worth to ask again."""
    unknown = isinstance(error, Unreachable) and error.outcome_unknown
    later = [str(round(error.retry_after_s * 1000))] if error.retry_after_s else []
    return [str(error.code), error.message, error.hint, unknown, *later]


def error_from(fields: list[str | bool] | None) -> SkerryError:
    """The error in a result, as the class that its code and its outcome ask for."""
    match fields:
        case [str(code), str(message), str(hint), bool(unknown), *more]:
            if unknown or meaning(code).exit == EXIT_UNREACHABLE:
                return Unreachable(message, code=code, hint=hint, outcome_unknown=unknown)
            later = more[0] if more else ""
            after_s = int(later) / 1000 if isinstance(later, str) and later.isascii() and later.isdigit() and len(later) < 9 else 0.0
            return Refused(message, code=code, hint=hint, retry_after_s=after_s)
    return ProtocolError("a failed task came back without its error", code=Code.DECODE)
