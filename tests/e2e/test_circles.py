"""Two meshes of three nodes that met through the DHT alone, over real sockets and processes."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from skerry.client.mesh import Restarted
from skerry.routing.task import Wishes
from tests.support import async_poll_until, poll_until
from tests.support.nodes import Node, Nodes
from tests.support.two_meshes import FIND_S, HERE, circle, finds

AGENTS = Path(__file__).with_name("agents.py")
CALL_S = 60.0

pytestmark = pytest.mark.skipif(importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed")


@pytest.mark.timeout(180)
def test_two_meshes_that_met_through_the_dht_do_each_others_tasks(nodes: Nodes) -> None:
    nodes.environment["SKERRY_FEDERATION_ALSO_DIAL"] = HERE
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    gamma.run("agent", "run", f"{AGENTS}:Greeter").ok()
    circle(alpha, gamma, "greeter", "greeters", "--callable-by", "anyone")
    poll_until(lambda: gamma.json("status")["dht"], FIND_S, what="gamma takes part in a DHT")
    nodes.environment["SKERRY_BOOTSTRAP"] = gamma.json("status")["dht"]
    xi, omicron, pi = nodes.mesh("xi", "omicron", "pi")
    pi.run("agent", "run", f"{AGENTS}:Who").ok()
    circle(xi, pi, "who", "namers", "--callable-by", "anyone")

    for node in (xi, omicron, pi):
        node.run("call", "custom:greet", '"Ada"').refused(1, "custom:greet")
        finds(node, "custom:greet", "greeters")
        assert node.run("call", "custom:greet", '"Ada"', "--reach", "public").ok().out == "Hello, Ada!\n"
        assert node.run("call", "custom:count", "3", "--reach", "public", "--stream").ok().out.split() == ["0", "1", "2"]
    for node in (alpha, beta, gamma):
        finds(node, "custom:who", "namers")
        node.run("call", "custom:who", "--reach", "public").ok()
        node.run("call", "custom:who", "--reach", "contacts").refused(1, "custom:who")
    (found,) = [c for c in beta.json("circle", "list")["circles"] if c["foreign"]]
    assert (found["members"], found["invited"], found["member_count"]) == ([], [], 1)
    assert [a["name"] for a in alpha.json("agent", "list")["agents"]] == ["greeter"], "a circle of others brings none of its agents"
    assert beta.json("status")["circles"]["discovered_circle_count"] == 1


@pytest.mark.timeout(240)
def test_killing_any_one_agent_or_its_node_loses_no_task_of_strangers_that_may_be_done_twice(nodes: Nodes) -> None:
    nodes.environment["SKERRY_FEDERATION_ALSO_DIAL"] = HERE
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    alpha.run("circle", "create", "toilers", "--open", "--callable-by", "anyone").ok()
    for host in (beta, gamma):
        host.run("agent", "run", f"{AGENTS}:Toiler", "--name", f"toiler-{host.name}").ok()
        poll_until(lambda host=host: host.json("circle", "list")["circles"], FIND_S, what=f"{host.name} knows the circle")  # type: ignore[misc]
        host.run("circle", "enter", "toilers", f"toiler-{host.name}").ok()
    poll_until(lambda: gamma.json("circle", "show", "toilers")["available_count"] == 2, FIND_S, what="both are in it")
    poll_until(lambda: gamma.json("status")["dht"], FIND_S, what="gamma takes part in a DHT")
    nodes.environment["SKERRY_BOOTSTRAP"] = gamma.json("status")["dht"]
    callers = nodes.mesh("xi", "omicron", "pi")
    for caller in callers:
        finds(caller, "custom:toil", "toilers")
        finds(caller, "custom:toil-parts", "toilers")
        finds(caller, "custom:toil-on", "toilers")

    for host in (beta, gamma):
        for work, begun in ((whole, "toils"), (anew, "goes on")):
            pid = host.json("agent", "show", f"toiler-{host.name}")["pid"]
            asyncio.run(toil(callers, host, functools.partial(os.kill, pid, signal.SIGKILL), work, begun=begun))
            poll_until(functools.partial(is_back, host, pid), FIND_S, what="it is back")
    asyncio.run(toil(callers, gamma, gamma.kill, anew, begun="goes on"))


def is_back(host: Node, pid: int) -> bool:
    """Its toiler runs again, and is available in its circle."""
    agent = host.json("agent", "show", f"toiler-{host.name}")
    return agent["pid"] not in (None, 0, pid) and host.json("circle", "show", "toilers")["available_count"] == 2


Work = Callable[[Node], Coroutine[Any, Any, int]]


async def toil(callers: list[Node], host: Node, kill: Callable[[], object], work: Work, *, begun: str) -> None:
    """All callers have tasks done, and somebody is killed meanwhile, who has just logged that it is at work: nothing is lost."""
    before = toils(host, begun)
    works = [asyncio.ensure_future(work(caller)) for caller in callers]
    await async_poll_until(lambda: toils(host, begun) > before, FIND_S, what=f"{host.name} is at work")
    kill()
    restarts = sum(await asyncio.gather(*works))
    assert restarts or work is not anew, "a stream began anew after its first part"


async def whole(caller: Node) -> int:
    """A task, and a stream that is cut before its first part."""
    async with caller.connect() as mesh:
        parts = parts_of(mesh.stream("custom:toil-parts", 0.5, reach="public", timeout=CALL_S))
        done = await asyncio.gather(mesh.call("custom:toil", 0.5, reach="public", timeout=CALL_S), parts)
    assert done[0] in ("toiler-beta", "toiler-gamma")
    assert done[1] == [0, 1, 2]
    return 0


async def anew(caller: Node) -> int:
    """Streams whose first parts come at once, one by way of each node; how often they began anew."""
    async with caller.connect() as mesh:
        wishes: Wishes = {"reach": "public", "restart": True, "strategy": "round-robin"}
        done = await asyncio.gather(*(parts_of(mesh.stream("custom:toil-on", 1.5, timeout=CALL_S, **wishes)) for _ in range(2)))
    restarts = 0
    for parts in done:
        places = [place for place, part in enumerate(parts) if isinstance(part, Restarted)]
        restarts += len(places)
        assert parts[places[-1] + 1 if places else 0 :] == [0, 1, 2, 3]
    return restarts


async def parts_of(stream: AsyncIterator[Any]) -> list[Any]:
    return [part async for part in stream]


def toils(host: Node, what: str = "toils") -> int:
    """How many tasks its toiler began, or how many parts it gave."""
    log = host.home / "logs" / f"toiler-{host.name}.log"
    return log.read_text(errors="replace").count(what) if log.exists() else 0


def test_circles_from_the_command_line(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    beta.run("agent", "run", f"{AGENTS}:Greeter").ok()
    alpha.run("circle", "create", "makers", "--about", "make things").ok()
    alpha.run("circle", "create", "makers").refused(2, "makers")
    alpha.run("circle", "create", "a/b").refused(2, "letters")
    alpha.run("circle", "create", "x", "--callable-by", "me").refused(2, "anyone")
    alpha.run("circle", "list", "*", "--discover").refused(2, "too wide", "inference:*")
    alpha.run("circle", "list", "custom:greet", "--discover").refused(3, "no DHT", "--bootstrap")
    poll_until(lambda: beta.json("circle", "list")["circles"], FIND_S, what="beta knows it")
    beta.run("circle", "enter", "makers", "greeter").refused(1, "invited")
    beta.run("circle", "invite", "makers", "greeter").refused(1, "alpha")
    poll_until(lambda: alpha.json("agent", "list")["agents"], FIND_S, what="alpha knows the agent")
    alpha.run("circle", "invite", "makers", "greeter").ok()

    def entered() -> bool:
        return beta.run("circle", "enter", "makers", "greeter").code == 0

    poll_until(entered, FIND_S, what="the invitation came")
    poll_until(lambda: alpha.json("circle", "show", "makers")["member_count"] == 1, FIND_S, what="alpha sees it")
    shown = alpha.json("circle", "show", "makers")
    assert alpha.run("call", "custom:greet", '"Ada"', "--agent", f"circle:{shown['id']}").ok().out == "Hello, Ada!\n"
    assert (shown["members"][0]["name"], shown["members"][0]["node"], shown["public"]) == ("greeter", "beta", False)
    assert "greeter on beta: available" in alpha.run("circle", "show", "makers").ok().out
    beta.run("circle", "forgive", "makers").ok()
    beta.run("circle", "leave", "makers", "greeter").ok()
    beta.run("circle", "leave", "makers", "greeter").refused(1, "not in the circle")
    alpha.run("circle", "dissolve", "makers").ok()
    alpha.run("circle", "show", "makers").refused(1, "no circle")
    assert alpha.json("status")["dht"] == "", "who announces nothing to everybody takes part in no DHT"
