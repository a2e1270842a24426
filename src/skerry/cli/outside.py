"""What `skerry up` opens to other formations: the public listener, where one is wanted.

The rule: a node that was not told of a public address opens nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from skerry.channel.address import parse_address
from skerry.channel.weburl import read_place
from skerry.gateway.public import PublicDoor
from skerry.node.config import Config
from skerry.node.node import Node


class Outside:
    """One node's door to the outside of its formation, over HTTP."""

    def __init__(self, node: Node, config: Config, *, tls: Callable[[], ssl.SSLContext]) -> None:
        self._node = node
        self._config = config
        self._door: PublicDoor | None = None
        if config.public and node.federating is not None:
            self._door = PublicDoor(node, node.federating, config.public, tls=tls, behind_proxy=bool(config.public_url))
        self.ready: dict[str, Any] = {}  # what the ready line says of it

    async def open(self) -> None:
        """Raises UsageError where the public listener can't be opened."""
        if self._door is not None and self._node.federating is not None:
            bound = self._node.settings.advertised(f"tcp://{await self._door.open()}")[0]
            url = self._config.public_url or f"{self._door.scheme}://{parse_address(bound).host_port}"
            self.ready = {"public": url}
            place = read_place(url)
            if place.scheme == "https":
                self._node.federating.manager.announced = [f"https://{self._node.key.public.hex()}@{place.authority}{place.path}"]

    async def close(self) -> None:
        if self._door is not None:
            await self._door.close()
