"""Every way in which Skerry says no, in one tree.

    SkerryError                what happened, why, and what to do next
    ├── UsageError             the caller's input is wrong: nothing was tried
    ├── ProtocolError          a peer sent what the protocol does not allow
    ├── Refused                a peer or an agent said no; its code is kept, also one we don't know
    ├── Unreachable            nobody answered; `outcome_unknown` tells whether the work may have been done
    └── StorageError           the disk or a file let us down

The rule: every error carries a stable `code` that programs may test, a sentence that names the thing, and a `hint` with the next
step. Expected refusals inside deciding modules are values (`records.replica.Rejection`), not exceptions.

`CODES` maps every code to its HTTP status and exit code; `tests/unit/test_errors.py` shows that it is total.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


class Code(StrEnum):
    """The stable codes. A peer may send others: those are kept as they came."""

    # the caller's input
    BAD_INPUT = "bad_input"
    BAD_PAYLOAD = "bad_payload"
    BAD_TICKET = "bad_ticket"
    BAD_MODEL = "bad_model"
    BAD_HOME = "bad_home"
    # the peer's bytes
    DECODE = "decode"
    TOO_LARGE = "too_large"
    WRONG_VERSION = "wrong_version"
    WRONG_IDENTITY = "wrong_identity"
    BAD_SIGNATURE = "bad_signature"
    # trust
    NOT_GRANTED = "not_granted"
    REVOKED = "revoked"
    GRANT_EXPIRED = "grant_expired"
    CLOCK_OFF = "clock_off"
    TICKET_EXPIRED = "ticket_expired"
    TICKET_SPENT = "ticket_spent"
    TICKET_UNKNOWN = "ticket_unknown"
    BAD_TOKEN = "bad_token"
    FOREIGN_HOST = "foreign_host"
    # things and their state
    NOT_FOUND = "not_found"
    UNKNOWN_CAPABILITY = "unknown_capability"
    UNKNOWN_AGENT = "unknown_agent"
    UNKNOWN_MEMBER = "unknown_member"
    NO_SESSION = "no_session"
    NO_COMMS = "no_comms"
    PEER_SPEC = "peer_spec"
    INVALID_COMMS_NAME = "invalid_comms_name"
    MOB_ERROR = "mob_error"
    UNKNOWN_VERB = "unknown_verb"
    CONFLICT = "conflict"
    NAME_TAKEN = "name_taken"
    HAS_FORMATION = "has_formation"
    HOME_IN_USE = "home_in_use"
    TWIN = "twin"
    PORT_IN_USE = "port_in_use"
    UNSAFE_FILE = "unsafe_file"
    # work
    TASK_FAILED = "task_failed"
    AGENT_FAILED = "agent_failed"
    AGENT_RESTARTING = "agent_restarting"
    STALE_TASK = "stale_task"
    BUSY = "busy"
    BLACKLISTED = "blacklisted"
    NOT_AVAILABLE = "not_available"
    CALL_CYCLE = "call_cycle"
    HOP_LIMIT = "hop_limit"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    STREAM_INTERRUPTED = "stream_interrupted"
    # the way there
    UNREACHABLE = "unreachable"
    NO_CANDIDATE = "no_candidate"
    CONNECTION_LOST = "connection_lost"
    SHUTTING_DOWN = "shutting_down"
    # here
    STORAGE = "storage"
    DISK_FULL = "disk_full"
    INTERNAL = "internal"


# A refusal with one of these says that the work provably never began: somebody else may be asked, also where once is the most.
NEVER_STARTED = frozenset(
    {
        Code.BUSY,
        Code.UNKNOWN_AGENT,
        Code.SHUTTING_DOWN,
        Code.NOT_GRANTED,
        Code.UNKNOWN_CAPABILITY,
        Code.CALL_CYCLE,
        Code.NOT_AVAILABLE,
        Code.BLACKLISTED,
    }
)


class Meaning(NamedTuple):
    """What a code becomes at the doors."""

    http: int
    exit: int


CODES: dict[Code, Meaning] = {
    Code.BAD_INPUT: Meaning(400, EXIT_USAGE),
    Code.BAD_PAYLOAD: Meaning(400, EXIT_REFUSED),
    Code.BAD_TICKET: Meaning(400, EXIT_REFUSED),
    Code.BAD_MODEL: Meaning(400, EXIT_REFUSED),
    Code.BAD_HOME: Meaning(500, EXIT_REFUSED),
    Code.DECODE: Meaning(400, EXIT_REFUSED),
    Code.TOO_LARGE: Meaning(413, EXIT_REFUSED),
    Code.WRONG_VERSION: Meaning(400, EXIT_REFUSED),
    Code.WRONG_IDENTITY: Meaning(403, EXIT_REFUSED),
    Code.BAD_SIGNATURE: Meaning(502, EXIT_REFUSED),
    Code.NOT_GRANTED: Meaning(403, EXIT_REFUSED),
    Code.REVOKED: Meaning(403, EXIT_REFUSED),
    Code.GRANT_EXPIRED: Meaning(403, EXIT_REFUSED),
    Code.CLOCK_OFF: Meaning(403, EXIT_REFUSED),
    Code.TICKET_EXPIRED: Meaning(403, EXIT_REFUSED),
    Code.TICKET_SPENT: Meaning(403, EXIT_REFUSED),
    Code.TICKET_UNKNOWN: Meaning(403, EXIT_REFUSED),
    Code.BAD_TOKEN: Meaning(401, EXIT_REFUSED),
    Code.FOREIGN_HOST: Meaning(403, EXIT_REFUSED),
    Code.NOT_FOUND: Meaning(404, EXIT_REFUSED),
    Code.UNKNOWN_CAPABILITY: Meaning(404, EXIT_REFUSED),
    Code.UNKNOWN_AGENT: Meaning(404, EXIT_REFUSED),
    Code.UNKNOWN_MEMBER: Meaning(404, EXIT_REFUSED),
    Code.NO_SESSION: Meaning(404, EXIT_REFUSED),
    Code.NO_COMMS: Meaning(409, EXIT_REFUSED),
    Code.PEER_SPEC: Meaning(400, EXIT_REFUSED),
    Code.INVALID_COMMS_NAME: Meaning(400, EXIT_REFUSED),
    Code.MOB_ERROR: Meaning(500, EXIT_REFUSED),
    Code.UNKNOWN_VERB: Meaning(404, EXIT_REFUSED),
    Code.CONFLICT: Meaning(409, EXIT_REFUSED),
    Code.NAME_TAKEN: Meaning(409, EXIT_REFUSED),
    Code.HAS_FORMATION: Meaning(409, EXIT_REFUSED),
    Code.HOME_IN_USE: Meaning(409, EXIT_REFUSED),
    Code.TWIN: Meaning(409, EXIT_REFUSED),
    Code.PORT_IN_USE: Meaning(409, EXIT_REFUSED),
    Code.UNSAFE_FILE: Meaning(500, EXIT_REFUSED),
    Code.TASK_FAILED: Meaning(502, EXIT_REFUSED),
    Code.AGENT_FAILED: Meaning(502, EXIT_REFUSED),
    Code.AGENT_RESTARTING: Meaning(503, EXIT_UNREACHABLE),
    Code.STALE_TASK: Meaning(409, EXIT_REFUSED),
    Code.BUSY: Meaning(429, EXIT_REFUSED),
    Code.BLACKLISTED: Meaning(503, EXIT_REFUSED),
    Code.NOT_AVAILABLE: Meaning(503, EXIT_REFUSED),
    Code.CALL_CYCLE: Meaning(508, EXIT_REFUSED),
    Code.HOP_LIMIT: Meaning(508, EXIT_REFUSED),
    Code.CANCELLED: Meaning(499, EXIT_REFUSED),
    Code.DEADLINE_EXCEEDED: Meaning(504, EXIT_REFUSED),
    Code.STREAM_INTERRUPTED: Meaning(502, EXIT_REFUSED),
    Code.UNREACHABLE: Meaning(503, EXIT_UNREACHABLE),
    Code.NO_CANDIDATE: Meaning(503, EXIT_UNREACHABLE),
    Code.CONNECTION_LOST: Meaning(503, EXIT_UNREACHABLE),
    Code.SHUTTING_DOWN: Meaning(503, EXIT_UNREACHABLE),
    Code.STORAGE: Meaning(500, EXIT_REFUSED),
    Code.DISK_FULL: Meaning(507, EXIT_REFUSED),
    Code.INTERNAL: Meaning(500, EXIT_REFUSED),
}

UNKNOWN_CODE = Meaning(502, EXIT_REFUSED)  # a newer peer's code: somebody said no, and we can't say more


def meaning(code: str) -> Meaning:
    """What `code` becomes at the doors; a code we don't know is a refusal by somebody else."""
    try:
        return CODES[Code(code)]
    except ValueError:
        return UNKNOWN_CODE


