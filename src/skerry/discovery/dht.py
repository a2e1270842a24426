"""The DHT through libtorrent: BEP 5 for who is where, BEP 44 for small signed values.

Only the DHT of the library is used: no torrents, no connections of peers, no discovery in the local network, no port mappings. The library
runs in threads of its own and is heard by its alerts; it wakes the event loop, nobody polls. Nodes are entered where we were told to and
nowhere else: the library's own list of public ones is emptied before its session begins.

The rule: no packet leaves for a place that nobody named, and what others say here is a claim, bounded in number and size.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skerry.channel.address import Address, parse_host_port
from skerry.channel.reachable import is_loopback
from skerry.errors import Code, UsageError
from skerry.identity.keys import KeyPair
from skerry.ports import Random, jitter

KEY_BYTES = 20
VALUE_BYTES_MAX = 900  # BEP 44 takes 1000, with what CBOR and bencoding put around
FOUND_MAX = 64  # claims of one look-up
GRACE_S = 0.15  # how long others may still answer when one has
AGAIN_FIRST_S = 2.0  # until something is said again, doubling to AGAIN_MOST_S: who begins alone is heard when somebody comes
AGAIN_MOST_S = 900.0  # nodes forget who said nothing for half an hour
PUT_TIMEOUT_S = 10.0
PUT_ENOUGH = 5  # of the 8 nodes that are nearest: then some of them may die
PUT_TRIES = 2
PUT_AGAIN_S = 1.0
GET_FIRST_S = 1.0  # the library waits so long for a node that does not answer before it asks another in its place
OPEN_TIMEOUT_S = 5.0
ALERTS_MAX = 2000  # that may wait in the library
RINGS_BYTES = 4096  # read at once of what it rings with
RATE_BYTES = 64 * 1024  # a second that answers to others may take
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Standing:
    port: int
    wait_s: float
    timer: asyncio.TimerHandle | None = None


class LibtorrentDht:
    """One node of a DHT (`ports.Dht`), at `place` (host:port; port 0: any), entered through `bootstrap`."""

    def __init__(self, place: str, *, bootstrap: tuple[str, ...] = (), random: Random, rate_bytes: int = RATE_BYTES) -> None:
        self._place = parse_host_port(place)
        self._bootstrap = bootstrap
        self._random = random
        self._rate_bytes = rate_bytes
        self._lt: Any = None
        self._session: Any = None
        self._loop = asyncio.get_running_loop()
        self._standing: dict[bytes, _Standing] = {}
        self._finding: dict[bytes, list[Callable[[list[str]], None]]] = {}
        self._getting: dict[tuple[bytes, bytes], list[Callable[[bytes | None, int, bool], None]]] = {}
        self._putting: dict[tuple[bytes, bytes], list[asyncio.Future[int]]] = {}
        self._opening: asyncio.Future[str] | None = None
        self._bell: tuple[socket.socket, ...] = ()
        self.address = ""

    async def open(self) -> None:
        try:
            libtorrent: Any = importlib.import_module("libtorrent")  # when it is first used: it is large
        except ImportError as error:
            raise UsageError("the DHT needs the package libtorrent", hint="pip install libtorrent") from error
        self._lt = libtorrent
        self._opening = self._loop.create_future()
        heard = libtorrent.alert.category_t
        mask = heard.dht_notification | heard.dht_operation_notification | heard.error_notification | heard.status_notification
        settings = settings_of(self._place, bootstrap=self._bootstrap, rate_bytes=self._rate_bytes)
        self._session = libtorrent.session(settings | {"alert_mask": mask})
        self._listen_for_alerts()
        self._drain()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                failure = await self._opening
        except TimeoutError:
            failure = "it did not open in time"
        if failure:
            await self.close()
            told = f"the DHT can't listen at {self._place.host_port}: {failure}"
            raise UsageError(told, code=Code.PORT_IN_USE, hint="choose another with --dht HOST:PORT")
        self.address = f"{self._place.host_port.rpartition(':')[0]}:{self._session.listen_port()}"
        for key in self._standing:
            self._say(key)

    async def close(self) -> None:
        for standing in self._standing.values():
            if standing.timer is not None:
                standing.timer.cancel()
        self._standing.clear()
        held = [self._session] if self._session is not None else []
        self._session = None
        if held:
            held[0].apply_settings({"alert_mask": 0})
            await asyncio.to_thread(held.clear)  # the library's threads end with the last reference, which takes a moment
        for end in self._bell:
            self._loop.remove_reader(end)
            end.close()
        self._bell = ()
        for waiting in self._putting.values():
            for future in waiting:
                future.cancel()

    def enter(self, places: list[str]) -> None:
        for place in places:
            try:
                address = parse_host_port(place)
            except UsageError:
                continue  # somebody's record says nonsense
            if self._session is not None:
                self._session.add_dht_node((address.host, address.port))

    # --- who is where ---------------------------------------------------------------------------------------------------------

    def announce(self, key: bytes, port: int) -> None:
        held = self._standing.get(key)
        if held is not None and held.port == port:
            return
        self.withdraw(key)
        self._standing[key] = _Standing(port, AGAIN_FIRST_S)
        self._say(key)

    def withdraw(self, key: bytes) -> None:
        held = self._standing.pop(key, None)
        if held is not None and held.timer is not None:
            held.timer.cancel()

    def _say(self, key: bytes) -> None:
        standing = self._standing.get(key)
        if standing is None or self._session is None:
            return
        self._session.dht_announce(self._lt.sha1_hash(key), standing.port, 0)
        wait_s = jitter(self._random, standing.wait_s * 0.8, standing.wait_s)
        standing.wait_s = min(standing.wait_s * 2, AGAIN_MOST_S)
        standing.timer = self._loop.call_later(wait_s, self._say, key)

    async def find(self, key: bytes, *, timeout_s: float) -> list[str]:
        if self._session is None:
            return []
        found: dict[str, None] = {}
        first = asyncio.Event()

        def heard(places: list[str]) -> None:
            found.update(dict.fromkeys(places[: FOUND_MAX - len(found)]))
            first.set()

        self._finding.setdefault(key, []).append(heard)
        try:
            self._session.dht_get_peers(self._lt.sha1_hash(key))
            async with asyncio.timeout(timeout_s):
                await first.wait()
                await asyncio.sleep(GRACE_S)
        except TimeoutError:
            pass
        finally:
            self._finding[key].remove(heard)
            if not self._finding[key]:
                del self._finding[key]
        return list(found)

    # --- values ---------------------------------------------------------------------------------------------------------------

    async def put(self, seed: bytes, value: bytes, *, salt: bytes = b"") -> bool:
        if len(value) > VALUE_BYTES_MAX:
            raise UsageError(f"a value of {len(value)} bytes, where a DHT keeps {VALUE_BYTES_MAX}", hint="keep a pointer to it")
        if self._session is None:
            return False
        taken = 0
        for _ in range(PUT_TRIES):
            taken = max(taken, await self._put(seed, value, salt))
            if taken >= PUT_ENOUGH:
                break
            await asyncio.sleep(PUT_AGAIN_S)  # who has just come knows few others yet
        return taken > 0

    async def _put(self, seed: bytes, value: bytes, salt: bytes) -> int:
        """How many nodes took it."""
        if self._session is None:
            return 0
        public = KeyPair.from_seed(seed).public
        done: asyncio.Future[int] = self._loop.create_future()
        self._putting.setdefault((public, salt), []).append(done)
        self._session.dht_put_mutable_item(_expanded(seed), public, value, salt)
        try:
            async with asyncio.timeout(PUT_TIMEOUT_S):
                return await done
        except TimeoutError:
            return 0
        finally:
            self._putting[public, salt].remove(done)
            if not self._putting[public, salt]:
                del self._putting[public, salt]

    async def get(self, public: bytes, *, salt: bytes = b"", timeout_s: float) -> bytes | None:
        ends = self._loop.time() + timeout_s
        value = await self._get(public, salt, min(timeout_s, GET_FIRST_S))
        if value is None and (left_s := ends - self._loop.time()) > 0:  # it waits for the dead: the next goes round them
            value = await self._get(public, salt, left_s)
        return value

    async def _get(self, public: bytes, salt: bytes, timeout_s: float) -> bytes | None:
        if self._session is None:
            return None
        best: tuple[int, bytes | None] = (-1, None)
        first, ended = asyncio.Event(), asyncio.Event()

        def heard(value: bytes | None, number: int, is_last: bool) -> None:
            nonlocal best
            if value is not None and number > best[0]:
                best = (number, value)
                first.set()
            if is_last:
                first.set()
                ended.set()

        self._getting.setdefault((public, salt), []).append(heard)
        try:
            self._session.dht_get_mutable_item(public, salt)
            async with asyncio.timeout(timeout_s):
                await first.wait()
                async with asyncio.timeout(GRACE_S):  # where some that are near have died, the library asks for them for long
                    await ended.wait()
        except TimeoutError:
            pass  # what came until now may do
        finally:
            self._getting[public, salt].remove(heard)
            if not self._getting[public, salt]:
                del self._getting[public, salt]
        return best[1]

    # --- the library ----------------------------------------------------------------------------------------------------------

    def _listen_for_alerts(self) -> None:
        """The library rings a socket. It can call a function too, from its thread and with a lock of its own held: a session that ends
        wants that lock while it holds Python's, and one in ten never ended."""
        rung, ringing = self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._loop.add_reader(rung, self._rung)
        self._session.set_alert_fd(ringing.fileno())

    def _rung(self) -> None:
        with suppress(BlockingIOError):
            self._bell[0].recv(RINGS_BYTES)
        self._drain()

    def _drain(self) -> None:
        if self._session is None:
            return
        for alert in self._session.pop_alerts():
            match alert.what():
                case "dht_get_peers_reply":
                    self._heard_of(alert.info_hash.to_bytes(), alert.peers())
                case "dht_mutable_item":
                    self._heard_value(alert)
                case "dht_put":
                    for future in self._putting.get((bytes(alert.public_key), bytes(alert.salt)), []):
                        if not future.done():
                            future.set_result(alert.num_success)
                case "listen_succeeded" if alert.socket_type == self._lt.socket_type_t.utp:
                    self._opened("")
                case "listen_failed":
                    self._opened(alert.error.message())

    def _opened(self, failure: str) -> None:
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(failure)

    def _heard_of(self, key: bytes, peers: list[tuple[str, int]]) -> None:
        for heard in self._finding.get(key, []):
            heard([f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in peers[:FOUND_MAX]])

    def _heard_value(self, alert: Any) -> None:
        item = alert.item
        value = item if isinstance(item, bytes) and item else None
        for heard in list(self._getting.get((bytes(alert.key), bytes(alert.salt)), [])):
            heard(value, alert.seq, alert.authoritative)


