"""Request, Task and TaskResult: what a caller asks for, the work as it goes to a node, and its outcome.

All three travel as CBOR arrays in the order of their fields, because they are the hottest messages of all; payloads are CBOR inside, which
no node on the way opens. A newer peer may append fields.

The rule: a task says everything that decides where it may run and how often, and its id is made of the requester and 16 random bytes.
"""

from __future__ import annotations

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
REACH_CONTACTS = "contacts"
REACH_PUBLIC = "public"
REACHES = (REACH_FORMATION, REACH_CONTACTS, REACH_PUBLIC)


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One task on its way to the node that does it.

    id, requester   32 bytes; created_at: Unix ms by the requester's clock
    capability      concrete, never a query; agent: the id of the agent that is asked
    payload         CBOR; max_latency_ms 0: no limit; priority 0 to 10, 10 first
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

    def to_bytes(self) -> bytes | Pieces:
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
            ],
            large=3,
        )

    @classmethod
    def from_bytes(cls, body: Body) -> Task:
        """Raises ProtocolError that says which field is wrong."""
        task = unpack_struct(cls, body, large="payload")
        if len(task.id) != TASK_ID_BYTES or len(task.requester) != TASK_ID_BYTES or not 0 <= task.priority <= PRIORITY_MOST:
            raise ProtocolError("a task with an id, requester or priority that can't be")
        return task


class TaskResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The outcome. `payload` is CBOR where `success`; `error` is [code, message, hint, outcome_unknown] where not.

    completed_by: the agent's id; node: the id of the node that ran it; completed_at: Unix ms
    """

    task_id: bytes
    success: bool
    payload: bytes | None
    error: list[str | bool] | None
    completed_by: str
    node: bytes
    completed_at: int
    execution_time_ms: float

    def to_bytes(self) -> bytes | Pieces:
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

    agent: a name or id, "" for any
    """

    capability: str
    payload: bytes
    agent: str = ""
    priority: int = PRIORITY_DEFAULT
    max_latency_ms: int = 0
    reach: str = REACH_FORMATION

    @classmethod
    def from_bytes(cls, body: Body) -> Request:
        """Raises ProtocolError that says which field is wrong."""
        return unpack_struct(cls, body, large="payload")


def new_task_id(requester: bytes, nonce: bytes) -> bytes:
    """BLAKE3(requester + 16 random bytes), as the seed has it."""
    return blake3(requester + nonce).digest()


def check_reach(reach: str) -> str:
    """How far a task may go to find its agent. Raises UsageError for what is none."""
    if reach not in REACHES:
        raise UsageError(f"the reach {reach[:40]!r} is none", hint=f"use {', '.join(REACHES)}")
    return reach


def clamp_priority(priority: int) -> int:
    return min(max(priority, 0), PRIORITY_MOST)


def error_fields(error: SkerryError) -> list[str | bool]:
    """An error as a result carries it."""
    unknown = isinstance(error, Unreachable) and error.outcome_unknown
    return [str(error.code), error.message, error.hint, unknown]


def error_from(fields: list[str | bool] | None) -> SkerryError:
    """The error in a result, as the class that its code and its outcome ask for."""
    match fields:
        case [str(code), str(message), str(hint), bool(unknown), *_]:
            if unknown or meaning(code).exit == EXIT_UNREACHABLE:
                return Unreachable(message, code=code, hint=hint, outcome_unknown=unknown)
            return Refused(message, code=code, hint=hint)
    return ProtocolError("a failed task came back without its error", code=Code.DECODE)
