"""What people write agents with: `Agent`, `@handles`, `self.call`.

    from skerry import Agent, handles

    class Greeter(Agent):
        state = ("greeted",)

        def __init__(self) -> None:
            self.greeted = 0

        @handles("custom:greet")
        async def greet(self, name: str) -> str:
            self.greeted += 1
            return f"Hello, {name}!"

A handler is sync (it runs in a thread, so that the agent stays awake), async, or a generator of either sort, whose parts are streamed. It
takes the whole payload as its one argument after `self`, or nothing; its type hints become the schemas (`handlers.py`, read when the
agent starts, in its worker).

Beside tasks an agent may take letters, with `on_message(session, message)`, and send them with `self.send` or `session.reply`. What a
handler sends leaves when the state that it left behind is kept, and not at all where it fails: one commit holds both.

The rule: this module is all that an agent's file needs, and importing it costs next to nothing; what it notes down is checked where
it is written, so that a mistake shows at the line that made it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from skerry.agents.about import DESCRIPTION_CHARACTERS_MAX, About, checked_about
from skerry.agents.attributes import Attributes, checked_attributes
from skerry.agents.capability import check_capability, idempotent_by_default
from skerry.errors import Code, SkerryError, UsageError

if TYPE_CHECKING:  # the contract is for runtimes; an agent's file has no need to load it
    from skerry.agents.runtimes.contract import Mesh

_MARK = "__skerry_handles__"  # on functions: what @handles noted
_RESERVED = frozenset(
    {"state", "name", "log", "settings", "call", "stream", "send", "on_start", "on_stop", "on_message", "peer_added", "peer_removed"}
)
_HOOKS = {"on_start": (), "on_stop": (), "on_message": ("session", "message"), "peer_added": ("peer",), "peer_removed": ("peer",)}
SENT_MAX = 1000  # letters that one handler may send

F = TypeVar("F", bound=Callable[..., Any])

# When the task that is being handled must be done, in event loop time. Each handler's calls inherit it, also from threads and tasks
# that the handler starts.
_deadline_at: ContextVar[float | None] = ContextVar("skerry_deadline_at", default=None)
# What the handler that runs has sent so far; None: nothing is held back.
_held_back: ContextVar[HeldBack | None] = ContextVar("skerry_held_back", default=None)


@dataclass(frozen=True, slots=True)
class Handling:
    """What `@handles` says of a method."""

    capability: str
    idempotent: bool
    description: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """A letter as its receiver sees it.

    content   a plain value
    sender    who said it: `[contact/][node/]agent`, or a node's name for people
    id        the same however often the letter is handed over
    """

    content: Any
    sender: str
    id: str


class Session:
    """The standing talk with one sender. `id` is the same for all its letters, `peer` who it is."""

    __slots__ = ("_agent", "_reply_to", "id", "peer")

    def __init__(self, agent: Agent, name: str, *, peer: str, reply_to: str) -> None:
        self._agent = agent
        self._reply_to = reply_to
        self.id = name
        self.peer = peer

    async def reply(self, content: Any, *, interrupt: bool = False) -> str:
        """Send a letter back; returns the id of the session that it goes by, "" where the other side takes no letters (people, clients)."""
        if not self._reply_to:
            self._agent.log.info("%s takes no letters: the reply to it is dropped", self.peer)
            return ""
        return await self._agent.send(self._reply_to, content, interrupt=interrupt)


def handles(
    capability: str,
    *,
    idempotent: bool | None = None,
    description: str = "",
    attributes: Mapping[str, str | int | float | bool] | None = None,
) -> Callable[[F], F]:
    """The method below does tasks for `capability` (`kind:name`, no `*`).

    `idempotent`: may a task be done twice without harm, so that the mesh tries another agent when one fails? Left out, the kind
    decides: inference, embedding and transcription yes, all others no. `description`: left out, the docstring's first line.
    `attributes`: what tells this offer from others of the same name, such as `{"quantization": "Q4", "dimensions": 384}`; they are shown
    by `skerry capability list`, and callers may ask for them (`--where quantization=Q4`).
    """
    check_capability(capability)
    may_twice = idempotent_by_default(capability) if idempotent is None else idempotent
    said = checked_attributes(attributes, where=f"@handles({capability!r})") if attributes is not None else {}
    handling = Handling(capability, may_twice, description, said)

    def mark(function: F) -> F:
        if not isinstance(function, FunctionType):
            raise UsageError(
                f"@handles({capability!r}) stands on a {type(function).__name__}",
                hint="put it on a method of an Agent class: def, async def, or one that yields",
            )
        setattr(function, _MARK, (*getattr(function, _MARK, ()), handling))
        return function

    return mark


class Agent:
    """Something that does tasks. Derive from it, put `@handles(...)` on methods, run it with `skerry agent run FILE.py:Class`.

    state      names of the attributes that are this agent's state: kept after every task that changed them, and set again before
               `on_start` when the agent comes back; all else is made anew. Give them their first values in `__init__`
    version, description, skills, tags   what its card says of it, and what `skerry agent list` finds it by; left out, the version is "1",
               the description the class's docstring up to its first empty line, and the skills are the names of its capabilities
    name       the agent's name in the mesh
    settings   what was chosen with `agent run --set key=value`, as text
    log        a logger; what it says lands in `skerry agent logs NAME`
    """

    state: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[str] = ""
    description: ClassVar[str] = ""
    skills: ClassVar[tuple[str, ...]] = ()
    tags: ClassVar[tuple[str, ...]] = ()
    name: str
    log: logging.Logger
    settings: dict[str, str]
    _mesh: Mesh | None

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Give it its name and its log before `__init__` runs, so that users need no super().__init__()."""
        agent = super().__new__(cls)
        attach(agent, name=cls.__name__.lower(), mesh=None, log=logging.getLogger(f"skerry.agent.{cls.__name__.lower()}"))
        return agent

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_state(cls)
        _check_hooks(cls)
        about_of(cls)
        handlings(cls)

    def on_start(self) -> Any:
        """Called once before the first task, with the state that was kept; may be async."""

    def on_stop(self) -> Any:
        """Called once after the last task; may be async. Not called when the process is killed."""

    def on_message(self, session: Session, message: Message) -> Any:
        """Called for each letter, one at a time; may be async. An agent that does not define it takes none.

        A letter may be handed over again after a crash, with the same `message.id`; in what `state` names it counts once. Where it raises,
        the state is put back and the letter is tried again; after a third time it is put aside: `skerry letter list` shows it.
        """

    def peer_added(self, peer: str) -> Any:
        """Called when this agent is wired to another one, and at the start for each wire that stands; may be async."""

    def peer_removed(self, peer: str) -> Any:
        """Called when a wire is gone; may be async."""

    async def send(self, peer: str, content: Any, *, interrupt: bool = False) -> str:
        """Send a letter to `[contact/][node/]agent`; returns the id of the session. Inside `on_message`, and in a task of an agent with a
        state, it leaves when the handler has ended well; else at once. Raises SkerryError where there is no such agent, or its sender may
        not write to it.

        interrupt: ahead of all that waits there, also of earlier letters of this agent's
        """
        held = _held_back.get()
        if held is None or held.is_over:
            return (await self._running().send(peer, _plain(content), urgent=interrupt)).session_id
        if len(held.letters) >= SENT_MAX:
            raise SkerryError(
                f"one handler can't send more than {SENT_MAX} letters", code=Code.BUSY, hint="send the others from the next one"
            )
        found = await self._running().send(peer, _plain(content), urgent=interrupt, only_look=True)
        if _is_over(held):  # the handler ended meanwhile: nobody takes what it holds
            return (await self._running().send(found.to, _plain(content), urgent=interrupt)).session_id
        held.letters.append((found.to, _plain(content), interrupt))
        return found.session_id

    async def call(
        self, capability: str, payload: Any = None, *, timeout: float | None = None, agent: str | None = None, reach: str = "formation"
    ) -> Any:
        """Have a task done somewhere in the mesh and return its result. Raises SkerryError where it fails.

        `timeout` in seconds; never longer than what is left of the task that this agent is doing itself. `agent`: that one only.
        """
        return await self._running().call(capability, _plain(payload), timeout_s=_time_left(capability, timeout), agent=agent, reach=reach)

    def stream(
        self, capability: str, payload: Any = None, *, timeout: float | None = None, agent: str | None = None, reach: str = "formation"
    ) -> AsyncIterator[Any]:
        """As `call`, part by part: `async for part in self.stream(...)`."""
        return self._running().stream(capability, _plain(payload), timeout_s=_time_left(capability, timeout), agent=agent, reach=reach)

    def _running(self) -> Mesh:
        if self._mesh is None:
            raise UsageError(
                f"the agent {self.name!r} is in no mesh, so it can't call others",
                hint="run it with: skerry agent run FILE.py:Class",
            )
        return self._mesh


