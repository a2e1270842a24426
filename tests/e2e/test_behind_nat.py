"""Nodes behind NATs of their own, with real processes in network namespaces: nobody can dial them, and everybody reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import poll_until
from tests.support.namespaces import INSIDE, Sea, why_not
from tests.support.nodes import Node, Nodes

AGENTS = Path(__file__).with_name("agents.py")
DESKS = Path(__file__).with_name("desks.py")
PORT = 7420
FOUND_S = 30.0  # to hear of each other, to be judged, and to dial over a relay
REPAIRED_S = 15.0
REASON = why_not()
pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(180)]


def spawn(nodes: Nodes, inside: tuple[str, ...], name: str, *command: str, home: Path | None = None) -> Node:
    options = ("--name", name, "--listen", f"0.0.0.0:{PORT}", "--http", "127.0.0.1:7421", "-o", "json")
    return nodes.spawn(*command, *options, name=name, prefix=inside, home=home)


class Bay:
    """alpha and beta on a public network, gamma and delta behind a NAT each."""

    def __init__(self, nodes: Nodes, sea: Sea) -> None:
        self.nodes = nodes
        self.sea = sea
        self.inside = {
            **{name: sea.host(name) for name in ("alpha", "beta")},
            **{name: sea.host_behind_nat(name) for name in ("gamma", "delta")},
        }
        self.alpha = self._spawn("alpha", "up").wait_ready()
        ticket = self.alpha.invite("--uses", "3")
        started = [self._spawn(name, "join", ticket) for name in ("beta", "gamma", "delta")]
        self.beta, self.gamma, self.delta = (node.wait_ready() for node in started)

    def _spawn(self, name: str, *command: str, home: Path | None = None) -> Node:
        return spawn(self.nodes, self.inside[name], name, *command, home=home)

    def again(self, node: Node) -> Node:
        return self._spawn(node.name, "up", home=node.home).wait_ready()


@pytest.fixture
def sea(nodes: Nodes) -> Iterator[Sea]:
    sea = Sea()
    try:
        yield sea
        for node in nodes.all:
            node.end()  # while their network is there
    finally:
        sea.close()


@pytest.fixture
def bay(nodes: Nodes, sea: Sea) -> Bay:
    return Bay(nodes, sea)


def way(here: Node, there: Node) -> str:
    """How the link goes, as the node says it."""
    return here.sees()[there.id].path


def doctor(here: Node, there: Node) -> dict[str, str]:
    return {check["what"]: check["detail"] for check in here.json("doctor", there.name)["checks"]}


def test_two_nodes_behind_nats_call_each_other_over_a_relay_that_may_go(bay: Bay) -> None:
    alpha, beta, gamma, delta = bay.alpha, bay.beta, bay.gamma, bay.delta
    sea = bay.sea
    assert not sea.reaches("alpha", sea.address("gamma"), PORT), "the NAT lets nobody in"
    assert not sea.reaches("delta", sea.address("gamma"), PORT)
    assert sea.reaches("gamma", sea.address("alpha"), PORT)
    for here, there in ((gamma, delta), (delta, gamma)):
        poll_until(lambda: way(here, there).startswith("via "), FOUND_S, what=f"{here.name} has a way to {there.name}")  # noqa: B023
    assert way(alpha, gamma) == f"direct, from {sea.address('gamma')}", "who is behind a NAT dials those that can be dialled"
    assert gamma.sees()[alpha.id].path == f"direct tcp://{sea.address('alpha')}:{PORT}"
    reach = {"alpha": "dialable", "beta": "dialable", "gamma": "outbound", "delta": "outbound"}
    poll_until(
        lambda: {info.name: info.reach for info in delta.sees().values()} == reach, FOUND_S, what="all have said how they are reached"
    )
    poll_until(lambda: len(gamma.sees()[gamma.id].addresses) == 3, FOUND_S, what="gamma is reached over two")

    gamma.run("agent", "run", f"{AGENTS}:Greeter").ok()
    delta.wait_offered("custom:greet")
    assert delta.call("custom:greet", "Ada") == "Hello, Ada!"
    long = "x" * 2_000_000
    assert delta.call("custom:greet", long) == f"Hello, {long}!", "what is large goes over a second connection through the relay"

    told = doctor(delta, gamma)
    relay = told["path"].split()[1].rstrip(",")
    assert relay in ("alpha", "beta")
    assert f"tcp://{INSIDE}:{PORT}" in told["path"], "and it says which straight way does not go"
    assert "via alpha" in (table := delta.run("node", "list").ok().out) or "via beta" in table
    own = {check["what"]: check["detail"] for check in gamma.json("doctor")["checks"]}
    assert "nobody can dial this node" in own["reach"]
    assert "alpha or beta" in own["reach"] or "beta or alpha" in own["reach"]

    used = way(delta, gamma).removeprefix("via ")
    gone, stays = (alpha, beta) if used == "alpha" else (beta, alpha)
    gone.kill()
    poll_until(lambda: way(delta, gamma) == f"via {stays.name}", REPAIRED_S, what="the other relay has taken over")
    poll_until(lambda: delta.call("custom:greet", "Bob") == "Hello, Bob!", REPAIRED_S, what="it answers again")
    back = bay.again(gone)
    poll_until(lambda: len(gamma.sees()[gamma.id].addresses) == 3, 60.0, what="gamma has two relays again")
    back.wait_linked(stays, gamma, delta, timeout_s=FOUND_S)


def test_letters_go_on_when_relays_are_killed_under_them(bay: Bay) -> None:
    """Both ends are behind NATs. One relay is killed while letters pass, then the other one, so that there is no way; then one is back."""
    gamma, delta = bay.gamma, bay.delta
    gamma.run("agent", "run", f"{DESKS}:Book", "--name", "right").ok()
    delta.run("agent", "run", f"{DESKS}:Book", "--name", "left").ok()
    poll_until(lambda: way(delta, gamma).startswith("via "), FOUND_S, what="they are linked over a relay")
    for here in (gamma, delta):
        poll_until(lambda: len(here.sees()[here.id].addresses) == 3, FOUND_S, what=f"{here.name} has two relays")  # noqa: B023
    poll_until(lambda: "right" in delta.run("agent", "list").ok().out, FOUND_S, what="delta knows the book")
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        delta.call("custom:tell", ["gamma/right", *range(sent, sent + count)], agent="left")
        sent += count

    def heard() -> list[int]:
        return list(gamma.call("custom:heard", agent="right"))

    send(50)
    used = way(delta, gamma).removeprefix("via ")
    first, second = (bay.alpha, bay.beta) if used == "alpha" else (bay.beta, bay.alpha)
    first.kill()
    send(50)
    poll_until(lambda: heard() == list(range(sent)), REPAIRED_S, what="all were heard, over the other relay")
    send(50)
    second.kill()
    send(50)
    poll_until(lambda: not delta.sees()[gamma.id].reachable, REPAIRED_S, what="there is no way")
    told = delta.run("doctor", "gamma")
    assert told.code == 1
    assert "BAD" in told.out
    assert told.out.splitlines()[-1].startswith("-> start ")
    poll_until(lambda: "nobody" in doctor_of(gamma)["reach"], FOUND_S, what="gamma says that it has no relay")
    bay.again(first)
    poll_until(lambda: heard() == list(range(sent)), 60.0, what="all were heard when a relay was back, once each and in order")


def doctor_of(node: Node) -> dict[str, str]:
    return {check["what"]: check["detail"] for check in node.run("doctor", "-o", "json").json["checks"]}


def test_a_contact_that_allows_it_relays_for_two_that_nobody_can_dial(nodes: Nodes, sea: Sea) -> None:
    """xi stands behind a firewall and psi, of its formation, behind a NAT; alpha, of another one, is all that can be dialled."""
    alpha_at, xi_at, psi_at = sea.host("alpha"), sea.host("xi"), sea.host_behind_nat("psi")
    sea.shut("xi", but=("psi",))  # until psi has joined
    alpha = spawn(nodes, alpha_at, "alpha", "up").wait_ready()
    xi = spawn(nodes, xi_at, "xi", "up").wait_ready()
    psi = spawn(nodes, psi_at, "psi", "join", xi.invite()).wait_ready()
    ticket = alpha.json("contact", "invite", "xis", "--allow", "relay")["ticket"]
    xi.run("contact", "accept", ticket, "--name", "alphas").ok()
    sea.shut("xi")
    xi.kill()
    xi = spawn(nodes, xi_at, "xi", "up", home=xi.home).wait_ready()  # it asks at once, and thrice, before it is held for outbound
    for here in (xi, psi):
        poll_until(
            lambda: any(a == f"via:{alpha.id}" for a in here.sees()[here.id].addresses),  # noqa: B023
            60.0,
            what=f"{here.name} says that it is reached over alpha",
        )
    psi.kill()
    assert not sea.reaches("psi", sea.address("xi"), PORT)
    psi = spawn(nodes, psi_at, "psi", "up", home=psi.home).wait_ready()
    poll_until(lambda: way(psi, xi).startswith("via "), FOUND_S, what="psi reaches xi over the contact's node")
    assert f"via {alpha.id[:10]}" in doctor(psi, xi)["path"]
    xi.run("agent", "run", f"{AGENTS}:Greeter").ok()
    psi.wait_offered("custom:greet")
    assert psi.call("custom:greet", "Ada") == "Hello, Ada!"
    assert alpha.sees().keys() == {alpha.id}, "it forwards for them, and knows nothing of them"
