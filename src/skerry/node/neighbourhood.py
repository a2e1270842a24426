"""Who is on this node's local network: a member that moved is found again, and the DHT of others is entered.

The rule: what is heard is a claim. A member that is dialled for it proves its key, and nobody else is dialled at all.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from skerry.channel.address import Address, parse_address, parse_host_port
from skerry.discovery.mdns import dht_entry
from skerry.errors import SkerryError
from skerry.identity.keys import short
from skerry.surroundings import LanPeer

if TYPE_CHECKING:
    from skerry.node.node import Node

KEPT_MAX = 256
log = logging.getLogger(__name__)


class Neighbourhood:
    """The local network of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lan = node.ports.lan
        self._here: OrderedDict[bytes, LanPeer] = OrderedDict()

    async def start(self) -> None:
        places = map(parse_address, self._node.addresses())
        addresses = [(place.host, place.port) for place in places if place.scheme == "tcp"]
        if self._lan is None or not addresses:
            return
        dht = self._node.explorer.dht_address
        ours = LanPeer(self._node.key.public, self._node.formation, tuple(addresses), parse_host_port(dht).port if dht else 0)
        try:
            await self._lan.open(ours, self.found)
        except SkerryError as error:
            self._node.warnings["mdns"] = error.message
            log.warning("%s", error)

    async def close(self) -> None:
        if self._lan is not None:
            await self._lan.close()

    def found(self, peer: LanPeer) -> None:
        """Somebody is here."""
        if peer.node == self._node.key.public or self._here.get(peer.node) == peer:
            return
        log.info("%s is on the local network", short(peer.node))
        self._here[peer.node] = peer
        if len(self._here) > KEPT_MAX:
            self._here.popitem(last=False)
        if peer.formation == self._node.formation:
            self._node.keeper.look()
            self._node.keeper.kick(peer.node)
        if place := dht_entry(peer):
            self._node.explorer.enter([place])

    def addresses(self, node: bytes) -> tuple[str, ...]:
        """Where a node says that it is on the local network."""
        peer = self._here.get(node)
        return tuple(str(Address("tcp", *place)) for place in peer.addresses) if peer is not None else ()

    def dht_places(self) -> list[str]:
        """Where the DHT is entered through others on the local network."""
        return [place for place in map(dht_entry, self._here.values()) if place]
