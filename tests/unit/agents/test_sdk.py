"""What agents are written with: mistakes show where they are made, and an agent's own calls stay within its deadline."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.agents.sdk import Agent, Until, attach, handles, handlings
from skerry.errors import Code, SkerryError, UsageError
from tests.support.meshes import NotedMesh


class Greeter(Agent):
    state = ("greeted",)

    def __init__(self) -> None:
        self.named_at_start = self.name
        self.greeted = 0

    @handles("custom:greet", description="greets")
    def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    @handles("embedding:letters")
    @handles("custom:letters", idempotent=True)
    async def letters(self, text: str) -> list[str]:
        return list(text)


def _in_mesh() -> tuple[Greeter, NotedMesh]:
    agent, mesh = Greeter(), NotedMesh()
    attach(agent, name="greeter-2", mesh=mesh, log=logging.getLogger("agent.greeter-2"))
    return agent, mesh


def test_handlers_are_found_with_what_was_said_of_them() -> None:
    found = handlings(Greeter)
    assert {capability: method for capability, (method, _) in found.items()} == {
        "custom:greet": "greet",
        "embedding:letters": "letters",
        "custom:letters": "letters",
    }
    assert not found["custom:greet"][1].idempotent
    assert found["embedding:letters"][1].idempotent, "by its kind"
    assert found["custom:letters"][1].idempotent, "as it says"


def test_an_agent_can_be_made_and_used_without_a_mesh() -> None:
    agent = Greeter()
    assert agent.named_at_start == "greeter"
    assert agent.greet("Ann") == "Hello, Ann!"


async def test_but_it_cannot_call() -> None:
    with pytest.raises(UsageError, match="in no mesh"):
        await Greeter().call("custom:x")
    with pytest.raises(UsageError, match="in no mesh"):
        Greeter().stream("custom:x")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("n", "write: state = "),
        (["n"], "write: state = "),
        ((1,), "write: state = "),
        (("a b",), "can't be an attribute"),
        (("__dict__",), "can't be an attribute"),
        (("name",), "can't be an attribute"),
        (("n", "n"), "twice"),
    ],
)
def test_state_that_is_no_tuple_of_names_is_refused_where_it_is_written(state: Any, says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        type("Wrong", (Agent,), {"state": state})
    assert "Wrong.state" in str(refusal.value)
    assert says in f"{refusal.value} {refusal.value.hint}"


def test_a_capability_that_is_none_is_refused_where_it_is_written() -> None:
    for capability in ("custom:*", "greet", ""):
        with pytest.raises(UsageError):
            handles(capability)


def test_two_handlers_of_one_capability_are_refused() -> None:
    with pytest.raises(UsageError, match=r"Twice handles 'custom:x' twice: in one and in two"):

        class Twice(Agent):
            @handles("custom:x")
            def one(self) -> None: ...

            @handles("custom:x")
            def two(self) -> None: ...


def test_a_class_or_an_attribute_handles_nothing() -> None:
    for wrong in (Greeter, staticmethod(print), 7):
        with pytest.raises(UsageError, match="stands on a"):
            handles("custom:x")(wrong)  # type: ignore[type-var] # what a user may get wrong


def test_a_subclass_handles_what_its_base_does_in_its_own_way() -> None:
    class Loud(Greeter):
        def greet(self, name: str) -> str:
            return super().greet(name).upper()

        letters = None  # type: ignore[assignment] # given up

    assert list(handlings(Loud)) == ["custom:greet"]
    assert Loud().greet("Ann") == "HELLO, ANN!"


async def test_calls_go_to_the_mesh_as_plain_values() -> None:
    agent, mesh = _in_mesh()
    assert await agent.call("custom:x", {"raw": bytearray(b"x"), "pair": (1, 2)}, agent="other") == [{"raw": b"x", "pair": (1, 2)}]
    assert [part async for part in agent.stream("custom:y", timeout=3)] == [None, None]
    assert mesh.asked == [("custom:x", {"raw": b"x", "pair": (1, 2)}, None, "other"), ("custom:y", None, 3, None)]


async def test_calls_never_outlast_the_task_they_are_made_in() -> None:
    agent, mesh = _in_mesh()
    with Until(asyncio.get_running_loop().time() + 5):
        await agent.call("custom:x")
        await agent.call("custom:x", timeout=60)
        await agent.call("custom:x", timeout=1)
        await asyncio.create_task(agent.call("custom:x"))
        await asyncio.gather(*[part async for part in _asked(agent)])
    await agent.call("custom:x")
    times = [timeout_s for _, _, timeout_s, _ in mesh.asked]
    assert times[2] == 1
    assert times[-1] is None
    rest = [times[0], times[1], *times[3:-1]]
    assert all(timeout_s is not None and 4 < timeout_s <= 5 for timeout_s in rest)


async def _asked(agent: Agent) -> Any:
    async for _ in agent.stream("custom:y"):
        yield agent.call("custom:z")


async def test_past_its_deadline_an_agent_calls_nobody() -> None:
    agent, mesh = _in_mesh()
    with Until(asyncio.get_running_loop().time()), pytest.raises(SkerryError, match="no time is left") as refusal:
        await agent.call("custom:x")
    assert refusal.value.code == Code.DEADLINE_EXCEEDED
    assert mesh.asked == []


def test_importing_it_brings_nothing_heavy() -> None:
    code = "import skerry.agents.sdk, sys; print(*sys.modules)"
    source = str(Path(__file__).parents[3] / "src")
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": source})
    heavy = {"msgspec", "pydantic", "numpy", "httpx", "typer", "fastapi", "onnxruntime", "cbor2", "nacl"}
    assert heavy & set(answer.stdout.split()) == set()


@pytest.mark.parametrize(
    ("name", "parameters", "wanted"),
    [
        ("on_message", "self, message", "def on_message(self, session, message)"),
        ("on_message", "self, session, message, more", "def on_message(self, session, message)"),
        ("peer_added", "self", "def peer_added(self, peer)"),
        ("peer_removed", "self, *, peer", "def peer_removed(self, peer)"),
        ("on_start", "self, mesh", "def on_start(self)"),
    ],
)
def test_a_hook_that_could_never_be_called_shows_where_it_is_written(name: str, parameters: str, wanted: str) -> None:
    scope: dict[str, Any] = {"Agent": Agent}
    with pytest.raises(UsageError, match=f"Wrong.{name} can't be called") as refused:
        exec(f"class Wrong(Agent):\n    def {name}({parameters}): pass", scope)
    assert wanted in refused.value.hint


def test_a_hook_may_take_more_than_it_needs() -> None:
    class Fine(Agent):
        def on_message(self, *letter: Any, late: bool = False) -> None: ...

        async def peer_added(self, peer: str, /, *rest: Any) -> None: ...

    assert Fine().name == "fine"