class SkerryError(Exception):
    """What happened and why (`str(error)`), a stable `code`, and a `hint`: what to do next.

    retry_after_s   of a `busy`: when it may be worth to ask again; 0 where nobody knows
    from_peer       a peer said so over the channel; otherwise it is what happened on this side
    """

    code: str = Code.INTERNAL
    from_peer: bool = False

    def __init__(self, message: str, *, code: str | None = None, hint: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code
        self.hint = hint

    @property
    def message(self) -> str:
        return str(self)


class UsageError(SkerryError):
    """The caller's input is wrong; nothing was tried."""

    code = Code.BAD_INPUT


class ProtocolError(SkerryError):
    """A peer sent what the protocol does not allow; its connection ends, the node serves on."""

    code = Code.DECODE


class Refused(SkerryError):
    """A peer or an agent said no. The code is the one it gave, also where we don't know it."""

    code = Code.NOT_GRANTED


class Unreachable(SkerryError):
    """Nobody answered. With `outcome_unknown` the work may have been done: a retry is safe only if it is idempotent."""

    code = Code.UNREACHABLE

    def __init__(self, message: str, *, code: str | None = None, hint: str = "", outcome_unknown: bool = False) -> None:
        super().__init__(message, code=code, hint=hint)
        self.outcome_unknown = outcome_unknown


class StorageError(SkerryError):
    """The disk, the database or a file of the home let us down."""

    code = Code.STORAGE
