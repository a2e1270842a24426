"""Two formations over real sockets: one contact ticket, each other's shared agents, and nothing else."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import pytest

from tests.support import poll_until
from tests.support.nodes import Node, Nodes, Ran

AGENTS = Path(__file__).with_name("agents.py")


@pytest.fixture(scope="module")
def two(world: Nodes) -> list[Node]:
    """alpha and beta are one formation, xi and omicron another; beta greets, omicron says who it is, and each shares one agent of two."""
    alpha, beta = world.mesh("alpha", "beta")
    xi, omicron = world.mesh("xi", "omicron")
    ticket = alpha.json("contact", "invite", "xis", "--allow", "federate", "--allow", "call:custom:greet", "--allow", "call:custom:count")
    accepted = xi.json("contact", "accept", ticket["ticket"], "--name", "alphas", "--allow", "federate", "--allow", "call:*")
    assert accepted["name"] == "alphas"
    wait_up(alpha, "xis")
    wait_up(xi, "alphas")
    wait_up(beta, "xis")
    beta.run("agent", "run", f"{AGENTS}:Greeter", "--share", "xis").ok()
    beta.run("agent", "run", f"{AGENTS}:Greeter", "--name", "private").ok()
    wait_up(omicron, "alphas")
    omicron.run("agent", "run", f"{AGENTS}:Who", "--share", "public").ok()
    return [alpha, beta, xi, omicron]


def wait_up(node: Node, contact: str) -> None:
    def is_up() -> bool:
        return any(c["name"] == contact and c["link"] == "up" for c in node.json("contact", "list")["contacts"])

    poll_until(is_up, 15.0, what=f"{node.name} is linked with {contact}")


def shared(node: Node) -> list[tuple[str, str]]:
    """Contact and name of the agents that contacts share with a node."""
    return [(a["contact"], a["name"]) for a in node.json("agent", "list")["agents"] if a["contact"]]


def wait_shared(node: Node, *wanted: tuple[str, str]) -> None:
    poll_until(lambda: shared(node) == list(wanted), 15.0, what=f"{node.name} sees {wanted} of its contacts")


def call(node: Node, *args: str) -> Ran:
    return node.run("call", *args, "--reach", "contacts")


def test_each_lists_and_calls_what_the_other_shares_and_nothing_else(two: list[Node]) -> None:
    alpha, beta, xi, omicron = two
    for node in (xi, omicron):
        wait_shared(node, ("alphas", "greeter"))
        assert call(node, "custom:greet", '"Ada"').ok().out == "Hello, Ada!\n"
        assert call(node, "custom:count", "3", "--stream").ok().out.split() == ["0", "1", "2"]
    for node in (alpha, beta):
        wait_shared(node, ("xis", "who"))
        call(node, "custom:who").ok()
    assert [a["name"] for a in alpha.json("agent", "list")["agents"] if not a["contact"]] == ["greeter", "private"]
    assert alpha.json("agent", "show", "xis/who")["contact"] == "xis"


def test_a_task_stays_where_its_caller_does_not_say_otherwise(two: list[Node]) -> None:
    xi = two[2]
    wait_shared(xi, ("alphas", "greeter"))
    xi.run("call", "custom:greet", '"Ada"').refused(1, "alphas", "--reach contacts")
    call(xi, "custom:nothing", "1").refused(1, "custom:nothing")
    xi.run("call", "custom:greet", '"Ada"', "--reach", "moon").refused(2, "moon", "contacts")


def test_what_the_entry_does_not_allow_is_refused_with_the_right_that_is_missing(two: list[Node]) -> None:
    xi = two[2]
    wait_shared(xi, ("alphas", "greeter"))
    call(xi, "custom:echo", '"Ada"').refused(1, "call:custom:echo")


def test_contacts_are_told_to_all_nodes_of_a_formation_and_kept_from_others(two: list[Node]) -> None:
    alpha, beta, xi, _ = two
    for node in (alpha, beta):
        (entry,) = node.json("contact", "list")["contacts"]
        assert (entry["name"], entry["kind"], entry["id"]) == ("xis", "formation", xi.json("formation", "show")["id"])
        file = node.home / "contacts.toml"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "[contacts.xis]" in file.read_text()
    names = {info["name"] for info in xi.json("node", "list")["nodes"]}
    assert names == {"xi", "omicron"}, "the nodes of a contact are no nodes of ours"
    beta.run("contact", "add", "eve", "--node", "ab" * 32).refused(1, "operator")


def test_watch_follows_what_contacts_share(two: list[Node], world: Nodes) -> None:
    _, beta, xi, _ = two
    wait_shared(xi, ("alphas", "greeter"))
    watching = world.spawn("record", "watch", "--outside", "--kind", "agent", "-o", "jsonl", name="watch", home=xi.home)
    try:

        def seen() -> str:
            beta.run("agent", "pause", "greeter").ok()
            beta.run("agent", "resume", "greeter").ok()
            return watching.out.read_text()

        poll_until(seen, 15.0, what="the watch shows what changed")
        found = [json.loads(line) for line in watching.out.read_text().splitlines()]
        assert {(one["kind"], one["author"], one["stands"]) for one in found} == {("agent", beta.id, "yes")}
        assert len({one["stamp"] for one in found}) == len(found), "each once"
    finally:
        watching.process.send_signal(signal.SIGINT)
        watching.process.wait(10)
        world.all.remove(watching)


def test_a_ticket_is_for_one_formation_and_for_nothing_else(nodes: Nodes) -> None:
    alpha, xi, psi = nodes.up("alpha"), nodes.up("xi"), nodes.up("psi")
    ticket = alpha.json("contact", "invite", "xis", "--allow", "federate")["ticket"]
    nodes.spawn("join", ticket, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json", home=nodes.home("x")).wait_refused(
        2 - 1, "contact accept"
    )
    first = xi.json("contact", "accept", ticket, "--name", "alphas")
    assert first["allow"] == ["federate"], "they may here what we may there"
    assert xi.json("contact", "accept", ticket, "--name", "alphas") == first | {"link": xi.json("contact", "show", "alphas")["link"]}
    psi.run("contact", "accept", ticket, "--name", "alphas").refused(1, "spent")
    psi.run("contact", "accept", alpha.invite(), "--name", "alphas").refused(1, "for joining")
    alpha.run("contact", "accept", alpha.json("contact", "invite", "me")["ticket"], "--name", "us").refused(2, "this very formation")
    psi.run("contact", "invite", "x", "--allow", "everything").refused(2, "everything", "call:PATTERN")


def test_who_is_dropped_or_removed_has_nothing_left(nodes: Nodes) -> None:
    alpha, xi = nodes.up("alpha"), nodes.up("xi")
    ticket = alpha.json("contact", "invite", "xis", "--allow", "federate", "--allow", "call:*")["ticket"]
    xi.run("contact", "accept", ticket, "--name", "alphas").ok()
    wait_up(xi, "alphas")
    alpha.run("agent", "run", f"{AGENTS}:Greeter").ok()
    assert shared(xi) == []
    entry = alpha.json("contact", "show", "xis")
    assert alpha.json("contact", "add", "xis", "--allow", "none") == entry | {"allow": []}, "what is not given stays as it is"
    assert alpha.json("contact", "add", "xis", *(part for right in entry["allow"] for part in ("--allow", right))) == entry
    alpha.run("agent", "share", "greeter", "xis").ok()
    wait_shared(xi, ("alphas", "greeter"))
    alpha.run("agent", "share", "greeter", "none").ok()
    wait_shared(xi)
    alpha.run("agent", "share", "greeter", "public").ok()
    wait_shared(xi, ("alphas", "greeter"))
    assert call(xi, "custom:greet", '"Ada"').ok().out == "Hello, Ada!\n"
    xi.run("contact", "remove", "alphas").ok()
    assert shared(xi) == []
    call(xi, "custom:greet", '"Ada"').refused(1, "custom:greet")
    alpha.run("contact", "remove", "xis").ok()
    assert alpha.json("contact", "list")["contacts"] == []
    alpha.run("contact", "add", "xis", "--allow", "federate").refused(2, "xis", "no id", "formation")
    assert "xis" not in (alpha.home / "contacts.toml").read_text()


def test_a_stranger_that_knows_where_they_are_gets_nothing(two: list[Node], world: Nodes) -> None:
    """It names them as its contact, which they never agreed to: no list, no call, not even a word of what there is."""
    alpha, beta = two[:2]
    psi = world.up("psi")
    addresses = [f"tcp://{node.id}@{node.listen}" for node in (alpha, beta)]
    psi.run("contact", "add", "alphas", *addresses, "--formation", alpha.json("formation", "show")["id"], "--allow", "call:*").ok()

    def tried() -> str:
        return str(psi.json("contact", "show", "alphas")["link"])

    poll_until(lambda: "there we are no contact" in tried(), 15.0, what="psi is linked, as a stranger, and knows")
    call(psi, "custom:greet", '"Ada"').refused(1, "custom:greet", "no contact", "agent list")
    call(psi, "custom:greet", '"Ada"', "--agent", "alphas/greeter").refused(1, "custom:greet", "no contact")
    assert shared(psi) == []
    assert psi.json("contact", "show", "alphas")["agents"] == 0
    psi.run("agent", "run", f"{AGENTS}:Who", "--share", "alphas").ok()
    assert [a for node in (alpha, beta) for a in shared(node) if a[0] != "xis"] == []


def test_the_file_is_read_again_when_its_owner_edits_it(nodes: Nodes) -> None:
    alpha, xi = nodes.up("alpha"), nodes.up("xi")
    file = xi.home / "contacts.toml"
    formation = alpha.json("formation", "show")["id"]
    text = f'# mine\n[contacts.alphas]\naddresses = ["tcp://{alpha.listen}"]\nformation = "{formation}"\nallow = ["federate"]\n'
    file.write_text(text)
    poll_until(lambda: xi.json("contact", "list")["contacts"], 10.0, what="the edit is taken")
    assert file.read_text() == text, "what the owner wrote stays as it is written"
    file.write_text(text + '\n[contacts]\nbad = "smtp://x"\n')
    poll_until(lambda: any("contacts.toml" in w for w in xi.status().warnings), 10.0, what="the error is said")
    assert [c["name"] for c in xi.json("contact", "list")["contacts"]] == ["alphas"], "what held before still holds"
    alpha.run("contact", "add", "xis", "--formation", xi.json("formation", "show")["id"]).ok()
    wait_up(alpha, "xis")
    assert xi.end() == 0
    bad = nodes.spawn("up", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", home=xi.home)
    assert bad.process.wait(20.0) == 2
    assert "contacts.toml" in bad.err.read_text()
    file.write_text("[contacts]\n")
    again = nodes.up("xi", home=xi.home)
    assert again.json("contact", "list")["contacts"] == []
    assert json.loads(json.dumps(again.ready))["node_id"] == xi.id
