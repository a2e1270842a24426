"""Agents written in Python: one class of the user's file, run in the worker's own process.

Async handlers run on the worker's loop, sync ones in threads beside it. The file is loaded under its own module name, as its author
knows it, unless that name is taken here.

The rule: what is wrong with the user's file is said with file, class and line; an exception of a handler passes through as it is,
for the worker to report.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import sys
import traceback
import uuid
from collections.abc import AsyncIterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from skerry.agents.about import About
from skerry.agents.handlers import Form, Handler, handlers_of, plain
from skerry.agents.letters import Letter, shown_session
from skerry.agents.runtimes.contract import Call, Context, Health, Offer, Source
from skerry.agents.runtimes.threads import Threads
from skerry.agents.sdk import Agent, Message, Session, Until, about_of, attach
from skerry.agents.state import restore, state_of
from skerry.errors import Code, Refused, SkerryError, UsageError
from skerry.identity.codec import unpack

THREADS_MAX = 32  # sync handlers at one time; more than any sensible --concurrency, and threads start only when used
_END = object()


class PythonRuntime:
    """Runs one `Agent`."""

    def __init__(self) -> None:
        self._agent: Agent | None = None
        self._handlers: dict[str, Handler] = {}
        self._threads: Threads | None = None
        self._module: _UserModule | None = None
        self._started = False

    def can_handle(self, source: Source) -> bool:
        file, colon, name = source.entry.rpartition(":")
        return source.runtime == "python" and source.path is not None and bool(file and colon and name.isidentifier())

    async def activate(self, source: Source, context: Context) -> str:
        if not self.can_handle(source) or source.path is None:
            raise UsageError(f"{source.entry or source.name!r} does not say which class to run", hint="write FILE.py:Class")
        if source.options.get("capabilities"):
            raise UsageError(
                f"the capabilities of {source.entry} can't be chosen from outside",
                hint="its @handles(...) say what it offers; leave --capability out",
            )
        file, _, class_name = source.entry.rpartition(":")
        self._module = _UserModule(source.path, file)
        cls = _agent_class(self._module.load(), class_name, file)
        self._threads = Threads(f"skerry-{source.name}", count=THREADS_MAX)
        self._agent = self._create(cls, file, source.name, context)
        if context.state:
            restore(self._agent, context.state)
        self._handlers = handlers_of(self._agent)
        if not self._handlers and cls.on_start is Agent.on_start and not self.hears:
            raise UsageError(
                f"the class {class_name} in {file} handles nothing", hint='put @handles("custom:NAME") on a method, or define on_message'
            )
        await self._run_hook("on_start", file)
        self._started = True
        return uuid.uuid4().hex

    def offers(self) -> list[Offer]:
        return [handler.offer for handler in self._handlers.values()]

    def about(self) -> About:
        return about_of(type(self._agent)) if self._agent is not None else About()

    async def health(self) -> Health:
        return Health(True) if self._started else Health(False, "the agent is not started")

    @property
    def stateful(self) -> bool:
        return self._agent is not None and bool(type(self._agent).state)

    def checkpoint(self) -> bytes:
        assert self._agent is not None
        return state_of(self._agent)

    @property
    def hears(self) -> bool:
        return self._agent is not None and type(self._agent).on_message is not Agent.on_message

    @property
    def role(self) -> str:
        return type(self._agent).__name__ if self._agent is not None else ""

    async def hear(self, letter: Letter, *, timeout_s: float) -> None:
        assert self._agent is not None
        session = Session(self._agent, shown_session(letter.session), peer=letter.sender, reply_to=letter.reply_to)
        with Until(asyncio.get_running_loop().time() + timeout_s):
            await self._either(self._agent.on_message, session, Message(unpack(letter.content), letter.sender, letter.id))

    async def meet(self, *, added: list[str], removed: list[str]) -> None:
        assert self._agent is not None
        for method, peers in ((self._agent.peer_removed, removed), (self._agent.peer_added, added)):
            for peer in peers:
                await self._either(method, peer)

    def put_back(self, state: bytes) -> None:
        assert self._agent is not None
        restore(self._agent, state, anew=False)

    async def call(self, call: Call) -> Any:
        handler = self._handler(call.capability)
        if handler.streams:
            return [part async for part in self._parts(handler, call)]
        arguments = handler.arguments(call.payload)
        with Until(_deadline_of(call)):
            if handler.form is Form.ASYNC:
                result = await handler.method(*arguments)
            else:
                result = await self._beside(handler.method, *arguments)
                if inspect.isawaitable(result):  # `def greet(self, name): return self.call(...)`
                    result = await result
        return plain(result)

    async def stream(self, call: Call) -> AsyncIterator[Any]:
        handler = self._handler(call.capability)
        if not handler.streams:
            yield await self.call(call)
            return
        parts = self._parts(handler, call)
        try:
            async for part in parts:
                yield part
        finally:
            await parts.aclose()

    async def stop(self) -> None:
        started, self._started = self._started, False
        try:
            if started:
                await self._run_hook("on_stop", type(self._agent).__name__)
        finally:
            self._agent = None
            self._handlers = {}
            if self._threads is not None:
                self._threads.close()
            if self._module is not None:
                self._module.unload()

    # --- inside -------------------------------------------------------------------------------------------------------------------

    def _create(self, cls: type[Agent], file: str, name: str, context: Context) -> Agent:
        """Made in two steps, so that `__init__` already knows the agent's name and log."""
        agent: Agent = cls.__new__(cls)
        attach(agent, name=name, mesh=context.mesh, log=context.log, settings=context.settings)
        try:
            agent.__init__()  # type: ignore[misc] # the second half of cls()
        except SkerryError:
            raise
        except Exception as error:  # the user's code, which may raise anything
            raise _failed(f"{cls.__name__}.__init__", file, error, hint="an agent is made without arguments") from error
        return agent

    async def _run_hook(self, hook: str, file: str) -> None:
        assert self._agent is not None
        method = getattr(self._agent, hook)
        try:
            await self._either(method)
        except SkerryError:
            raise
        except Exception as error:  # the user's code, which may raise anything
            raise _failed(f"{type(self._agent).__name__}.{hook}", file, error, hint="see: skerry agent logs NAME") from error

    async def _either(self, method: Any, *arguments: Any) -> None:
        """A method of the agent's, sync or async."""
        result = await method(*arguments) if inspect.iscoroutinefunction(method) else await self._beside(method, *arguments)
        if inspect.isawaitable(result):
            await result

    def _handler(self, capability: str) -> Handler:
        if capability not in self._handlers:
            raise Refused(
                f"this agent does not handle {capability!r}",
                code=Code.UNKNOWN_CAPABILITY,
                hint=f"it handles {', '.join(self._handlers) or 'nothing'}",
            )
        return self._handlers[capability]

    async def _beside(self, work: Any, *arguments: Any) -> Any:
        if self._threads is None:
            raise Refused("the agent is stopped", code=Code.SHUTTING_DOWN)
        return await self._threads.run(work, *arguments)

    async def _parts(self, handler: Handler, call: Call) -> Any:
        """The parts of a generator of either sort. The deadline is set around each step, since the one who asks for the next part
        may be another task than the one before."""
        deadline_at = _deadline_of(call)
        with Until(deadline_at):
            parts = handler.method(*handler.arguments(call.payload))
        try:
            while True:
                with Until(deadline_at):
                    if handler.form is Form.ASYNC_PARTS:
                        part = await anext(parts, _END)
                    else:
                        part = await self._beside(next, parts, _END)
                if part is _END:
                    return
                yield plain(part)
        finally:
            if handler.form is Form.ASYNC_PARTS:
                await parts.aclose()
            else:
                await self._beside(parts.close)


