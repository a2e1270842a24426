"""The Python client: talk to the mesh through the node of this machine.

    async with skerry.connect(home="~/.skerry") as mesh:
        answer = await mesh.call("embedding:minilm", {"input": "a kitten"})
        async for part in mesh.stream("inference:smollm2", {"messages": [...]}):
            ...

It goes over the node's own socket, which only the user that the node runs as can use; who is at the other end is proved both ways.

The rule: `call` returns the payload or raises; what may have been done all the same says `outcome_unknown`.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.messages import pack_message, unpack_message
from skerry.channel.transports import RealNetwork
from skerry.client.here import SystemClock, SystemRandom
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.identity.codec import pack, unpack
from skerry.identity.keys import KeyPair, parse_id
from skerry.routing.task import TIMEOUT_S, TaskResult

T = TypeVar("T")
CONNECT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished task: `payload` is what came of it; who did it, where, and how long it took there (ms)."""

    task_id: str
    payload: Any
    completed_by: str
    node: str
    execution_time_ms: float


class Mesh:
    """A connection to the mesh. Use it as `async with`; one may make many calls at once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._links: Links | None = None
        self._link: Link | None = None

    async def __aenter__(self) -> Mesh:
        ready = _ready(self._home)
        key = KeyPair.from_seed(os.urandom(32))  # of this connection alone: the socket says whose it is
        self._links = Links(key, network=RealNetwork(key), clock=SystemClock(), random=SystemRandom(), household=_Guest())
        try:
            self._link = await self._links.dial(
                f"uds://{ready['socket']}", expected=parse_id(ready["node_id"]), timeout_s=CONNECT_TIMEOUT_S
            )
        except Unreachable as error:
            raise Unreachable(f"no node runs on the home {self._home}", hint=_START) from error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self._links is not None:
            await self._links.close()
        self._link = None

    async def call(self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None) -> Any:
        """Have a task done and return its payload.

        capability: `kind:name`, or a query that ends in `*`; agent: only this one (name or id); timeout: seconds.
        Raises Refused (nobody offers it, the agent said no, the deadline passed) or Unreachable.
        """
        return (await self.outcome(capability, payload, timeout=timeout, agent=agent)).payload

    async def outcome(self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None) -> Outcome:
        """As `call`, with who did it and how long it took."""
        return outcome_of(await self.result(capability, payload, timeout=timeout, agent=agent))

    async def result(self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None) -> TaskResult:
        """As `call`, but a task that failed is a result too: `success` tells."""
        body = pack_task(capability, payload, agent)
        return TaskResult.from_bytes(await self._open().call("task.call", body, timeout_s=timeout))

    async def stream(
        self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None
    ) -> AsyncIterator[Any]:
        """The parts of a task as they come. Raises as `call` does; `stream_interrupted` where it was cut off after its first part."""
        async for item in self.parts(capability, payload, timeout=timeout, agent=agent):
            if not isinstance(item, TaskResult):
                yield item

    async def parts(
        self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None
    ) -> AsyncIterator[Any]:
        """As `stream`, and last the TaskResult."""
        body = pack_task(capability, payload, agent)
        parts = await self._open().stream("task.call", body, timeout_s=timeout)
        try:
            async for part in parts:
                yield unpack(part)
            assert parts.reply is not None
            yield TaskResult.from_bytes(parts.reply)
        finally:
            await parts.aclose()

    async def ask(self, verb: str, request: Any, reply: type[T], *, timeout: float = ASK_TIMEOUT_S) -> T:
        """Any verb of the table, with its own request and reply types (`skerry.*.verbs`)."""
        return unpack_message(reply, await self._open().call(verb, pack_message(request), timeout_s=timeout))

    def _open(self) -> Link:
        if self._link is None:
            raise Unreachable("this mesh is not connected", hint="use it as `async with skerry.connect() as mesh`")
        return self._link


def connect(home: str | Path | None = None) -> Mesh:
    """The mesh, through the node that runs on `home` (default: $SKERRY_HOME, else ~/.skerry). Use it as `async with`."""
    chosen = home if home is not None else (os.environ.get("SKERRY_HOME") or "~/.skerry")
    return Mesh(Path(chosen).expanduser().absolute())


def pack_task(capability: str, payload: Any, agent: str | None) -> bytes:
    """The body of `task.call`: the first fields of a `Request`, the others as they default."""
    return pack([capability, pack(payload), agent or ""])


def outcome_of(result: TaskResult) -> Outcome:
    """The outcome in a result. Raises what the task failed with."""
    result.raise_error()
    payload = unpack(result.payload) if result.payload is not None else None
    return Outcome(result.task_id.hex(), payload, result.completed_by, result.node.hex(), result.execution_time_ms)


def _ready(home: Path) -> dict[str, str]:
    try:
        ready = json.loads((home / "run" / "ready.json").read_text())
        return {"socket": str(ready["socket"]), "node_id": str(ready["node_id"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise Unreachable(f"no node runs on the home {home}", hint=_START) from None


class _Guest:
    """The household of a client: it shows nothing, answers nothing, and talks to one node that it knows."""

    def credentials(self) -> Credentials:
        return Credentials()

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        if not peer.same_owner:
            raise ProtocolError("the socket belongs to another user", code=Code.WRONG_IDENTITY, hint="use the home of a node of yours")

    def is_node(self, peer: Peer) -> bool:
        return False

    async def serve(self, served: Served) -> Body:
        raise Refused("a client answers no calls", code=Code.UNKNOWN_VERB)

    def link_up(self, link: Link) -> None:
        """Nothing follows."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows: calls under way hear of it."""


_START = "start one: `skerry up`, or name its home: --home DIR"
