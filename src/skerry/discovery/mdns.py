"""The local network through zeroconf: nodes say that they are here, and hear who else is.

A service `_skerry._tcp.local.` says, in clear, to everybody on the link: the node's id, its formation's id, the port and addresses of its
mesh, the port of its part of the DHT where that is open, and the version of this form. Nothing else. What is heard is a claim: whoever is
dialled because of it has to prove that it is that node.

The rule: a packet that says anything else is not heard, and no more than a bounded number of nodes is remembered.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
from collections.abc import Callable, Mapping
from typing import Any

from skerry.channel.address import Address
from skerry.errors import SkerryError, UsageError
from skerry.identity.keys import parse_id
from skerry.surroundings import LanPeer

SERVICE = "_skerry._tcp.local."
VERSION = b"1"
PEERS_MAX = 256  # remembered at once
ADDRESSES_MAX = 4  # of one node
ASK_MS = 2000  # for what a node says of itself
NAME_CHARACTERS = 20  # of the id, as the service's name
log = logging.getLogger(__name__)
Found = Callable[[LanPeer], None]


class ZeroconfLan:
    """This node's part in the local network (`ports.Lan`), on the interfaces with these addresses."""

    def __init__(self, interfaces: list[str]) -> None:
        self._interfaces = interfaces
        self._zeroconf: Any = None
        self._browser: Any = None
        self._found: Found = lambda peer: None
        self._heard: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, ours: LanPeer, found: Found) -> None:
        """Raises UsageError where multicast is not to be had."""
        library: Any = importlib.import_module("zeroconf.asyncio")
        self._found = found
        name = f"{ours.node.hex()[:NAME_CHARACTERS]}.{SERVICE}"
        hosts = [host for host, _ in ours.addresses]
        info = library.AsyncServiceInfo(
            SERVICE,
            name,
            addresses=[ipaddress.ip_address(host).packed for host in hosts],
            port=ours.addresses[0][1],
            properties=properties_of(ours),
            server=f"skerry-{ours.node.hex()[:NAME_CHARACTERS]}.local.",
        )
        try:
            self._zeroconf = library.AsyncZeroconf(interfaces=self._interfaces)
            await self._zeroconf.async_register_service(info, allow_name_change=True)
        except OSError as error:
            await self.close()
            raise UsageError(f"the local network can't be heard: {error}", hint="SKERRY_DISCOVERY_MDNS=false stops it") from error
        self._browser = library.AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._changed])

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        zeroconf, self._zeroconf = self._zeroconf, None
        if self._browser is not None:
            await self._browser.async_cancel()
        if zeroconf is not None:
            await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()

    def _changed(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        if state_change.name == "Removed":
            self._heard.discard(name)
        elif len(self._heard) < PEERS_MAX or name in self._heard:
            self._heard.add(name)
            task = asyncio.get_running_loop().create_task(self._ask(zeroconf, name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, zeroconf: Any, name: str) -> None:
        library: Any = importlib.import_module("zeroconf.asyncio")
        info = library.AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf, ASK_MS):
            return
        peer = read_service(info.properties, info.parsed_addresses(), info.port)
        if peer is None:
            log.debug("what calls itself %s here is no node that we understand", name[:60])
        else:
            self._found(peer)


def dht_entry(peer: LanPeer) -> str:
    """host:port of a peer's part of the DHT, on this local network; "" where it names none. Anybody may say anything here: an address
    that lies elsewhere, or is this machine's own, would have us send packets to a place that nobody of ours named."""
    hosts = [host for host, _ in peer.addresses if _is_local(ipaddress.ip_address(host))]
    return Address("tcp", hosts[0], peer.dht_port).host_port if hosts and peer.dht_port else ""


def _is_local(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    elsewhere = host.is_global or host.is_loopback or host.is_multicast or host.is_unspecified or host.is_reserved
    return host.is_private and not elsewhere


def properties_of(peer: LanPeer) -> dict[str, str]:
    """The fields of a service, as docs/discovery.md lists them."""
    dht = {"dht": str(peer.dht_port)} if peer.dht_port else {}
    return {"v": VERSION.decode(), "node": peer.node.hex(), "formation": peer.formation.hex(), **dht}


def read_service(properties: Mapping[bytes, bytes | None], hosts: list[str], port: int | None) -> LanPeer | None:
    """The node that a service says it is; None where it says something else."""
    if properties.get(b"v") != VERSION or not port or not hosts:
        return None
    try:
        node, formation = (parse_id((properties.get(name) or b"").decode()) for name in (b"node", b"formation"))
        dht = int(properties.get(b"dht") or b"0")
        addresses = tuple((str(ipaddress.ip_address(host)), port) for host in hosts[:ADDRESSES_MAX] if "%" not in host)
    except (SkerryError, ValueError):
        return None
    return LanPeer(node, formation, addresses, dht) if addresses and 0 <= dht < 65536 else None
