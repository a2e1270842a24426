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

from skerry.agents.letters import Letter, shown_session
from skerry.agents.runtimes.contract import Call, Context, Health, Offer, Runtime, Source
from skerry.agents.sdk import Agent, Message, Session, attach
from skerry.agents.state import restore, state_of
from skerry.errors import Code, UsageError
from skerry.identity.codec import unpack


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


class Clerk(Agent):
    """Writes numbered letters to other clerks, and keeps what it heard of each: what a checker can hold against what was sent.

    heard    of each clerk, by its name, which no other one of the world has: the last number
    people   of each stream of a person: the numbers, in their order
    sent     to each clerk, by id: how many
    wrong    numbers that did not follow the one before: lost, twice, or out of order
    """

    state = ("heard", "people", "sent", "wrong")

    def __init__(self) -> None:
        self.heard: dict[str, int] = {}
        self.people: dict[str, list[int]] = {}
        self.sent: dict[str, int] = {}
        self.wrong: list[list[Any]] = []
        self._counting = asyncio.Lock()  # two tasks at once would give a number twice

    async def tell(self, to: str, count: int, echo: bool, fails: bool = False) -> int:
        """`count` letters to an address by ids; with `echo` each is answered by one. `fails`: after all that it raises."""
        other = to.partition("@")[0]
        async with self._counting:
            first = self.sent.get(other, 0) + 1
            for number in range(first, first + count):
                await self.send(to, [self.name, number, echo])
            if fails:
                raise LookupError("after it wrote")
            self.sent[other] = first + count - 1  # not before: a task that fails sends nothing
        return count

    async def on_message(self, session: Session, message: Message) -> None:
        who, number, echo = message.content
        if echo is None:
            self.people.setdefault(who, []).append(number)
            return
        last = self.heard.get(who, 0)
        if number != last + 1:
            self.wrong.append([who, last, number])
        self.heard[who] = number
        if echo:
            other = session._reply_to.partition("@")[0]
            self.sent[other] = self.sent.get(other, 0) + 1
            await session.reply([self.name, self.sent[other], False])


async def _nothing(call: Call, context: Context, stage: Stage) -> AsyncIterator[Any]:
    yield None


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
    "Clerk": Script(Offer("custom:tell"), _nothing),  # see the class
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
        self._clerk: Clerk | None = None

    def can_handle(self, source: Source) -> bool:
        return source.entry.rpartition(":")[2] in SCRIPTS

    async def activate(self, source: Source, context: Context) -> str:
        if not self.can_handle(source):
            raise UsageError(f"there is no script {source.entry!r}", code=Code.NOT_FOUND, hint=f"use one of {', '.join(SCRIPTS)}")
        self._name, self._context = source.name, context
        self._script = SCRIPTS[source.entry.rpartition(":")[2]]
        if self._script is SCRIPTS["Clerk"]:
            self._clerk = Clerk()
            attach(self._clerk, name=source.name, mesh=context.mesh, log=context.log)
            if context.state:
                restore(self._clerk, context.state)
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
        if self._clerk is not None:
            yield await self._clerk.tell(*call.payload)
            return
        async for part in self._script.parts(call, self._context, self._stage):
            yield part

    async def stop(self) -> None:
        self._script = self._clerk = None

    # --- letters and state: a clerk's alone ---------------------------------------------------------------------------------------

    @property
    def stateful(self) -> bool:
        return self._clerk is not None

    def checkpoint(self) -> bytes:
        assert self._clerk is not None
        return state_of(self._clerk)

    def put_back(self, state: bytes) -> None:
        assert self._clerk is not None
        restore(self._clerk, state, anew=False)

    @property
    def hears(self) -> bool:
        return self._clerk is not None

    @property
    def role(self) -> str:
        return "Clerk" if self._clerk is not None else "Script"

    async def hear(self, letter: Letter, *, timeout_s: float) -> None:
        assert self._clerk is not None
        content = unpack(letter.content)
        self._stage.witness.note(f"{self._stage.node}/{self._name}", f"hears {content[1]} of {content[0]}")
        session = Session(self._clerk, shown_session(letter.session), peer=letter.sender, reply_to=letter.reply_to)
        await self._clerk.on_message(session, Message(content, letter.sender, letter.id))

    async def meet(self, *, added: list[str], removed: list[str]) -> None:
        self._stage.witness.note(f"{self._stage.node}/{self._name}", f"meets {added or '-'}, not {removed or '-'}")


def loader(stage: Stage) -> Callable[[str], Callable[[], Runtime]]:
    """What a simulated worker loads its runtime with: whatever the name, it is a script's."""
    return lambda _name: lambda: ScriptRuntime(stage)
