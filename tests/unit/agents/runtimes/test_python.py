"""Agents in Python files: loaded as their author knows them, run without holding up the loop, refused with file and line."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.agents.runtimes.contract import Call, Source
from skerry.agents.runtimes.python import PythonRuntime
from skerry.errors import Code, SkerryError, UsageError
from tests.support.meshes import NotedMesh, context

HEAD = "from skerry.agents.sdk import Agent, handles\n"
GATES: dict[str, threading.Event] = {}  # what the agents below wait for; they run in this process


@asynccontextmanager
async def agent(folder: Path, body: str, *, file: str = "mine.py", mesh: NotedMesh | None = None) -> AsyncIterator[PythonRuntime]:
    (folder / file).write_text(HEAD + body)
    runtime = PythonRuntime()
    try:
        await runtime.activate(Source("python", "mine", folder / file, f"{file}:Mine"), context(mesh))
        yield runtime
    finally:
        await runtime.stop()


async def refused(folder: Path, text: str, *, entry: str = "mine.py:Mine") -> SkerryError:
    (folder / "mine.py").write_text(text)
    runtime = PythonRuntime()
    with pytest.raises(SkerryError) as refusal:
        await runtime.activate(Source("python", "mine", folder / "mine.py", entry), context())
    await runtime.stop()
    assert "mine" not in sys.modules
    return refusal.value


async def test_the_module_has_its_own_name_and_leaves_nothing_behind(tmp_path: Path) -> None:
    body = "class Mine(Agent):\n    @handles('custom:x')\n    def x(self) -> str:\n        return __name__\n"
    before = set(sys.modules)
    async with agent(tmp_path, body) as runtime:
        assert await runtime.call(Call("custom:x", None)) == "mine"
    assert "mine" not in set(sys.modules) - before
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"], "no bytecode beside a stored copy"


async def test_a_file_with_the_name_of_another_module_does_not_stand_in_for_it(tmp_path: Path) -> None:
    import json

    body = "class Mine(Agent):\n    @handles('custom:x')\n    def x(self) -> str:\n        return __name__\n"
    async with agent(tmp_path, body, file="json.py") as runtime:
        assert await runtime.call(Call("custom:x", None)) == "skerry_agent_json"
        assert sys.modules["json"] is json


async def test_a_stored_copy_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "0123abcd").write_text(
        HEAD + "class Mine(Agent):\n    @handles('custom:x')\n    def x(self) -> str:\n        return __name__\n"
    )
    runtime = PythonRuntime()
    await runtime.activate(Source("python", "mine", tmp_path / "0123abcd", "mine.py:Mine"), context())
    assert await runtime.call(Call("custom:x", None)) == "mine"
    await runtime.stop()


async def test_a_folder_brings_what_lies_beside_the_file(tmp_path: Path) -> None:
    package = tmp_path / "crew"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("HELLO = 'hello'\n")
    (tmp_path / "beside.py").write_text("WORLD = 'world'\n")
    (package / "mine.py").write_text(
        HEAD + "import beside\nfrom .words import HELLO\n"
        "class Mine(Agent):\n    @handles('custom:x')\n    def x(self) -> list[str]:\n        return [HELLO, beside.WORLD, __name__]\n"
    )
    runtime = PythonRuntime()
    await runtime.activate(Source("python", "mine", tmp_path, "crew/mine.py:Mine"), context())
    assert await runtime.call(Call("custom:x", None)) == ["hello", "world", "crew.mine"]
    await runtime.stop()
    assert not {"crew", "crew.mine", "beside"} & set(sys.modules)
    assert str(tmp_path) not in sys.path


async def test_a_sync_handler_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    GATES["sync"] = threading.Event()
    body = f"from {__name__} import GATES\nclass Mine(Agent):\n    @handles('custom:x')\n    def x(self): return GATES['sync'].wait(10)\n"
    async with agent(tmp_path, body) as runtime:
        task = asyncio.create_task(runtime.call(Call("custom:x", None)))
        await asyncio.wait([task], timeout=0.05)
        GATES["sync"].set()  # nobody could, if the loop were held up
        assert await task is True


async def test_a_sync_handler_that_is_given_up_is_waited_for(tmp_path: Path) -> None:
    GATES["begun"], GATES["go"], GATES["ended"] = threading.Event(), threading.Event(), threading.Event()
    body = f"""
from {__name__} import GATES
class Mine(Agent):
    @handles("custom:x")
    def x(self):
        GATES["begun"].set()
        GATES["go"].wait(10)
        GATES["ended"].set()
"""
    async with agent(tmp_path, body) as runtime:
        task = asyncio.create_task(runtime.call(Call("custom:x", None)))
        await asyncio.to_thread(GATES["begun"].wait, 10)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done, "two tasks must not run in one agent"
        task.cancel()
        GATES["go"].set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert GATES["ended"].is_set()


PARTS = """
class Mine(Agent):
    closed = 0

    @handles("custom:sync")
    def sync(self, upto: int):
        try:
            yield from range(upto)
        finally:
            self.closed += 1

    @handles("custom:async")
    async def asynchronous(self, upto: int):
        try:
            for number in range(upto):
                yield number
        finally:
            self.closed += 1

    @handles("custom:closed")
    async def how_many(self) -> int:
        return self.closed
