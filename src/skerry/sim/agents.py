"""What simulated workers run: small scripts behind the runtimes' contract, and the witness of what they really did.

A node hosts one as `agent run .../agents.py:Echo`: this very file is what is stored, so the node goes its whole way, and the worker
takes the script of that name instead of loading a class.

The rule: the witness counts where the work happens and is told before it begins, so that nobody's books but its own are believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry.agents.runtimes.contract import Call, Context, Health, Offer, Runtime, Source
from skerry.errors import Code, UsageError


@dataclass(frozen=True, slots=True)
class Run:
    """One time that an agent began one task."""

    node: str
    agent: str
    capability: str
    at_s: float


@dataclass(slots=True)
class Witness:
    """Who did what, as the agents themselves know it."""

    runs: dict[bytes, list[Run]] = field(default_factory=dict)  # by task id
    note: Callable[[str, str], None] = lambda _who, _what: None

    def began(self, task_id: bytes, run: Run) -> None:
        self.runs.setdefault(task_id, []).append(run)
        self.note(f"{run.node}/{run.agent}", f"began {run.capability} {task_id.hex()[:8]}")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a script has around it: its node's name, the way to kill its own process, the mesh."""

    node: str
    witness: Witness
    die: Callable[[], None]


Parts = Callable[[Call, Context, Stage], AsyncIterator[Any]]


@dataclass(frozen=True, slots=True)
class Script:
    """What an agent offers, and what it does with a task: it yields its parts, or its one result."""

    offer: Offer
    parts: Parts


async def _echo(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    yield call.payload


async def _slow(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    """The payload is how long, in seconds."""
    await asyncio.sleep(float(call.payload))
    yield call.payload


async def _count(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    """Up to the payload, ten a second."""
    for number in range(int(call.payload)):
        await asyncio.sleep(0.1)
        yield number


async def _crash(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    """The process dies in the middle of the task."""
    stage.die()
    await asyncio.Event().wait()
    yield None


async def _relay(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    """Has another agent do it."""
    capability, payload = call.payload
    yield await context.mesh.call(capability, payload)


async def _abroad(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    """Has another agent do it, a contact's too."""
    capability, payload = call.payload
    yield await context.mesh.call(capability, payload, reach="contacts")


async def _roam(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    """Has another agent do it, wherever one is."""
    capability, payload = call.payload
    yield await context.mesh.call(capability, payload, reach="public")


async def _uneven(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    """Slow on one machine, and quick on all others."""
    machine, seconds = call.payload
    if stage.node == machine:
        await asyncio.sleep(float(seconds))
    yield stage.node


async def _fail(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    if call.payload != "succeed":
        raise LookupError("it can't do this")
    yield call.payload


async def _swell(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    """The payload is how many bytes."""
    yield b"x" * int(call.payload)


SCRIPTS: dict[str, Script] = {
    "Echo": Script(Offer("custom:echo", idempotent=True), _echo),
    "Once": Script(Offer("custom:once"), _echo),
    "Slow": Script(Offer("custom:slow", idempotent=True), _slow),
    "Job": Script(Offer("custom:job"), _slow),
    "Count": Script(Offer("custom:count", idempotent=True, streams=True), _count),
    "Crash": Script(Offer("custom:crash"), _crash),
    "Relay": Script(Offer("custom:relay"), _relay),
    "Abroad": Script(Offer("custom:abroad"), _abroad),
    "Roam": Script(Offer("custom:roam"), _roam),
    "Uneven": Script(Offer("custom:uneven", idempotent=True), _uneven),
    "Fail": Script(Offer("custom:fail", idempotent=True), _fail),
    "Swell": Script(Offer("custom:swell", idempotent=True), _swell),
    "Fine": Script(Offer("custom:echo", idempotent=True, attributes={"quality": "fine"}), _echo),
}


def target(script: str) -> str:
    """What to give `agent run` for that script."""
    return f"{Path(__file__)}:{script}"


class ScriptRuntime:
    """`contract.Runtime` over a script."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._name = ""
        self._script: Script | None = None
        self._context: Context | None = None

    def can_handle(self, source: Source) -> bool:
        return source.entry.rpartition(":")[2] in SCRIPTS

    async def activate(self, source: Source, context: Context) -> str:
        if not self.can_handle(source):
            raise UsageError(f"there is no script {source.entry!r}", code=Code.NOT_FOUND, hint=f"use one of {', '.join(SCRIPTS)}")
        self._name, self._context = source.name, context
        self._script = SCRIPTS[source.entry.rpartition(":")[2]]
        return f"{self._stage.node}/{source.name}"

    def offers(self) -> list[Offer]:
        return [self._script.offer] if self._script is not None else []

    async def health(self) -> Health:
        return Health(self._script is not None)

    async def call(self, call: Call) -> Any:
        parts = [part async for part in self.stream(call)]
        assert self._script is not None
        return parts if self._script.offer.streams else parts[-1]

    async def stream(self, call: Call) -> AsyncIterator[Any]:
        assert self._script is not None, "a task before the activation"
        assert self._context is not None
        run = Run(self._stage.node, self._name, call.capability, asyncio.get_running_loop().time())
        self._stage.witness.began(call.task_id, run)
        async for part in self._script.parts(call, self._context, self._stage):
            yield part

    async def stop(self) -> None:
        self._script = None


def loader(stage: Stage) -> Callable[[str], Callable[[], Runtime]]:
    """What a simulated worker loads its runtime with: whatever the name, it is a script's."""
    return lambda _name: lambda: ScriptRuntime(stage)