def settings_of(place: Address, *, bootstrap: tuple[str, ...], rate_bytes: int) -> dict[str, Any]:
    """What the library is told before its session begins: its defaults would ask public nodes, and open ports and look around beside."""
    settings = {
        "listen_interfaces": place.host_port,
        "max_retry_port_bind": 0,
        "listen_system_port_fallback": False,
        "enable_dht": True,
        "dht_bootstrap_nodes": ",".join(bootstrap),  # its default is the public one: always named, be it as nobody
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_tcp": False,
        "enable_outgoing_tcp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "allow_multiple_connections_per_ip": False,
        "dht_upload_rate_limit": rate_bytes,
        "alert_queue_size": ALERTS_MAX,
        "user_agent": "",
        "peer_fingerprint": "-SK0001-",
    }
    if is_loopback(place.host):  # rules against nodes that share a network, where all do
        names = ("restrict_routing_ips", "restrict_search_ips", "enforce_node_id", "prefer_verified_node_ids", "ignore_dark_internet")
        settings |= dict.fromkeys((f"dht_{name}" for name in names), False) | {"dht_block_ratelimit": 10_000}
    return settings


def _expanded(seed: bytes) -> bytes:
    """The private key as the library wants it: SHA-512 of the seed, clamped (RFC 8032, 5.1.5)."""
    key = bytearray(hashlib.sha512(seed).digest())
    key[0] &= 248
    key[31] = key[31] & 63 | 64
    return bytes(key)
