"""A receipt: the signed note of who did a task, what came of it, and how long it took. Made on request, for whoever may have to prove it.

It is a COSE_Sign1 over deterministic CBOR, signed with the agent's own key, whose id follows from that key: so anybody who has the file can
check it, without the mesh.

    {v, task, requester, capability, agent, key, node, payload, result, completed_at, took_ms}

`payload` and `result` are BLAKE3 hashes of the CBOR that went there and came back; of a stream, of its parts one after the other. Where a
node handed on the task of another formation's, `task` and `requester` are as that one knows them.

The rule: a receipt that does not fit its task, or that somebody else signed, is no receipt, and its sender pays for it with its reputation.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from skerry.channel.messages import convert
from skerry.errors import Code, ProtocolError
from skerry.identity.codec import decode, encode
from skerry.identity.keys import KeyPair, agent_id
from skerry.identity.pieces import Body, joined
from skerry.identity.sealed import read, seal, verified
from skerry.routing.task import Task, TaskResult

AAD = b"skerry/receipt/1"
SIZE_BYTES_MAX = 4096  # four hashes, three names
VERSION = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """What it says. completed_at: Unix ms by the node that did it; took_ms: whole milliseconds."""

    v: int
    task: bytes
    requester: bytes
    capability: str
    agent: str
    key: bytes
    node: bytes
    payload: bytes
    result: bytes
    completed_at: int
    took_ms: int


def sign_receipt(task: Task, result: TaskResult, key: KeyPair, *, parts: bytes | None = None) -> bytes:
    """The receipt of a task that was done, by its agent's key. `parts`: of a stream, their digest."""
    task_id, requester = task.signed_for
    said = {
        "v": VERSION,
        "task": task_id,
        "requester": requester,
        "capability": task.capability,
        "agent": task.agent,
        "key": key.public,
        "node": result.node,
        "payload": digest(task.payload),
        "result": digest(result.payload) if parts is None else parts,
        "completed_at": result.completed_at,
        "took_ms": round(result.execution_time_ms),
    }
    return seal(encode(said), key, aad=AAD)


def read_receipt(data: bytes) -> Receipt:
    """What a receipt says, once its signature is checked. Raises ProtocolError(decode | too_large | bad_signature)."""
    sealed = read(data, size_bytes_max=SIZE_BYTES_MAX)
    receipt = convert(decode(sealed.payload, size_bytes_max=SIZE_BYTES_MAX), Receipt)
    if len(receipt.key) != 32 or agent_id(receipt.key) != receipt.agent or not verified(sealed, receipt.key, aad=AAD):
        raise ProtocolError("the receipt was not signed by the agent that it names", code=Code.BAD_SIGNATURE, hint=_NOT)
    return receipt


def check_receipt(task: Task, result: TaskResult, *, parts: bytes | None = None) -> None:
    """Whether a result brought the receipt that was asked for. Raises ProtocolError(bad_signature) that says what is wrong."""
    if result.receipt is None:
        raise ProtocolError("the result came without the receipt that was asked for", code=Code.BAD_SIGNATURE, hint=_NOT)
    receipt = read_receipt(bytes(result.receipt))
    fits = (
        (receipt.task, receipt.requester, receipt.capability, receipt.agent) == (*task.signed_for, task.capability, task.agent)
        and receipt.node == result.node
        and (receipt.payload, receipt.result) == (digest(task.payload), digest(result.payload) if parts is None else parts)
    )
    if not fits:
        raise ProtocolError("the receipt is for another task or another result", code=Code.BAD_SIGNATURE, hint=_NOT)


class PartsDigest:
    """The digest of a stream, kept as its parts come."""

    __slots__ = ("_hasher",)

    def __init__(self) -> None:
        self._hasher = blake3()

    def add(self, part: Body) -> None:
        self._hasher.update(joined(part))

    def digest(self) -> bytes:
        return self._hasher.digest()


def digest(body: Body | None) -> bytes:
    return blake3(joined(body) if body is not None else b"").digest()


_NOT = "don't trust the result; the node that sent it is either broken or lies"
