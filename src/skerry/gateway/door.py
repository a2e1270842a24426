"""The HTTP door of a node, for programs of this machine.

The rule: it binds loopback addresses alone, and wants its token.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from skerry.errors import UsageError
from skerry.gateway.late import LateDoor

if TYPE_CHECKING:
    from fastapi import FastAPI

    from skerry.gateway.server import Server
    from skerry.node.node import Node


class HttpDoor(LateDoor):
    """One node's door for HTTP on loopback."""

    key = "http"
    what = "the HTTP door"

    def __init__(self, node: Node, *, host: str, port: int, token: str, open_without_token: bool = False) -> None:
        super().__init__(node, host=host, port=port)
        self._token = None if open_without_token else token

    def _check(self, bound: str, address: str) -> None:
        if not ipaddress.ip_address(bound).is_loopback:
            raise UsageError(
                f"the HTTP door opens on loopback only, and {address} is not",
                hint="use 127.0.0.1; other machines reach this mesh through a node of their own",
            )

    def _load(self) -> tuple[FastAPI, Server]:
        from skerry.gateway.app import make_app
        from skerry.gateway.server import make_server

        hosts = {f"[{host}]" if ":" in host else host for host in (self._host, self._bound)}
        app = make_app(self._node, token=self._token, hosts=hosts)
        return app, make_server(app)
