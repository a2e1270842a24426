"""Circles of real nodes whose formations met through a DHT alone."""

from __future__ import annotations

from tests.support.nodes import Node
from tests.support.polling import poll_until

HERE = "127.0.0.0/8"  # a network that strangers may send these nodes to: they all live on loopback
FIND_S = 20.0


def circle(founder: Node, host: Node, agent: str, name: str, *options: str) -> None:
    """`agent` of `host` enters a circle that `founder` founds."""
    founder.run("circle", "create", name, "--open", *options).ok()
    poll_until(lambda: name in [c["name"] for c in host.json("circle", "list")["circles"]], FIND_S, what="its host knows the circle")
    host.run("circle", "enter", name, agent).ok()


def finds(node: Node, query: str, name: str) -> None:
    def found() -> bool:
        return any(c["name"] == name and c["foreign"] for c in node.json("circle", "list", query, "--discover")["circles"])

    poll_until(found, FIND_S, what=f"{node.name} finds the circle {name}")
