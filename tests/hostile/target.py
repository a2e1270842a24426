"""What both sides of the siege need to know of the node, and connections to it from many addresses of this machine.

Loopback has sixteen million addresses: those who besiege come from some, honest ones from others, as they would from the network.
"""

from __future__ import annotations

import asyncio
import os
import resource
import ssl
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from skerry.channel.address import parse_address
from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.transports import RealNetwork
from skerry.client.here import SystemClock, SystemRandom
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.grants import Role, issue, read_grant
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.node.home import FileKeyring
from skerry.ports import ProtocolFactory


@dataclass(frozen=True, slots=True)
class Target:
    """A node under siege. `root`: its formation's key (hex), with which members are made here."""

    mesh: str
    socket: str
    http: str
    node: str
    root: str

    @classmethod
    def of(cls, home: Path, ready: dict[str, str]) -> Target:
        root = FileKeyring(home).load("root")
        assert root is not None, "the node founded its formation"
        return cls(f"tcp://{ready['listen']}", f"uds://{ready['socket']}", ready["http"], ready["node_id"], root.hex())

    def plain(self) -> dict[str, str]:
        return asdict(self)

    def place(self) -> tuple[str, int]:
        address = parse_address(self.mesh)
        return address.host, address.port


class Members:
    """Makes keys that the node's formation has let in."""

    def __init__(self, target: Target) -> None:
        self._root = KeyPair.from_seed(bytes.fromhex(target.root))
        self._operator = KeyPair.from_seed(os.urandom(32))
        stamp = stamp_at(int(time.time() * 1000))
        self._chain = read_grant(
            issue(self._root, formation=self._root.public, subject=self._operator.public, role=Role.OPERATOR, stamp=stamp)
        )

    def make(self) -> tuple[KeyPair, bytes]:
        """A key and its grant, as a client's."""
        key = KeyPair.from_seed(os.urandom(32))
        stamp = stamp_at(int(time.time() * 1000))
        said = issue(self._operator, formation=self._root.public, subject=key.public, role=Role.CLIENT, stamp=stamp, chain=self._chain)
        return key, said.signed


class From(RealNetwork):
    """The real network, dialled from one of this machine's addresses."""

    def __init__(self, key: KeyPair, address: str, context: ssl.SSLContext) -> None:
        super().__init__(key)
        self._from = address
        self._context = context

    async def dial(self, address: str, factory: ProtocolFactory, *, timeout_s: float) -> asyncio.Protocol:
        parsed = parse_address(address)
        if parsed.scheme == "uds":
            return await super().dial(address, factory, timeout_s=timeout_s)
        async with asyncio.timeout(timeout_s):
            _, protocol = await asyncio.get_running_loop().create_connection(
                factory, parsed.host, parsed.port, ssl=self._context, server_hostname="skerry", local_addr=(self._from, 0)
            )
        return protocol


class Guest:
    """The household of a client that answers nothing."""

    def __init__(self, grant: bytes) -> None:
        self._grant = grant

    def credentials(self) -> Credentials:
        return Credentials(self._grant)

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        """The dialler compares the key; that is enough here."""

    def is_node(self, peer: Peer) -> bool:
        return False

    async def serve(self, served: Served) -> Body:
        raise Refused("a client answers no calls", code=Code.UNKNOWN_VERB)

    def link_up(self, link: Link) -> None:
        """Nothing follows."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows."""


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def links_of(key: KeyPair, grant: bytes, address: str, context: ssl.SSLContext) -> Links:
    return Links(key, network=From(key, address, context), clock=SystemClock(), random=SystemRandom(), household=Guest(grant))


def all_files() -> None:
    """As many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