def _deadline_of(call: Call) -> float:
    return asyncio.get_running_loop().time() + call.timeout_s


def _agent_class(module: ModuleType, name: str, file: str) -> type[Agent]:
    found = vars(module).get(name)
    own = [key for key, item in vars(module).items() if isinstance(item, type) and issubclass(item, Agent) and item is not Agent]
    hint = f"it has {', '.join(f'{file}:{key}' for key in own)}" if own else "derive one: class Greeter(Agent)"
    if found is None:
        raise UsageError(f"{file} has no class {name!r}", code=Code.NOT_FOUND, hint=hint)
    if not isinstance(found, type) or not issubclass(found, Agent):
        raise UsageError(
            f"{name} in {file}{_line_of(found)} is no Agent", hint=f"write: class {name}(Agent), with: from skerry import Agent"
        )
    return found


def _line_of(found: Any) -> str:
    try:
        return f", line {inspect.getsourcelines(found)[1]},"
    except (OSError, TypeError):
        return ""


def _failed(what: str, file: str, error: BaseException, *, hint: str) -> SkerryError:
    """The agent's own code raised: said in one line, with the place; the traceback is the cause."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == Path(file).name]
    line = f", line {frames[-1].lineno}" if frames else ""
    return SkerryError(f"{what} failed ({Path(file).name}{line}): {type(error).__name__}: {error}", code=Code.AGENT_FAILED, hint=hint)


# --- the user's file --------------------------------------------------------------------------------------------------------------


class _UserModule:
    """Loads a file, alone or in its folder, and takes it out of this process again."""

    def __init__(self, path: Path, file: str) -> None:
        """`path`: the stored copy, which may have a name of its own; `file`: what the user calls it."""
        self._file = file
        self._folder = path if path.is_dir() else None
        self._location = path / file if path.is_dir() else path
        self._before = set(sys.modules)
        self._paths: list[str] = []
        if not self._location.is_file():
            raise UsageError(f"there is no file {file}", code=Code.NOT_FOUND, hint="check the path before the colon")

    def load(self) -> ModuleType:
        name = self._name()
        if self._folder is not None:
            for folder in dict.fromkeys((str(self._location.parent), str(self._folder))):
                sys.path.insert(0, folder)
                self._paths.append(folder)
        importlib.invalidate_caches()
        # Python would keep its .pyc beside the file: a stored copy, named by its content, must stay as it is.
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            if "." in name:
                return importlib.import_module(name)
            return self._execute(name)
        except SkerryError as error:
            raise UsageError(f"{self._where(error)}: {error}", code=error.code, hint=error.hint) from error
        except SyntaxError as error:
            place = f"{Path(error.filename or self._file).name if self._folder else self._file}, line {error.lineno}"
            raise UsageError(f"{place}: {error.msg}", hint=f"correct it: {(error.text or '').strip() or self._file}") from error
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{self._where(error)}: {error}",
                hint=f"install it in the environment that skerry runs in: pip install {(error.name or 'NAME').partition('.')[0]}",
            ) from error
        except (Exception, SystemExit) as error:  # the user's code, which may raise anything
            raise UsageError(
                f"{self._where(error)}: {type(error).__name__}: {error}", hint="the file must be importable: try it with python -c"
            ) from error
        finally:
            sys.dont_write_bytecode = writes

    def unload(self) -> None:
        for path in self._paths:
            if path in sys.path:
                sys.path.remove(path)
        self._paths = []
        root = (self._folder or self._location).resolve()
        for name in set(sys.modules) - self._before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).resolve().is_relative_to(root):
                del sys.modules[name]

    def _name(self) -> str:
        """The module's own name: dotted, where it lies in packages of its folder. A name that is taken gets a prefix, so that a file
        called `json.py` does not stand in for the real one."""
        names = [Path(self._file).stem]
        if self._folder is not None:
            parent = self._location.parent
            while parent != self._folder and (parent / "__init__.py").is_file():
                names.insert(0, parent.name)
                parent = parent.parent
        if names[0] in sys.stdlib_module_names or names[0] in sys.modules or importlib.util.find_spec(names[0]) is not None:
            if len(names) > 1:
                raise UsageError(f"the package {names[0]!r} of {self._file} has the name of another", hint="give it a name of its own")
            return f"skerry_agent_{names[0]}"
        return ".".join(names)

    def _execute(self, name: str) -> ModuleType:
        loader = SourceFileLoader(name, str(self._location))  # by hand: a stored copy need not end in .py
        spec = importlib.util.spec_from_file_location(name, self._location, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before it runs: dataclasses and type hints look it up there
        loader.exec_module(module)
        return module

    def _where(self, error: BaseException) -> str:
        """File and line, of the deepest frame that is the user's."""
        root = (self._folder or self._location).resolve()
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve().is_relative_to(root)]
        if not frames:
            return self._file
        last = frames[-1]
        return f"{Path(last.filename).name if self._folder else self._file}, line {last.lineno}"
