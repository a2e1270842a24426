"""Nodes behind NATs of their own, with real processes in network namespaces: nobody can dial them, and everybody reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import poll_until
from tests.support.namespaces import INSIDE, Sea, why_not
from tests.support.nodes import Node, Nodes

AGENTS = Path(__file__).with_name("agents.py")
PORT = 7420
FOUND_S = 30.0  # to hear of each other, to be judged, and to dial over a relay
REPAIRED_S = 15.0
REASON = why_not()
pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(180)]


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
        options = ("--name", name, "--listen", f"0.0.0.0:{PORT}", "--http", "127.0.0.1:7421", "-o", "json")
        return self.nodes.spawn(*command, *options, name=name, prefix=self.inside[name], home=home)

    def again(self, node: Node) -> Node:
        return self._spawn(node.name, "up", home=node.home).wait_ready()


@pytest.fixture
def bay(nodes: Nodes) -> Iterator[Bay]:
    sea = Sea()
    try:
        yield Bay(nodes, sea)
        for node in nodes.all:
            node.end()  # while their network is there
    finally:
        sea.close()


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
