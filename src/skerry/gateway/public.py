"""The public listener of a node: what other formations, and strangers, may ask over HTTP. Off unless `--public` says where.

It speaks TLS under the node's own certificate, so that who knows the node's id knows that it is this node; plain HTTP on a loopback
address alone, for a proxy of this machine or for trying out.

The rule: it serves `/federation` and nothing of the owner's door; nothing crosses a network in clear.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from skerry.channel.address import parse_host_port
from skerry.errors import UsageError
from skerry.gateway.late import LateDoor

if TYPE_CHECKING:
    from fastapi import FastAPI

    from skerry.gateway.server import Server
    from skerry.node.federating import Federating
    from skerry.node.node import Node


class PublicDoor(LateDoor):
    """The listener at `url` (as `weburl.read_public` gives it). `tls` makes the context of the node's own certificate."""

    key = "public"
    what = "the public listener"

    def __init__(
        self, node: Node, federating: Federating, url: str, *, tls: Callable[[], ssl.SSLContext], behind_proxy: bool = False
    ) -> None:
        self.scheme, _, place = url.partition("://")
        address = parse_host_port(place)
        super().__init__(node, host=address.host, port=address.port)
        self._federating = federating
        self._tls = tls
        self._behind_proxy = behind_proxy

    def _check(self, bound: str, address: str) -> None:
        if self.scheme == "http" and not ipaddress.ip_address(bound).is_loopback:
            raise UsageError(f"{address} is not on loopback, and would be asked in clear", hint="write https://HOST:PORT")

    def _load(self) -> tuple[FastAPI, Server]:
        from skerry.gateway.federation import make_public_app
        from skerry.gateway.server import make_server

        app = make_public_app(self._node, self._federating, behind_proxy=self._behind_proxy)
        return app, make_server(app, tls=self._tls() if self.scheme == "https" else None)
