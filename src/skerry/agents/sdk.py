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

The rule: this module is all that an agent's file needs, and importing it costs next to nothing; what it notes down is checked where
it is written, so that a mistake shows at the line that made it.
"""

from __future__ import annotations

import asyncio
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
_RESERVED = frozenset({"state", "name", "log", "settings", "call", "stream", "on_start", "on_stop"})

F = TypeVar("F", bound=Callable[..., Any])

# When the task that is being handled must be done, in event loop time. Each handler's calls inherit it, also from threads and tasks
# that the handler starts.
_deadline_at: ContextVar[float | None] = ContextVar("skerry_deadline_at", default=None)


@dataclass(frozen=True, slots=True)
class Handling:
    """What `@handles` says of a method."""

    capability: str
    idempotent: bool
    description: str
    attributes: Attributes = field(default_factory=dict)


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
        about_of(cls)
        handlings(cls)

    def on_start(self) -> Any:
        """Called once before the first task, with the state that was kept; may be async."""

    def on_stop(self) -> Any:
        """Called once after the last task; may be async. Not called when the process is killed."""

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
