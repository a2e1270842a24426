"""What a real agent's process may ask of its node: three verbs, and not one of the table."""

from __future__ import annotations

from pathlib import Path

from skerry.agents.verbs import WORKER_VERBS
from skerry.node.operations import VERBS
from tests.support.nodes import Nodes


def test_a_worker_may_ask_no_verb_of_the_table(nodes: Nodes) -> None:
    (alpha,) = nodes.mesh("alpha")
    alpha.run("agent", "run", f"{Path(__file__).with_name('prober.py')}:Prober", "--name", "prober").ok()
    codes = alpha.call("custom:ask", [*sorted(VERBS), *sorted(WORKER_VERBS)], agent="prober")
    assert {verb for verb, code in codes.items() if code == "not_granted"} == set(VERBS)
    assert {codes[verb] for verb in WORKER_VERBS} == {"decode"}, "its own are read, and what was asked is nothing"
