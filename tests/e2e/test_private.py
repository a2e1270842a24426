"""What is asked in a formation stays in it, at every door, until its caller says otherwise: the very capability is offered by a circle of
strangers that anybody may call, and our node knows it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import skerry
from skerry.errors import Code, SkerryError
from tests.support import poll_until
from tests.support.nodes import Node, Nodes
from tests.support.two_meshes import FIND_S, HERE, circle, finds

AGENTS = Path(__file__).with_name("agents.py")
MODEL = "confidant"
CAPABILITY = f"inference:{MODEL}"
PROMPT = {"messages": [{"role": "user", "content": "between us"}]}
ANSWER = "I tell nobody"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed")


@dataclass
class Apart:
    """alpha and beta, who know of a circle of strangers; xi and omicron, who are these, and whose agent would answer."""

    nodes: Nodes
    alpha: Node
    strangers: list[Node]

    def heard(self) -> int:
        """How many tasks the strangers' nodes were given, and how many prompts their agent heard."""
        told = 0
        for node in self.strangers:
            answer = httpx.get(
                f"http://{node.ready['http']}/metrics", headers={"authorization": f"Bearer {node.ready['token']}"}, trust_env=False
            )
            lines = [line for line in answer.raise_for_status().text.splitlines() if line.startswith("skerry_calls_total")]
            told += sum(int(float(line.split()[-1])) for line in lines if 'verb="task.run"' in line)
        log = self.strangers[-1].home / "logs" / "confidant.log"
        return told + (log.read_text(errors="replace").count("heard a prompt") if log.exists() else 0)


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    nodes = Nodes()
    try:
        nodes.environment["SKERRY_FEDERATION_ALSO_DIAL"] = HERE
        xi, omicron = nodes.mesh("xi", "omicron")
        omicron.run("agent", "run", f"{AGENTS}:Confidant").ok()
        circle(xi, omicron, "confidant", "confidants", "--callable-by", "anyone")
        poll_until(lambda: omicron.json("status")["dht"], FIND_S, what="omicron takes part in a DHT")
        nodes.environment["SKERRY_BOOTSTRAP"] = omicron.json("status")["dht"]
        alpha, beta = nodes.mesh("alpha", "beta")
        beta.run("agent", "run", f"{AGENTS}:Asker").ok()
        alpha.wait_offered("custom:ask", "custom:relay")
        finds(alpha, CAPABILITY, "confidants")
        finds(beta, CAPABILITY, "confidants")
        yield Apart(nodes, alpha, [xi, omicron])
    finally:
        nodes.close()


def stays(apart: Apart, ask: Callable[[str], Any], *, code: str = Code.UNKNOWN_CAPABILITY) -> None:
    """`ask` with the reach that is asked for, "" for none: raises, or returns the answer. `code`: what is said at this door."""
    before = apart.heard()
    for reach in ("", "formation", "contacts"):
        with pytest.raises(SkerryError) as caught:
            ask(reach)
        assert caught.value.code == code
        assert MODEL in str(caught.value)
    assert apart.heard() == before, "a prompt left the formation, and nobody had said that it may"
    assert ANSWER in str(ask("public"))
    assert apart.heard() > before, "this door lets it leave where its caller says so"


def wished(reach: str) -> dict[str, Any]:
    return {"reach": reach} if reach else {}


@pytest.mark.timeout(120)
def test_at_the_door_of_the_python_client(apart: Apart) -> None:
    async def whole(mesh: skerry.Mesh, reach: str) -> Any:
        return await mesh.call(CAPABILITY, PROMPT, **wished(reach))

    async def parts(mesh: skerry.Mesh, reach: str) -> Any:
        return [part async for part in mesh.stream(CAPABILITY, PROMPT, **wished(reach))]

    def door(go: Callable[[skerry.Mesh, str], Awaitable[Any]]) -> Callable[[str], Any]:
        async def through(reach: str) -> Any:
            async with apart.alpha.connect() as mesh:
                return await go(mesh, reach)

        return lambda reach: asyncio.run(through(reach))

    stays(apart, door(whole))
    stays(apart, door(parts))


@pytest.mark.timeout(120)
def test_at_the_door_for_a_client_with_a_ticket_and_no_node(apart: Apart) -> None:
    ticket, home = apart.alpha.invite("--role", "client"), apart.nodes.home("client")

    async def through(reach: str) -> Any:
        async with skerry.connect(home, ticket=ticket) as mesh:
            return await mesh.call(CAPABILITY, PROMPT, **wished(reach))

    stays(apart, lambda reach: asyncio.run(through(reach)))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("command", [("call", CAPABILITY, json.dumps(PROMPT)), ("chat", MODEL, "hi")])
def test_at_the_door_of_the_command_line(apart: Apart, command: tuple[str, ...]) -> None:
    def ask(reach: str) -> str:
        ran = apart.alpha.run(*command, *(("--reach", reach) if reach else ()))
        if ran.code:
            assert ran.code == 1
            raise SkerryError(ran.refused(1, MODEL).err, code=Code.UNKNOWN_CAPABILITY)
        return ran.out

    stays(apart, ask)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stream", [False, True])
def test_at_the_http_door_of_openais_clients(apart: Apart, stream: bool) -> None:
    headers = {"authorization": f"Bearer {apart.alpha.ready['token']}"}
    base = f"http://{apart.alpha.ready['http']}/v1"

    def ask(reach: str) -> str:
        more = {"x-skerry-reach": reach} if reach else {}
        body = {"model": MODEL, "stream": stream, **PROMPT}
        answer = httpx.post(f"{base}/chat/completions", json=body, headers=headers | more, trust_env=False, timeout=30)
        if answer.status_code != 200:
            assert answer.status_code == 404
            raise SkerryError(answer.text, code=answer.json()["error"]["code"])
        return answer.text

    listed = httpx.get(f"{base}/models", headers=headers, trust_env=False).raise_for_status().json()
    assert MODEL not in [model["id"] for model in listed["data"]], "what strangers offer is not listed as ours"
    stays(apart, ask, code="model_not_found")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", ["custom:ask", "custom:relay"])
def test_where_an_agent_of_ours_asks(apart: Apart, way: str) -> None:
    async def through(reach: str) -> Any:
        asked = {"capability": CAPABILITY, "payload": PROMPT, **wished(reach)}
        async with apart.alpha.connect() as mesh:
            if way == "custom:ask":
                return await mesh.call(way, asked)
            return [part async for part in mesh.stream(way, asked)]

    stays(apart, lambda reach: asyncio.run(through(reach)), code=Code.TASK_FAILED)
    with pytest.raises(SkerryError):
        asyncio.run(asks_without_saying(apart))


async def asks_without_saying(apart: Apart) -> Any:
    """A caller's own reach is not its agents': the task may leave, what its agent asks for it may not."""
    async with apart.alpha.connect() as mesh:
        return await mesh.call("custom:ask", {"capability": CAPABILITY, "payload": PROMPT}, reach="public")
