"""Coming and going, with real processes: leave, rename, forget, a home that was copied, a home that came back from a backup."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support import poll_until
from tests.support.nodes import Node, Nodes, on_loopback

AGENTS = Path(__file__).with_name("agents.py")


def _names(node: Node) -> list[str]:
    return sorted(info.name for info in node.sees().values())


def test_a_node_leaves_and_its_home_is_free(nodes: Nodes) -> None:
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    left = beta.json("leave")
    assert (left["told"], left["nodes"]) == (2, 2)
    assert beta.process.wait(10) == 0
    for node in (alpha, gamma):
        poll_until(lambda node=node: _names(node) == ["alpha", "gamma"], what=f"{node.name} does not list it")  # type: ignore[misc]
    founder = beta.again("--name", "beta")
    assert founder.json("formation", "show")["id"] != alpha.json("formation", "show")["id"]
    assert founder.end() == 0
    again = nodes.join("beta", alpha.invite(), "--leave", home=beta.home)
    alpha.wait_linked(again)
    assert again.id == beta.id


def test_a_home_is_left_without_a_word_only_when_that_is_asked_for(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    beta.end()
    beta.run("leave").refused(3, "nobody can be told", "--untold")
    beta.run("leave", "--untold").ok()
    beta.run("leave", "--untold").refused(1, "belongs to no formation")
    assert _names(alpha) == ["alpha", "beta"]


def test_who_holds_the_root_key_is_asked_before_it_leaves(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    alpha.run("leave").refused(1, "root key", "formation backup", "--yes")
    assert alpha.process.poll() is None
    alpha.run("leave", "--yes").ok()
    assert alpha.process.wait(10) == 0
    kept = [path.name for path in alpha.home.glob("root*.key")]
    assert len(kept) == 1
    assert kept[0].startswith("root-of-")
    poll_until(lambda: _names(beta) == ["beta"])


def test_a_node_goes_by_another_name_and_keeps_it(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    assert beta.json("node", "rename", "worker")["name"] == "worker"
    poll_until(lambda: _names(alpha) == ["alpha", "worker"])
    younger = alpha.json("node", "rename", "worker")["name"]
    assert younger == f"worker~{alpha.id[:4]}", "the older claim keeps the name"
    beta.run("node", "rename", "no name").refused(2, "no name for a node")
    beta.end()
    again = nodes.spawn("up", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json", name="beta", home=beta.home).wait_ready()
    assert again.ready["name"] == "worker", "also after a start that names none"


def test_a_dead_node_is_forgotten_and_may_come_back_with_a_ticket(nodes: Nodes) -> None:
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    alpha.run("node", "forget", "beta").refused(1, "up and connected", "skerry leave")
    beta.kill()
    poll_until(lambda: alpha.sees()[beta.id].link != "up")
    gamma.run("node", "forget", "beta").refused(1)
    alpha.run("node", "forget", "beta").ok()
    poll_until(lambda: _names(gamma) == ["alpha", "gamma"])
    again = beta.again()
    poll_until(lambda: any("new ticket" in warning for warning in again.status().warnings), what="it is told")
    again.end()
    back = nodes.join("beta", alpha.invite(), home=beta.home)
    alpha.wait_linked(back)


def test_a_home_that_was_copied_is_named_on_both_and_nobody_thrashes(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    copy = nodes.home("copy")
    shutil.copytree(beta.home, copy, ignore=shutil.ignore_patterns("run"))
    twin = nodes.up("twin", home=copy)
    poll_until(lambda: any("key" in warning for warning in beta.status().warnings), what="the first hears of it")
    poll_until(lambda: any("copied" in warning for warning in twin.status().warnings), what="the second hears of it")
    assert any("runs twice" in warning for warning in alpha.status().warnings)
    assert alpha.sees()[beta.id].link == "up"
    assert any(check["what"] for check in alpha.json("doctor")["checks"])
    beta.end()
    poll_until(lambda: twin.sees()[alpha.id].link == "up", 45.0, what="the copy takes the place that is free")


def test_a_home_from_a_backup_speaks_with_newer_stamps_and_its_tickets_are_void(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    ticket = alpha.invite("--uses", "5")
    alpha.run("agent", "run", f"{AGENTS}:Greeter").ok()
    alpha.end()
    backup = nodes.home("backup")
    shutil.copytree(alpha.home, backup)
    alpha = alpha.again()
    alpha.run("agent", "run", f"{AGENTS}:Who").ok()
    nodes.join("gamma", alpha.invite())
    beta.wait_offered("custom:greet", "custom:who")
    alpha.end()
    shutil.rmtree(alpha.home)
    shutil.copytree(backup, alpha.home)
    alpha = alpha.again()
    alpha.wait_linked(beta)
    poll_until(lambda: any("backup" in warning for warning in alpha.status().warnings), what="it knows that it was restored")
    poll_until(lambda: "custom:who" not in beta.status().capabilities, what="what it does not have any more is taken back")
    beta.wait_offered("custom:greet")
    assert beta.call("custom:greet", "Ada") == "Hello, Ada!"
    nodes.spawn("join", ticket, *on_loopback("delta", ()), name="delta").wait_refused(1, "ticket_unknown")
    nodes.join("delta", alpha.invite())