def attach(agent: Agent, *, name: str, mesh: Mesh | None, log: logging.Logger, settings: dict[str, str] | None = None) -> None:
    """Give an agent its place in the mesh. For the runtime."""
    agent.name = name
    agent.settings = dict(settings or {})
    agent.log = log
    agent._mesh = mesh


def handlings(cls: type[Agent]) -> dict[str, tuple[str, Handling]]:
    """capability -> (method name, what was said of it), in the order of writing. A method that overrides a handler handles on.

    Raises UsageError where two methods handle the same capability.
    """
    marked: dict[str, tuple[Handling, ...]] = {}
    for ancestor in reversed(cls.__mro__):
        for method, member in vars(ancestor).items():
            if noted := getattr(member, _MARK, None):
                marked[method] = noted
    found: dict[str, tuple[str, Handling]] = {}
    for method, noted in marked.items():
        if not callable(getattr(cls, method, None)):
            continue  # overridden by something that is no method (`greet = None`): given up
        for handling in noted:
            if handling.capability in found:
                raise UsageError(
                    f"{cls.__name__} handles {handling.capability!r} twice: in {found[handling.capability][0]} and in {method}",
                    hint="give each handler a capability of its own",
                )
            found[handling.capability] = (method, handling)
    return found


def about_of(cls: type[Agent]) -> About:
    """What a class says of its agents. Raises UsageError that names the attribute."""
    said = About(cls.version, cls.description, cls.skills, cls.tags)
    checked_about(said, where=cls.__name__)
    description = said.description or _first_paragraph(cls.__doc__)
    return About(said.version, description, tuple(said.skills), tuple(said.tags))


