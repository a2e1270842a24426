"""Programs without a node: tickets for clients, at the command line and in Python, over real TLS."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

import skerry
from skerry.client.mesh import Mesh
from tests.support import poll_until
from tests.support.nodes import Node, Nodes

AGENTS = Path(__file__).with_name("agents.py")


@pytest.fixture
def trio(nodes: Nodes) -> list[Node]:
    """alpha, who founded, beta, and gamma, who greets."""
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    gamma.run("agent", "run", f"{AGENTS}:Greeter").ok()
    gamma.run("agent", "run", f"{AGENTS}:Who").ok()
    for node in (alpha, beta):
        node.wait_offered("custom:greet", "custom:who")
    return [alpha, beta, gamma]


def test_a_client_calls_from_the_command_line(nodes: Nodes, trio: list[Node]) -> None:
    alpha = trio[0]
    ticket = alpha.invite("--role", "client")
    laptop = {"HOME": str(nodes.home("laptop")), "SKERRY_TICKET": ticket}
    assert nodes.run("call", "custom:greet", '"Ada"', env=laptop).ok().out == "Hello, Ada!\n"
    assert nodes.run("call", "custom:count", "3", "--stream", env=laptop).ok().out.split() == ["0", "1", "2"]
    assert "custom:greet" in nodes.run("capability", "list", env=laptop).ok().out
    assert nodes.run("status", "-o", "json", env=laptop).ok().json["id"] == alpha.id
    assert nodes.run("call", "custom:greet", '"Bob"', "--ticket", ticket, env={"HOME": laptop["HOME"]}).ok().out == "Hello, Bob!\n"
    file = nodes.file("ticket", ticket)
    file.chmod(0o600)
    assert nodes.run("call", "custom:greet", '"Cy"', "--ticket", f"@{file}", env={"HOME": laptop["HOME"]}).ok().out == "Hello, Cy!\n"
    kept = list((nodes.home("laptop") / ".skerry" / "clients").iterdir())
    assert [stat.S_IMODE(path.stat().st_mode) for path in kept] == [0o600]
    elsewhere = {"HOME": str(nodes.home("elsewhere")), "SKERRY_TICKET": ticket}
    nodes.run("call", "custom:greet", '"Eve"', "-o", "json", env=elsewhere)
    spent = nodes.run("call", "custom:greet", '"Eve"', env=elsewhere)
    spent.refused(1, "spent", "skerry node invite")
    refused = nodes.run("node", "list", "--home", str(nodes.home("nobody")), env=laptop)
    refused.refused(3, "no node runs")


def test_a_node_does_not_join_with_a_clients_ticket_and_does_not_spend_it(nodes: Nodes, trio: list[Node]) -> None:
    ticket = trio[0].invite("--role", "client")
    nodes.spawn("join", ticket, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json", home=nodes.home("node")).wait_refused(
        1, "bad_ticket", "client"
    )
    env = {"HOME": str(nodes.home("laptop")), "SKERRY_TICKET": ticket}
    assert nodes.run("call", "custom:greet", '"Ada"', env=env).ok().out == "Hello, Ada!\n"


def test_one_ticket_for_each_device_one_json_object_a_line(nodes: Nodes, trio: list[Node]) -> None:
    alpha = trio[0]
    made = alpha.run("node", "invite", "--role", "client", "--count", "3", "--ttl", "1d", "-o", "jsonl").ok().lines
    assert [(ticket["role"], ticket["uses"]) for ticket in made] == [("client", 1)] * 3
    assert len({ticket["ticket"] for ticket in made}) == 3
    whole = alpha.run("node", "invite", "--count", "2", "-o", "json").ok().json
    assert [ticket["role"] for ticket in whole["tickets"]] == ["member"] * 2
    assert len(alpha.run("node", "invite", "--count", "2").ok().out.split()) == 2
    for number, ticket in enumerate(made):
        env = {"HOME": str(nodes.home(f"device{number}")), "SKERRY_TICKET": ticket["ticket"]}
        assert nodes.run("call", "custom:greet", '"Ada"', env=env).ok().out == "Hello, Ada!\n"
    listed = alpha.run("node", "list", "--all", "-o", "json").ok().json["nodes"]
    assert [info["role"] for info in listed].count("client") == 3
    assert len(alpha.sees()) == 3, "clients are no nodes"


def test_a_program_goes_on_when_its_node_dies(nodes: Nodes, trio: list[Node]) -> None:
    alpha, beta, _ = trio
    ticket, home = alpha.invite("--role", "client"), nodes.home("program")

    async def go() -> None:
        async with skerry.connect(home, ticket=ticket) as mesh:
            assert await mesh.call("custom:greet", "Ada") == "Hello, Ada!"
            assert await asyncio.gather(*(mesh.call("custom:echo", n) for n in range(100))) == list(range(100))
            big = bytes(3 * 1024 * 1024)
            assert await mesh.call("custom:echo", big) == big
            assert [part async for part in mesh.stream("custom:count", 4)] == [0, 1, 2, 3]
            alpha.kill()
            await mesh.call("custom:who")  # may be done twice: it is asked again where the loss is noticed
            assert await mesh.call("custom:greet", "Bob") == "Hello, Bob!"
            assert await mesh.call("custom:echo", big) == big

    asyncio.run(go())
    again = skerry.connect(home, ticket=ticket)
    assert asyncio.run(_greet(again)) == "Hello, Cy!", "a new program needs the inviter no more"
    poll_until(lambda: beta.sees()[alpha.id].link != "up")


async def _greet(mesh: Mesh) -> object:
    async with mesh:
        return await mesh.call("custom:greet", "Cy")
