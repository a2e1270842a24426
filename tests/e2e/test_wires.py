"""Wires between real processes: within a formation and across two, through restarts, and taken away from either side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import poll_until
from tests.support.nodes import Node, Nodes

DESKS = Path(__file__).with_name("desks.py")
ROUND_S = 45.0  # two rounds of looking after wires


def _wires(node: Node) -> list[tuple[str, str, str]]:
    return [(one["agent"], one["peer"], one["state"]) for one in node.json("wire", "list")["wires"]]


def _heard(node: Node, name: str) -> Any:
    return node.call("custom:heard", agent=name)


def _run(node: Node, name: str) -> None:
    node.run("agent", "run", f"{DESKS}:Book", "--name", name).ok()


def _known(node: Node, name: str) -> None:
    poll_until(lambda: name in node.run("agent", "list").ok().out, what=f"{name} is known")


def _linked(node: Node, name: str) -> None:
    poll_until(lambda: node.json("contact", "show", name)["link"] == "up", what="they are linked")


def _met(nodes: Nodes, *rights: str) -> tuple[Node, Node]:
    """Two formations that are each other's contacts: theirs and ours."""
    (ours,), (theirs,) = nodes.mesh("ours"), nodes.mesh("theirs")
    options = [word for right in rights for word in ("--allow", right)]
    ticket = ours.json("contact", "invite", "friends", *options)["ticket"]
    theirs.run("contact", "accept", ticket, "--name", "lab").ok()
    for node, name in ((ours, "friends"), (theirs, "lab")):
        _linked(node, name)
    _run(ours, "left")
    _run(theirs, "right")
    return ours, theirs


