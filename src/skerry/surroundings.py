"""Those around a node for whom nobody vouches, as the rest sees them: a distributed hash table, the local network, servers of HTTP. Ports,
as in `ports.py`.

The rule: whatever comes from here is a claim, and whoever acts on it has to have it proved first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Dht(Protocol):
    """A distributed hash table of 20-byte keys, among nodes that nobody vouches for: all that it says is a claim."""

    @property
    def address(self) -> str:
        """host:port at which other nodes enter; "" before it is open."""

    async def open(self) -> None:
        """Raises UsageError(port_in_use | bad_input) where its address can't be bound."""

    async def close(self) -> None: ...

    def enter(self, places: list[str]) -> None:
        """Get to know these nodes (host:port), and through them all others."""

    def announce(self, key: bytes, port: int) -> None:
        """Say that something is at this host and that port, again and again until `withdraw`."""

    def withdraw(self, key: bytes) -> None:
        """Say it no more; what was said is forgotten within the hour."""

    async def find(self, key: bytes, *, timeout_s: float) -> list[str]:
        """host:port of those who say that they are there: at most 64, soon after the first is known; empty where nobody is in time."""

    async def put(self, seed: bytes, value: bytes, *, salt: bytes = b"") -> bool:
        """Keep a value of up to 900 bytes under the Ed25519 key of that seed; whether any node took it."""

    async def get(self, public: bytes, *, salt: bytes = b"", timeout_s: float) -> bytes | None:
        """The newest value that was kept under a key, its signature checked."""


@dataclass(frozen=True, slots=True)
class LanPeer:
    """A node as it says of itself on the local network: where its mesh is (host and port each), and the port of its DHT (0: none)."""

    node: bytes
    formation: bytes
    addresses: tuple[tuple[str, int], ...]
    dht_port: int = 0


class Lan(Protocol):
    """The local network: who is here says so to all who listen, and nobody vouches for it."""

    async def open(self, ours: LanPeer, found: Callable[[LanPeer], None]) -> None:
        """Say who we are, and hear of others. Raises UsageError where that can't be."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpGet:
    """One GET, of somebody whom nothing is believed.

    scheme   "https" or "http"; `either`: where TLS is not spoken there, plain HTTP will do (loopback alone)
    node     whose key the certificate must show; empty: whoever answers
    judge    which of the addresses of `host` are dialled: these and no others; raises Refused where none may be
    """

    scheme: str
    host: str
    port: int
    authority: str  # as the Host header has it
    target: str  # path and query
    headers: dict[str, str]
    judge: Callable[[str, list[str]], list[str]]
    node: bytes = b""
    either: bool = False


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """`headers` in lower case; of those that came twice the last."""

    status: int
    headers: dict[str, str]
    body: bytes


class Http(Protocol):
    async def get(self, request: HttpGet, *, timeout_s: float, size_bytes_max: int) -> HttpAnswer:
        """One answer, redirects not followed. Raises Unreachable, Refused (address, certificate), ProtocolError (no HTTP, too large)."""
        ...
