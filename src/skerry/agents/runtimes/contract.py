"""What every runtime is to the worker that runs it: one contract, one test suite (`tests/contract/test_runtimes.py`).

A runtime turns a *source* (a Python class, a model file, a server that already runs) into something that is called. It lives in the
worker process of one agent, on that process's event loop, and knows nothing of nodes, channels or records.

The rule: a runtime that can't do what it is asked raises a SkerryError that names the thing and the next step; anything else it
raises is a bug of the agent and is reported as such, with its traceback in the agent's log only.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from skerry.agents.about import About
from skerry.agents.letters import Letter, MeshSendReply

JsonSchema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """What to run.

    runtime   "python", "onnx", "gguf" or "remote"
    name      the agent's name
    path      the stored copy of the code or model (file or folder); None for remote
    entry     python: "file.py:Class" inside `path` (or "file:Class" where path is that file); remote: the server's URL; else ""
    options   what the user chose: "capabilities": [str], "tokenizer": path, "model": id, "api_key_file": path
    """

    runtime: str
    name: str
    path: Path | None
    entry: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """One capability that an agent serves, as cards and `capability show` present it.

    payload, result   JSON Schema, or None where any value is accepted
    example           a payload that works as it stands, or None
    attributes        plain values that can be shown and asked for (quantization, context_length, dimensions ...)
    """

    capability: str
    idempotent: bool = False
    streams: bool = False
    description: str = ""
    payload: JsonSchema | None = None
    result: JsonSchema | None = None
    example: Any = None
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """`detail` says why not, in a sentence, where `ok` is false."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One task as a runtime sees it. `payload` is a decoded CBOR value; `timeout_s` is what is left of its deadline."""

    capability: str
    payload: Any
    task_id: bytes = b""
    timeout_s: float = 60.0


class Mesh(Protocol):
    """What an agent may ask of the mesh; the worker passes it to its node."""

    async def call(
        self, capability: str, payload: Any, *, timeout_s: float | None = None, agent: str | None = None, reach: str = "formation"
    ) -> Any: ...

    def stream(
        self, capability: str, payload: Any, *, timeout_s: float | None = None, agent: str | None = None, reach: str = "formation"
    ) -> AsyncIterator[Any]: ...

    async def send(self, to: str, content: Any, *, urgent: bool = False, only_look: bool = False) -> MeshSendReply: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a runtime is handed at activation."""

    mesh: Mesh
    log: logging.Logger
    settings: dict[str, str] = field(default_factory=dict)  # what the user chose with --set
    state: bytes = b""  # as `checkpoint` gave it, empty at the first start


@runtime_checkable
class Checkpointing(Protocol):
    """A runtime whose agent has a state that can be kept."""

    @property
    def stateful(self) -> bool: ...

    def checkpoint(self) -> bytes:
        """The state now, between two calls. Raises SkerryError that names what can't be kept."""
        ...


@runtime_checkable
class Conversing(Protocol):
    """A runtime whose agent may take letters."""

    @property
    def hears(self) -> bool: ...

    @property
    def role(self) -> str:
        """What the agent is: a class's name, for example."""
        ...

    async def hear(self, letter: Letter, *, timeout_s: float) -> None:
        """Handle one letter."""
        ...

    async def meet(self, *, added: list[str], removed: list[str]) -> None:
        """Whom the agent is wired to changed."""
        ...

    def put_back(self, state: bytes) -> None:
        """The state as `checkpoint` gave it before: what came since does not count."""
        ...


@runtime_checkable
class Described(Protocol):
    """A runtime whose agent has words about itself."""

    def about(self) -> About: ...


class Runtime(Protocol):
    """The contract. Calls may come while others run only as far as the worker's concurrency allows (default one at a time)."""

    def can_handle(self, source: Source) -> bool:
        """Whether `source` looks like ours (its runtime, its file name); cheap, opens nothing."""
        ...

    async def activate(self, source: Source, context: Context) -> str:
        """Load it; returns the instance id. Raises UsageError(bad_model | bad_input | not_found ...) where it can't be loaded."""
        ...

    def offers(self) -> list[Offer]:
        """What it serves now; may change between two health checks (a server that loads another model)."""
        ...

    async def health(self) -> Health: ...

    async def call(self, call: Call) -> Any:
        """The whole result: a CBOR value. A generator's parts come back as a list. Cancelled when the caller gives up."""
        ...

    def stream(self, call: Call) -> AsyncIterator[Any]:
        """The parts, as they come. A result that is no stream is one part. Closing the iterator cancels the work."""
        ...

    async def stop(self) -> None:
        """Let go of everything. Safe to call twice, and after a failed `activate`."""
        ...
