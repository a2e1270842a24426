"""What `skerry status --watch` draws, at the width that a terminal has."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from skerry.agents.verbs import AgentInfo
from skerry.cli.watch import picture
from skerry.node.verbs import NodeInfo, StatusReply

ID = "7364f295a0" * 6 + "7364"


def _status(*nodes: NodeInfo, warnings: list[str] | None = None) -> StatusReply:
    return StatusReply(
        id=ID,
        name="a-node-with-a-name-of-some-length",
        formation=ID,
        role="operator",
        state="valid",
        listen="tcp://127.0.0.100:7420, tcp://127.0.0.200:7420",
        socket="/run/x",
        http="127.0.0.1:7421",
        version="0.1.0",
        pid=1,
        started_at=0,
        grant_expires_at=0,
        nodes=list(nodes),
        agents_local=1,
        agents_known=2,
        capabilities=[],
        connections=3,
        warnings=warnings or [],
    )


def _drawn(status: StatusReply, agents: list[AgentInfo], *, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(picture(status, agents, at="12:00:00"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


NODES = [
    NodeInfo(ID, "alpha", "operator", "valid", "self", reachable=True, agents=1),
    NodeInfo(ID, "beta-in-the-attic-behind-the-boxes", "member", "lapsed", "the peer said nothing for 14 s, and more", reachable=False),
]
AGENTS = [
    AgentInfo(
        "1", "greeter", ID, "alpha", "python", "available", ["custom:greet", "custom:greet-async", "custom:count", "inference:org/a-model"]
    ),
    AgentInfo("2", "lost", ID, "beta", "gguf", "available", ["inference:llama"], reachable=False),
    AgentInfo("3", "broken", ID, "alpha", "onnx", "failed", [], detail="the model is no ONNX"),
]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    lines = _drawn(
        _status(*NODES, warnings=["the disk is full: records are kept in memory until there is room again, " * 2]), AGENTS, width=width
    )
    assert max(map(len, lines)) <= width


def test_80_columns_show_what_matters() -> None:
    text = "\n".join(_drawn(_status(*NODES, warnings=["a clock is off"]), AGENTS, width=80))
    for word in (
        "alpha",
        "beta-in-the-attic",
        "self",
        "lapsed",
        "the peer said",
        "greeter",
        "custom:greet",
        "failed",
        "the model is",
        "q ends",
    ):
        assert word in text
    assert "available?" in text  # what is not reachable is only what it last said
    assert "warning: a clock is off" in text


def test_a_node_alone_says_so() -> None:
    assert "no agents" in "\n".join(_drawn(_status(NODES[0]), [], width=80))
