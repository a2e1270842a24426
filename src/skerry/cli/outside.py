"""What `skerry up` opens to other formations: the public listener where one is wanted, and the pulls from seeds.

The rule: a node that was not told of a seed or a public address opens and asks nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from skerry.channel.address import parse_address
from skerry.channel.weburl import read_place
from skerry.gateway.public import PublicDoor
from skerry.node.config import Config
from skerry.node.federating import Federating, NoLists
from skerry.node.node import Node
from skerry.records.abroad import Abroad, Shared


class Outside:
    """One node's doings outside its formation, over HTTP."""

    def __init__(self, node: Node, config: Config, *, tls: Callable[[], ssl.SSLContext]) -> None:
        shared = Shared(node.replica, node.ports.store, node.roster, lists=NoLists(), believed=lambda a: node.trust.standing(a).belongs)
        self._node = node
        self._config = config
        self.federating = Federating(node, shared=shared, contacts=Abroad(node.ports.store), seeds=config.seeds)
        self._door: PublicDoor | None = None
        if config.public:
            self._door = PublicDoor(node, self.federating, config.public, tls=tls, behind_proxy=bool(config.public_url))
        self.ready: dict[str, Any] = {}  # what the ready line says of it

    async def open(self) -> None:
        """Raises UsageError where the public listener can't be opened."""
        if self._door is not None:
            bound = self._node.settings.advertised(f"tcp://{await self._door.open()}")[0]
            url = self._config.public_url or f"{self._door.scheme}://{parse_address(bound).host_port}"
            self.ready = {"public": url}
            place = read_place(url)
            if place.scheme == "https":
                self.federating.manager.announced = [f"https://{self._node.key.public.hex()}@{place.authority}{place.path}"]
        self.federating.start()

    async def close(self) -> None:
        await self.federating.close()
        if self._door is not None:
            await self._door.close()
