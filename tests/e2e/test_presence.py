"""Who is there, with real processes: killed, ended in order, stopped for a moment, away."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.support import poll_until
from tests.support.nodes import Node, Nodes

AGENTS = Path(__file__).with_name("agents.py")
KNOWN_S = 5.0  # issue 5


def _presence(by: Node, of: Node) -> str:
    return by.sees()[of.id].presence


def _all_see(others: list[Node], of: Node, *states: str) -> bool:
    return all(_presence(by, of) in states for by in others)


def test_a_node_that_is_killed_is_gone_for_all_others_within_five_seconds_and_comes_back(nodes: Nodes) -> None:
    alpha, beta, *rest = nodes.mesh("alpha", "beta", "gamma", "delta", "epsilon")
    others = [alpha, *rest]
    beta.run("agent", "run", f"{AGENTS}:Greeter").ok()
    for node in others:
        node.wait_offered("custom:greet")
    poll_until(lambda: all(_all_see([n for n in nodes.all if n is not node], node, "alive") for node in nodes.all), what="all are there")
    beta.kill()
    poll_until(lambda: _all_see(others, beta, "gone"), KNOWN_S, what="all know that it is gone")
    for node in others:
        assert "custom:greet" not in node.status().capabilities
        assert node.sees()[alpha.id].presence == "alive"
    alpha.run("call", "custom:greet", '"Ada"').refused(1, "custom:greet", "on beta, which is gone")
    table = alpha.run("node", "list").ok().out
    assert next(line for line in table.splitlines() if line.startswith("beta")).split()[4] == "gone"
    assert "gone" in alpha.run("status").ok().out
    beta.again()
    poll_until(lambda: _all_see(others, beta, "alive"), 40.0, what="it is back")
    for node in others:
        node.wait_offered("custom:greet")
    assert alpha.call("custom:greet", "Ada") == "Hello, Ada!"


def test_a_node_that_ends_in_order_is_away(nodes: Nodes) -> None:
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    beta.run("agent", "run", f"{AGENTS}:Greeter").ok()
    alpha.wait_offered("custom:greet")
    assert beta.end() == 0
    poll_until(lambda: _all_see([alpha, gamma], beta, "away"), 2.0, what="both heard it")
    assert "custom:greet" not in alpha.status().capabilities


def test_a_process_that_stops_for_two_seconds_again_and_again_is_never_gone(nodes: Nodes) -> None:
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    poll_until(lambda: _all_see([alpha, gamma], beta, "alive"))
    seen: set[str] = set()

    def watched(seconds: float) -> None:
        ends = time.monotonic() + seconds

        def over() -> bool:
            seen.update(_presence(by, beta) for by in (alpha, gamma))
            return time.monotonic() > ends

        poll_until(over, seconds + 5)

    for _ in range(3):
        os.kill(beta.process.pid, signal.SIGSTOP)
        try:
            watched(2.0)
        finally:
            os.kill(beta.process.pid, signal.SIGCONT)
        watched(1.0)
    assert seen <= {"alive", "suspect"}
    poll_until(lambda: _all_see([alpha, gamma], beta, "alive"), what="it has refuted all doubt")
    assert _all_see([beta], alpha, "alive", "suspect")


def test_a_lid_that_closes_is_said_and_no_crash(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    poll_until(lambda: _presence(alpha, beta) == "alive")
    assert beta.json("node", "away")["told"] == 1
    poll_until(lambda: _presence(alpha, beta) == "away", 2.0)
    assert _presence(beta, beta) == "away"
    assert "is here again; 1 nodes" in beta.run("node", "back").ok().out
    poll_until(lambda: _presence(alpha, beta) == "alive", 2.0)