"""


@pytest.mark.parametrize("capability", ["custom:sync", "custom:async"])
async def test_generators_of_both_sorts_stream_and_close(tmp_path: Path, capability: str) -> None:
    async with agent(tmp_path, PARTS) as runtime:
        assert await runtime.call(Call(capability, 3)) == [0, 1, 2]
        assert [part async for part in runtime.stream(Call(capability, 3))] == [0, 1, 2]
        parts: Any = runtime.stream(Call(capability, 1000))
        assert await anext(parts) == 0
        await parts.aclose()
        assert await runtime.call(Call("custom:closed", None)) == 3


CALLER = """
class Mine(Agent):
    @handles("custom:async")
    async def one(self, payload):
        return await self.call("custom:other", payload)

    @handles("custom:sync")
    def two(self, payload):
        return self.call("custom:other", payload)

    @handles("custom:parts")
    async def three(self, payload):
        yield await self.call("custom:other", payload)
        async for part in self.stream("custom:other", payload):
            yield part
"""


async def test_a_handlers_calls_inherit_its_deadline(tmp_path: Path) -> None:
    mesh = NotedMesh()
    async with agent(tmp_path, CALLER, mesh=mesh) as runtime:
        assert await runtime.call(Call("custom:async", 1, timeout_s=5)) == [1]
        assert await runtime.call(Call("custom:sync", 2, timeout_s=5)) == [2]
        parts: Any = runtime.stream(Call("custom:parts", 3, timeout_s=5))
        got = [await asyncio.create_task(anext(parts)) for _ in range(3)]  # each part asked for by another task
        assert got == [[3], 3, 3]
        await parts.aclose()
    times = [timeout_s for _, _, timeout_s, _ in mesh.asked]
    assert len(times) == 4
    assert all(timeout_s is not None and 4 < timeout_s <= 5 for timeout_s in times)


async def test_start_and_stop_run_once_and_may_be_async(tmp_path: Path) -> None:
    body = """
class Mine(Agent):
    def __init__(self):
        self.said = [self.name]
        self.log.info("made")
    async def on_start(self):
        self.said.append("start")
    def on_stop(self):
        open(__file__ + ".stopped", "x").close()
    @handles("custom:x")
    def x(self): return self.said
"""
    async with agent(tmp_path, body) as runtime:
        assert await runtime.call(Call("custom:x", None)) == ["mine", "start"]
    assert (tmp_path / "mine.py.stopped").exists()


async def test_an_exception_of_a_handler_passes_as_it_is(tmp_path: Path) -> None:
    body = "class Mine(Agent):\n    @handles('custom:x')\n    def x(self): return {}['key']\n"
    async with agent(tmp_path, body) as runtime:
        with pytest.raises(KeyError):
            await runtime.call(Call("custom:x", None))


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("class Mine(:\n", Code.BAD_INPUT, "mine.py, line 1: invalid syntax"),
        ("\nimport no_such_thing\n", Code.BAD_INPUT, "mine.py, line 2: No module named 'no_such_thing'"),
        ("x = 1\ny = x / 0\n", Code.BAD_INPUT, "mine.py, line 2: ZeroDivisionError"),
        ("raise SystemExit(3)\n", Code.BAD_INPUT, "mine.py, line 1: SystemExit"),
        (HEAD + "class Other(Agent): ...\n", Code.NOT_FOUND, "mine.py has no class 'Mine'"),
        ("class Mine: ...\n", Code.BAD_INPUT, "Mine in mine.py, line 1, is no Agent"),
        ("Mine = 7\n", Code.BAD_INPUT, "Mine in mine.py is no Agent"),
        (HEAD + "class Mine(Agent): ...\n", Code.BAD_INPUT, "Mine in mine.py handles nothing"),
        (HEAD + "class Mine(Agent):\n    @handles('custom:*')\n    def x(self): ...\n", Code.BAD_INPUT, "mine.py, line 3: the capability"),
        (HEAD + "class Mine(Agent):\n    state = 'n'\n", Code.BAD_INPUT, "mine.py, line 2: Mine.state"),
        (
            HEAD + "class Mine(Agent):\n    def __init__(self, x): ...\n    def on_start(self): ...\n",
            Code.AGENT_FAILED,
            "Mine.__init__ failed",
        ),
        (
            HEAD + "class Mine(Agent):\n    def on_start(self):\n        1 / 0\n",
            Code.AGENT_FAILED,
            "Mine.on_start failed (mine.py, line 4): ZeroDivisionError",
        ),
    ],
)
async def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path: Path, text: str, code: Code, says: str) -> None:
    error = await refused(tmp_path, text)
    assert says in str(error)
    assert error.code == code
    assert error.hint


async def test_other_classes_are_suggested(tmp_path: Path) -> None:
    assert "mine.py:Other" in (await refused(tmp_path, HEAD + "class Other(Agent): ...\n")).hint


async def test_capabilities_are_not_chosen_from_outside(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HEAD)
    source = Source("python", "mine", tmp_path / "mine.py", "mine.py:Mine", {"capabilities": ["custom:y"]})
    with pytest.raises(UsageError, match="can't be chosen"):
        await PythonRuntime().activate(source, context())
