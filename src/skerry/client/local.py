"""The way to the mesh through the node of this machine: its own socket, which only the user that it runs as can use.

The rule: who is at the other end is proved both ways, here by the operating system.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.transports import RealNetwork
from skerry.client.here import SystemClock, SystemRandom
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.identity.keys import KeyPair, parse_id

CONNECT_TIMEOUT_S = 5.0


class LocalWay:
    """One connection to the node that runs on `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._links: Links | None = None
        self._link: Link | None = None

    async def open(self) -> None:
        ready = _ready(self._home)
        key = KeyPair.from_seed(os.urandom(32))  # of this connection alone: the socket says whose it is
        self._links = Links(key, network=RealNetwork(key), clock=SystemClock(), random=SystemRandom(), household=_Guest())
        try:
            self._link = await self._links.dial(
                f"uds://{ready['socket']}", expected=parse_id(ready["node_id"]), timeout_s=CONNECT_TIMEOUT_S
            )
        except Unreachable as error:
            raise Unreachable(f"no node runs on the home {self._home}", hint=_START) from error

    async def link(self) -> Link:
        if self._link is None:
            raise Unreachable("this mesh is not connected", hint="use it as `async with skerry.connect() as mesh`")
        return self._link

    async def has_another(self, lost: Link) -> bool:
        """There is one node on this machine."""
        return False

    async def close(self) -> None:
        if self._links is not None:
            await self._links.close()
        self._link = None


def _ready(home: Path) -> dict[str, str]:
    try:
        ready = json.loads((home / "run" / "ready.json").read_text())
        return {"socket": str(ready["socket"]), "node_id": str(ready["node_id"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise Unreachable(f"no node runs on the home {home}", hint=_START) from None


class _Guest:
    """The household of a client: it shows nothing, answers nothing, and talks to one node that it knows."""

    def credentials(self) -> Credentials:
        return Credentials()

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        if not peer.same_owner:
            raise ProtocolError("the socket belongs to another user", code=Code.WRONG_IDENTITY, hint="use the home of a node of yours")

    def is_node(self, peer: Peer) -> bool:
        return False

    async def serve(self, served: Served) -> Body:
        raise Refused("a client answers no calls", code=Code.UNKNOWN_VERB)

    def link_up(self, link: Link) -> None:
        """Nothing follows."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows: calls under way hear of it."""


_START = "start one: `skerry up`, or name its home: --home DIR"