def test_a_wire_within_a_formation_stands_through_restarts_until_it_is_taken_away(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    _run(alpha, "left")
    _run(beta, "right")
    _known(alpha, "right")
    alpha.run("wire", "add", "left", "nobody").refused(1, "nobody")
    alpha.run("wire", "add", "left", "gamma/right").refused(1, "gamma")
    alpha.run("wire", "add", "left", "left").refused(2, "itself")
    alpha.run("wire", "add", "right", "left").refused(1, "no agent 'right' on this node", "--node beta")
    alpha.run("wire", "add", "left", "beta/nobody").refused(1, "the node beta has no agent 'nobody'; there are: right")
    assert "beta/right" in alpha.run("wire", "add", "left", "right").ok().out
    alpha.run("wire", "add", "left", "beta/right").ok()  # again changes nothing
    assert _wires(alpha) == [("left", "beta/right", "standing")]
    assert _wires(beta) == [("right", "alpha/left", "standing")]
    poll_until(lambda: alpha.call("custom:peers", agent="left") == [["added", "beta/right"]])
    beta.kill()
    beta = beta.again()
    poll_until(lambda: _wires(beta) == [("right", "alpha/left", "standing")])
    poll_until(lambda: ["added", "alpha/left"] in beta.call("custom:peers", agent="right"), 20.0)
    assert beta.end() == 0
    alpha.run("wire", "remove", "left", "beta/right").refused(3, "beta", "connect", "gone on this side", "follows")
    assert _wires(alpha) == []
    beta = beta.again()
    poll_until(lambda: _wires(beta) == [], ROUND_S, what="the other half went too")
    alpha.run("wire", "remove", "left", "beta/right").refused(1, "not wired")


def test_the_wires_of_an_agent_that_is_removed_go(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    _run(alpha, "left")
    _run(beta, "right")
    _known(alpha, "right")
    alpha.run("wire", "add", "left", "right").ok()
    alpha.run("agent", "remove", "left").ok()
    poll_until(lambda: _wires(beta) == [], ROUND_S, what="a removed agent's wires go")


def test_agents_of_two_formations_talk_over_a_wire_and_nobody_else_does(nodes: Nodes) -> None:
    ours, theirs = _met(nodes, "wire:left", "wire:right")
    _run(ours, "other")
    theirs.run("wire", "add", "right", "lab/other").refused(1, "wire:other")
    theirs.run("send", "lab/left", '"before"').refused(1, "left")
    theirs.run("wire", "add", "right", "lab/left").ok()
    assert _wires(theirs) == [("right", "lab/ours/left", "standing")]
    assert _wires(ours) == [("left", "friends/theirs/right", "standing")]
    theirs.call("custom:tell", ["lab/left", {"rally": 3}, "hello"], agent="right")
    poll_until(lambda: "hello" in _heard(ours, "left"))
    poll_until(lambda: {"rally": 0} in _heard(theirs, "right"))
    assert ours.call("custom:senders", agent="left")[0] == "friends/theirs/right"
    ours.kill()
    theirs.call("custom:tell", ["lab/left", "while you were down"], agent="right")
    ours = ours.again()
    poll_until(lambda: ours.json("agent", "show", "left")["status"] == "available", what="it is back")
    poll_until(lambda: "while you were down" in _heard(ours, "left"), 30.0)
    ours.run("wire", "remove", "left", "friends/right").ok()
    assert _wires(ours) == _wires(theirs) == []
    said = json.loads(theirs.run("send", "lab/left", '"after"', "-o", "json").refused(1).out)
    assert said["error"]["code"] == "unknown_member"


def test_the_address_that_wire_list_shows_is_taken_also_once_the_agent_is_shared(nodes: Nodes) -> None:
    ours, theirs = _met(nodes, "federate", "wire:left", "wire:right")
    theirs.run("wire", "add", "right", "lab/left").ok()
    ours.run("agent", "share", "left", "friends").ok()
    _known(theirs, "left")
    ((_, address, _),) = _wires(theirs)
    assert address == "lab/ours/left"
    for number, whom in enumerate((address, "lab/left", f"lab/{ours.id[:10]}/left")):
        theirs.call("custom:tell", [whom, number], agent="right")
    poll_until(lambda: _heard(ours, "left") == [0, 1, 2], what="one session, whichever way it is addressed")
    theirs.run("send", "lab/elsewhere/left", "hi").refused(1, f"lab/{ours.id[:10]}/left")


def test_the_node_of_a_contacts_agent_counts(nodes: Nodes) -> None:
    """Two nodes of the contact have an agent of one name."""
    ours, theirs = _met(nodes, "wire:left", "wire:right")
    second = nodes.join("second", ours.invite())
    _run(second, "left")
    poll_until(lambda: ours.run("agent", "list").ok().out.count("left") == 2, what="both are known")
    theirs.run("wire", "add", "right", "lab/left").refused(1, "2 agents")
    theirs.run("wire", "add", "right", "lab/nowhere/left").refused(1, "nowhere/left")
    assert _wires(theirs) == []
    theirs.run("wire", "add", "right", "lab/second/left").ok()
    theirs.run("wire", "add", "right", f"lab/{ours.id[:10]}/left").ok()
    assert [peer for _, peer, _ in _wires(theirs)] == ["lab/ours/left", "lab/second/left"]
    theirs.run("call", "custom:tell", '["lab/left", "to whom?"]', "--agent", "right").refused(1, "lab/second/left")
    theirs.run("wire", "remove", "right", "lab/left").refused(1, "lab/second/left")
    theirs.call("custom:tell", ["lab/second/left", "you"], agent="right")
    poll_until(lambda: _heard(second, "left") == ["you"])
    theirs.run("wire", "remove", "right", f"lab/{second.id[:10]}/left").ok()
    assert _wires(theirs) == [("right", "lab/ours/left", "standing")]


def test_who_is_a_contact_no_more_notices_and_both_sides_see_the_wire_wait(nodes: Nodes) -> None:
    ours, theirs = _met(nodes, "federate", "wire:left", "wire:right")
    ours.run("agent", "share", "left", "friends").ok()
    _known(theirs, "left")
    theirs.run("wire", "add", "right", "lab/left").ok()
    ours.run("contact", "remove", "friends").ok()
    poll_until(lambda: "no contact" in theirs.json("contact", "show", "lab")["link"], what="the other side notices")
    theirs.run("wire", "add", "right", "lab/left").refused(1, "no contact", "skerry contact check lab")
    checked = theirs.run("contact", "check", "lab")
    assert checked.code == 1
    assert "skerry contact invite" in checked.out.splitlines()[-1]
    assert "left" in theirs.run("agent", "list").ok().out
    assert not any(agent["reachable"] for agent in theirs.json("agent", "list")["agents"] if agent["contact"])
    poll_until(lambda: _wires(theirs) == [("right", "lab/ours/left", "waiting")], what="the wire waits there")
    poll_until(lambda: [state for _, _, state in _wires(ours)] == ["waiting"], what="and here")
    for node in (ours, theirs):
        assert "no contact" in node.json("wire", "list")["wires"][0]["detail"]
    ticket = ours.json("contact", "invite", "friends", "--allow", "wire:left", "--allow", "federate")["ticket"]
    theirs.run("contact", "accept", ticket, "--name", "lab", "--allow", "wire:right").ok()
    _linked(theirs, "lab")
    for node in (ours, theirs):
        poll_until(lambda: [state for _, _, state in _wires(node)] == ["standing"], ROUND_S, what="it stands again")  # noqa: B023
    theirs.call("custom:tell", ["lab/left", "again"], agent="right")
    poll_until(lambda: _heard(ours, "left") == ["again"])


def test_a_wire_with_who_is_no_contact_is_taken_away_without_a_word_to_them(nodes: Nodes) -> None:
    ours, theirs = _met(nodes, "wire:left", "wire:right")
    theirs.run("wire", "add", "right", "lab/left").ok()
    ours.run("contact", "remove", "friends").ok()
    ((_, address, _),) = _wires(ours)
    ours.run("wire", "remove", "left", address).ok()
    assert _wires(ours) == []
    theirs.run("wire", "remove", "right", "lab/left").refused(1, "gone on this side")
    assert _wires(theirs) == []


def test_inproc_is_this_very_node(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    _run(alpha, "left")
    _run(alpha, "other")
    _run(beta, "right")
    _known(alpha, "right")
    (alpha.home / "contacts.toml").write_text('[contacts]\nhome = "inproc"\n')
    poll_until(lambda: "home" in alpha.run("contact", "list").ok().out, what="the entry is taken")
    alpha.run("send", "home/right", "one").refused(1, "no agent")
    alpha.run("send", "home/beta/right", "one").refused(1, "is this very node", "NODE/AGENT")
    alpha.run("send", "home/left", "one").ok()
    alpha.run("send", "home/alpha/left", "two").ok()
    poll_until(lambda: _heard(alpha, "left") == ["one", "two"])
    alpha.run("wire", "add", "left", "home/other").ok()
    assert ("left", "alpha/other", "standing") in _wires(alpha)
    alpha.run("wire", "remove", "left", "home/other").ok()
    assert _wires(alpha) == []


def test_a_contact_with_the_right_writes_without_a_wire(nodes: Nodes) -> None:
    ours, theirs = _met(nodes, "federate", "inject:left")
    ours.run("agent", "share", "left", "friends").ok()
    poll_until(lambda: "left" in theirs.run("agent", "list").ok().out)
    theirs.run("send", "lab/left", '{"a": 1}').ok()
    poll_until(lambda: _heard(ours, "left") == [{"a": 1}])
    assert ours.call("custom:senders", agent="left") == ["friends/theirs"]


def test_two_formations_of_one_machine_meet_over_a_unix_socket(nodes: Nodes) -> None:
    """Both run as one user: that makes neither the other's owner."""
    ours = nodes.up("ours", "--listen", f"uds://{nodes.home('ours.sock')}", "--listen", "127.0.0.1:0")
    theirs = nodes.up("theirs", "--listen", f"uds://{nodes.home('theirs.sock')}")
    assert ours.listen.startswith("127.0.0.1:")
    assert theirs.listen.startswith("uds:///")
    for node, other, name, right in ((ours, theirs, "friends", "wire:left"), (theirs, ours, "lab", "wire:right")):
        formation = other.json("formation", "show")["id"]
        address = f"uds://{nodes.home(f'{other.name}.sock')}"
        node.run("contact", "add", name, address, "--formation", formation, "--allow", right).ok()
    for node, name in ((ours, "friends"), (theirs, "lab")):
        _linked(node, name)
    assert "all is well" in ours.run("contact", "check", "friends").ok().out
    ours.run("contact", "add", "nobody", f"uds://{nodes.home('nobody.sock')}", "--formation", "ab" * 32).ok()
    said = ours.run("contact", "check", "nobody", "-o", "json").json
    assert not said["ok"]
    assert "nobody listens" in said["checks"][-1]["detail"]
    _run(ours, "left")
    _run(theirs, "right")
    theirs.run("wire", "add", "right", "lab/left").ok()
    theirs.call("custom:tell", ["lab/left", "over a socket"], agent="right")
    poll_until(lambda: _heard(ours, "left") == ["over a socket"])
    assert ours.call("custom:senders", agent="left") == ["friends/theirs/right"]


def test_an_entry_of_one_line_leads_over_ipv6_and_over_a_unix_socket(nodes: Nodes) -> None:
    """As somebody writes it into contacts.toml, where it is read without a restart; it gives no right."""
    ours = nodes.up("ours")
    six = nodes.up("six", "--listen", "[::1]:0")
    near = nodes.up("near", "--listen", f"uds://{nodes.home('near.sock')}")
    _run(ours, "left")
    formation = ours.json("formation", "show")["id"]
    lines = ["[contacts]"]
    for node, name in ((six, "six"), (near, "near")):
        _run(node, "right")
        node.run("contact", "add", "ours", f"tcp://{ours.listen}", "--formation", formation, "--allow", "wire:right").ok()
        place = f"tcp://{node.id}@{node.listen}" if name == "six" else f"uds://{node.id}@{nodes.home('near.sock')}"
        lines.append(f'{name} = "{place}"')
    assert "@[::1]:" in lines[1]
    (ours.home / "contacts.toml").write_text("\n".join(lines) + "\n")
    for node, name in ((six, "six"), (near, "near")):
        poll_until(lambda name=name: name in [one["name"] for one in ours.json("contact", "list")["contacts"]], what="the file is read")  # type: ignore[misc]
        assert ours.json("contact", "show", name)["allow"] == []
        assert "all is well" in ours.run("contact", "check", name).ok().out
        ours.run("wire", "add", "left", f"{name}/right").ok()
        ours.call("custom:tell", [f"{name}/right", f"hello {name}"], agent="left")
        poll_until(lambda node=node, name=name: _heard(node, "right") == [f"hello {name}"])  # type: ignore[misc]