def _first_paragraph(doc: str | None) -> str:
    text = " ".join((doc or "").strip().partition("\n\n")[0].split())
    return "".join(c for c in text if c.isprintable())[:DESCRIPTION_CHARACTERS_MAX]


class HeldBack:
    """What is sent inside is kept in `letters` (address, content, urgent), for whoever keeps the state. What a handler leaves running
    behind sends at once: nobody keeps anything for it. For the worker."""

    __slots__ = ("_token", "is_over", "letters")

    def __init__(self) -> None:
        self.letters: list[tuple[str, Any, bool]] = []
        self.is_over = False

    def __enter__(self) -> HeldBack:
        self._token = _held_back.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        _held_back.reset(self._token)


def _is_over(held: HeldBack) -> bool:
    return held.is_over


class Until:
    """Whatever is called inside must be done by then (event loop time). For the runtime, around every call."""

    __slots__ = ("_deadline_at", "_token")

    def __init__(self, deadline_at: float | None) -> None:
        self._deadline_at = deadline_at

    def __enter__(self) -> None:
        self._token = _deadline_at.set(self._deadline_at)

    def __exit__(self, *_: object) -> None:
        _deadline_at.reset(self._token)


def _time_left(capability: str, timeout_s: float | None) -> float | None:
    deadline_at = _deadline_at.get()
    if deadline_at is None:
        return timeout_s
    left = deadline_at - asyncio.get_running_loop().time()
    if left <= 0:
        raise SkerryError(
            f"no time is left to call {capability}: the task that asks for it is past its own deadline",
            code=Code.DEADLINE_EXCEEDED,
            hint="give the outer call a longer --timeout",
        )
    return left if timeout_s is None else min(timeout_s, left)


def _plain(payload: Any) -> Any:
    from skerry.agents.handlers import plain  # brings msgspec, which an agent that calls nobody can do without

    return plain(payload)


def _check_hooks(cls: type[Agent]) -> None:
    """What is called by its name must take what it is called with."""
    for name, arguments in _HOOKS.items():
        method = vars(cls).get(name)
        if not isinstance(method, FunctionType):
            continue
        try:
            inspect.signature(method).bind("self", *arguments)
        except TypeError:
            wanted = f"def {name}({', '.join(('self', *arguments))})"
            raise UsageError(
                f"{cls.__name__}.{name} can't be called: it takes {inspect.signature(method)}", hint=f"write: {wanted}"
            ) from None


def _check_state(cls: type[Agent]) -> None:
    state: Any = cls.state
    if not isinstance(state, tuple) or not all(isinstance(name, str) for name in state):
        one = f"({state!r},)" if isinstance(state, str) else '("count", "seen")'
        raise UsageError(f"{cls.__name__}.state is no tuple of names: {state!r}", hint=f"write: state = {one}")
    for name in state:
        if not name.isidentifier() or name.startswith("__") or name in _RESERVED:
            raise UsageError(
                f"{cls.__name__}.state names {name!r}, which can't be an attribute of its own",
                hint="name attributes that the agent sets on self",
            )
    if len(set(state)) != len(state):
        raise UsageError(f"{cls.__name__}.state names an attribute twice: {state!r}", hint="name each once")
