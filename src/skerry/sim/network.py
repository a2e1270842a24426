"""A network of simulated hosts, and all that can go wrong between them.

`SimNetwork` is the world's view: hosts, links, cuts, crashes. `SimHost` is one host's view of it, the `Network` port that its node is
handed. A host's name is its address: `tcp://alpha:7420`; `tcp://127.0.0.1:...` and Unix sockets stay on the host itself.

Two ends of a host: `kill` is a process's (its kernel resets the connections, and refuses new ones), `crash` is the machine's (silence;
what it wrote and what had not arrived is gone). In both the host's protocols and its `SimHost` are dead, and `restart` gives a new one.

The rule: all that is random comes from the one random source handed in, in the order of events, and nothing is iterated that has no
order of its own: the same seed gives the same network.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import zlib
from collections.abc import Callable, Iterable
from itertools import combinations
from random import Random

from skerry.channel.address import Address, parse_address
from skerry.errors import Code, Unreachable, UsageError
from skerry.ports import ProtocolFactory, Security
from skerry.sim.link import Link, transit_s
from skerry.sim.listener import SimListener, is_loopback
from skerry.sim.secure import Secured, binding_of
from skerry.sim.stream import End
from skerry.sim.way import OPENED, Way, connect, reset_error

Path = tuple[str, str]  # from host, to host

LAN = Link()
LOOPBACK = Link(delay_s=0.000_02, jitter_s=0.000_01)
RESET_AFTER_S = 30.0  # how long unanswered bytes keep a connection; TCP_USER_TIMEOUT would say it on a real one
FIRST_FREE_PORT = 49_152  # where port 0 begins, as IANA has it
SWEEP_MIN = 64  # connections kept before the first look for those that are over
_ANYWHERE = ("0.0.0.0", "::")
_NO_BINDING = bytes(32)


NUMBERS = "10.77.0.0/16"  # of simulated hosts


class SimNetwork:
    """All hosts of a world. Made inside a running loop."""

    def __init__(
        self,
        random: Random,
        *,
        link: Link = LAN,
        reset_after_s: float = RESET_AFTER_S,
        record: Callable[[str], None] | None = None,
    ) -> None:
        """`link` is how hosts reach each other unless `set_link` says otherwise; `record` takes one line per event."""
        self.random = random
        self.loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()  # what is under way is nobody's: it arrives although its sender died
        self.reset_after_s = reset_after_s
        self.tap: Callable[[Way, bytes], None] | None = None  # hears all that is written
        self._link = link
        self._links: dict[Path, Link] = {}
        self._record = record
        self._hosts: dict[str, SimHost] = {}
        self._down: dict[str, None] = {}  # hosts without power
        self._cuts: dict[Path, None] = {}
        self._blocked: dict[Path, float] = {}  # path -> since when nothing passes, by cuts or by power
        self._ways: list[Way] = []
        self._sweep_at = SWEEP_MIN
        self._dials: list[asyncio.Future[None]] = []  # that wait for a path to open
        self._behind_nat: dict[str, str] = {}  # host -> the NAT that it stands behind

    # --- hosts --------------------------------------------------------------------------------------------------------------------

    def host(self, name: str, *, public_key: bytes | None = None) -> SimHost:
        """The network of that host; it is made at the first call, with its key (derived from the name if there is none)."""
        if name not in self._hosts:
            self._hosts[name] = SimHost(self, name, public_key or hashlib.sha256(name.encode()).digest())
            self._block()
        return self._hosts[name]

    def crash(self, name: str) -> None:
        """The machine loses power: nobody is told, and nothing answers until `restart`."""
        self._down[name] = None
        self._end(name, is_told=False)
        self._block()

    def kill(self, name: str) -> None:
        """The process is killed: its connections are reset, its addresses refuse."""
        self._end(name, is_told=True)

    def restart(self, name: str) -> SimHost:
        """The host is up, with nothing of before on it."""
        old = self._hosts[name]
        assert old.is_dead, f"{name} runs"
        self._hosts[name] = SimHost(self, name, old.public_key)
        self._down.pop(name, None)
        self._block()
        return self._hosts[name]

    def _end(self, name: str, *, is_told: bool) -> None:
        self.note(name, "killed" if is_told else "crashed")
        self._hosts[name].is_dead = True
        for way in self._ways:
            if way.sender.host == name:
                way.sender.die(is_told=is_told)

    # --- links --------------------------------------------------------------------------------------------------------------------

    def link(self, path: Path) -> Link:
        found = self._links.get(path)
        if found is None:
            found = self._links[path] = LOOPBACK if path[0] == path[1] else self._link
        return found

    def set_link(self, a: str, b: str, link: Link, *, one_way: bool = False) -> None:
        for path in ((a, b),) if one_way else ((a, b), (b, a)):
            self._links[path] = link

    def cut(self, a: str, b: str, *, one_way: bool = False) -> None:
        """Nothing passes from `a` to `b`, nor back unless `one_way`. Bytes are held; after `reset_after_s` connections break."""
        for path in ((a, b),) if one_way else ((a, b), (b, a)):
            self._cuts[path] = None
        self.note(a, f"cut {b}{' one way' if one_way else ''}")
        self._block()

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut every host of a group from every host of the others."""
        for group, other in combinations([list(group) for group in groups], 2):
            for a in group:
                for b in other:
                    self.cut(a, b)

    def heal(self, a: str | None = None, b: str | None = None) -> None:
        """Undo the cuts: all, those of `a`, or those between `a` and `b`."""
        named = {name for name in (a, b) if name is not None}
        self._cuts = {path: None for path in self._cuts if not named.issubset(path)}
        self.note(a or "all", f"healed {b or ''}")
        self._block()

    def put_behind_nat(self, name: str, nat: str = "") -> None:
        """From now on this host can dial others, and nobody can dial it but who stands behind the same NAT: packets to it vanish."""
        self._behind_nat[name] = nat or f"nat of {name}"
        self.note(name, f"stands behind {self._behind_nat[name]}")

    def take_from_nat(self, name: str) -> None:
        """Everybody can dial it again."""
        del self._behind_nat[name]
        self.note(name, "can be dialled")

    def can_be_dialled(self, name: str, *, by: str) -> bool:
        nat = self._behind_nat.get(name)
        return nat is None or name == by or self._behind_nat.get(by) == nat

    def reset(self, a: str, b: str, *, half_open: bool = False) -> None:
        """Break the open connections between two hosts. With `half_open` only `a` is told; `b` finds out when it writes."""
        for way in [way for way in self._ways if way.path == (a, b)]:
            if half_open:
                way.sender.broken(reset_error())
            else:
                way.reset_both()

    def open_from(self, name: str) -> list[str]:
        """The other hosts' names, for each connection of a host that nobody has closed there."""
        return [end.out.path[1] for end in self.open_ends(name)]

    def sweep(self) -> None:
        """Forget the ways that are over."""
        self._ways = [way for way in self._ways if not way.is_over]
        self._sweep_at = 2 * len(self._ways) + SWEEP_MIN

    def open_ends(self, name: str) -> list[End]:
        """Its side of each of them."""
        return [way.sender for way in self._ways if way.path[0] == name and way.sender.is_open and not way.sender.is_closing()]

    def is_blocked(self, path: Path) -> bool:
        return path in self._blocked

    def _block(self) -> None:
        """Cuts or power have changed: hold what is stopped now, move on what is not any more."""
        before, now = self._blocked, self.loop.time()
        stopped = dict(self._cuts)
        for name in self._down:
            for other in self._hosts:
                stopped[name, other] = stopped[other, name] = None
        self._blocked = {path: before.get(path, now) for path in stopped}
        for way in list(self._ways):
            if way.path in self._blocked or way.back.path in self._blocked:
                way.lose_patience()
            since = min(before.get(way.path, now), before.get(way.back.path, now))
            if since < now:
                way.move_on(now - since)
        dials, self._dials = self._dials, []
        for dial in dials:
            _resolve(dial)

    # --- used by hosts and ends ---------------------------------------------------------------------------------------------------

    def note(self, host: str, event: str, data: bytes = b"") -> None:
        """One line of the trace."""
        if self._record is not None:
            size = f" {len(data)} {zlib.crc32(data):08x}" if data else ""
            self._record(f"{self.loop.time():.6f} {host} {event}{size}")

    def tie(self, dialler: End, listener: End) -> None:
        """Connect two ends."""
        if len(self._ways) >= self._sweep_at:
            self.sweep()
        self._ways.extend(connect(self, dialler, listener))
        self.note(dialler.host, f"connected {listener.host}")

    def number_of(self, name: str) -> str:
        """The numeric address of a host: by the order in which they were made."""
        if name not in self._hosts:
            return name
        high, low = divmod(list(self._hosts).index(name), 250)
        return f"10.77.{high}.{low + 1}"

    def name_of(self, host: str) -> str:
        """The host of a numeric address, or what was given."""
        return next((name for name in self._hosts if self.number_of(name) == host), host) if host[:1].isdigit() else host

    def find(self, name: str) -> SimHost | None:
        return self._hosts.get(name)

    async def round_trip(self, path: Path) -> None:
        """There and back again, however long the paths are cut."""
        back = (path[1], path[0])
        await asyncio.sleep(transit_s(self.link(path), self.random) + transit_s(self.link(back), self.random))
        while path in self._blocked or back in self._blocked:
            opened: asyncio.Future[None] = self.loop.create_future()
            self._dials.append(opened)
            await opened
            await asyncio.sleep(self.random.random())  # the next retry


class SimHost:
    """`ports.Network` of one host, from its start to its end."""

    def __init__(self, network: SimNetwork, name: str, public_key: bytes) -> None:
        assert len(public_key) == 32, "a public key has 32 bytes"
        self.name = name
        self.public_key = public_key
        self.is_dead = False
        self._network = network
        self._listeners: dict[int | str, SimListener] = {}  # by port or path
        self._next_port = FIRST_FREE_PORT

    @property
    def context(self) -> contextvars.Context:
        """The world's: for what no process of this host does."""
        return self._network.context

    async def listen(self, address: str, factory: ProtocolFactory) -> SimListener:
        parsed = parse_address(address)
        if parsed.scheme == "tcp":
            if not (parsed.host in (*_ANYWHERE, self.name) or is_loopback(parsed.host)):
                raise UsageError(f"can't listen at {parsed}: it is no address of {self.name}", hint="use an address of this machine")
            if parsed.port == 0:
                parsed = Address("tcp", parsed.host, self._free_port())
        place = parsed.path or parsed.port
        if place in self._listeners:
            raise UsageError(f"the address {parsed} is in use by another program", code=Code.PORT_IN_USE, hint="choose another port")
        self._check_alive()
        listener = self._listeners[place] = SimListener(self._listeners, parsed, factory)
        return listener

    async def dial(self, address: str, factory: ProtocolFactory, *, timeout_s: float) -> asyncio.Protocol:
        parsed = parse_address(address)
        self._check_alive()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._dial(parsed, factory)
        except TimeoutError as error:
            raise Unreachable(f"{parsed} did not answer within {timeout_s:g} s", hint="is the node up, and the port open?") from error

    async def resolve(self, host: str, port: int) -> list[str]:
        """Simulated hosts have numbers too, which only announcements use."""
        await asyncio.sleep(0)
        if self._network.find(self._network.name_of(host)) is None:
            raise Unreachable(f"the name {host!r} can't be resolved: no such host", hint="check the spelling, or use a number")
        return [self._network.number_of(host)]

    def listening(self) -> list[str]:
        """Where somebody can be reached."""
        return [listener.address for listener in self._listeners.values()]

    async def secure(self, transport: asyncio.Transport, factory: ProtocolFactory, *, listener: bool, timeout_s: float) -> asyncio.Protocol:
        assert isinstance(transport, End), "not a transport of the simulated network"
        secured = Secured(transport, factory, key=self.public_key, listener=listener)
        try:
            async with asyncio.timeout(timeout_s):
                return await secured.done
        except TimeoutError:
            raise Unreachable(f"nothing came through the pipe within {timeout_s:g} s", hint="try again") from None
        finally:
            if not secured.done.done() or secured.done.cancelled():
                transport.abort()

    def bare(self, transport: asyncio.Transport) -> asyncio.Transport:
        return transport

    def security(self, transport: asyncio.BaseTransport) -> Security:
        assert isinstance(transport, End | Secured), "not a transport of the simulated network"
        return transport.security

    def pair(
        self, first: ProtocolFactory, second: ProtocolFactory, *, second_context: contextvars.Context | None = None
    ) -> tuple[End, End]:
        """Two ends tied together, as a socket pair's: a node and its worker. Both open at the loop's next turn."""
        proof = Security("inproc", None, _NO_BINDING, True)
        ends = (End(self._network, self.name, proof, {}), End(self._network, self.name, proof, {}, context=second_context))
        self._network.tie(*ends)
        for end, factory in zip(ends, (first, second), strict=True):
            end.protocol = factory()
            self._network.loop.call_soon(end.open, context=self._network.context)
        return ends

    async def _dial(self, address: Address, factory: ProtocolFactory) -> asyncio.Protocol:
        network = self._network
        target = self.name if address.scheme == "uds" or is_loopback(address.host) else network.name_of(address.host)
        if network.find(target) is None:
            raise Unreachable(f"the name {target!r} can't be resolved: no such host", hint="check the spelling, or use a number")
        path = (self.name, target)
        if not network.can_be_dialled(target, by=self.name):
            await asyncio.Event().wait()  # until the dialler gives up
        await network.round_trip(path)
        listener = self._listener(address, target)
        if address.scheme == "tcp":
            await network.round_trip(path)  # TLS 1.3 takes one more
            listener = self._listener(address, target)
        self._check_alive()
        near, far = self._ends(address, target, listener.context.copy())
        network.tie(near, far)
        far.accept = listener.factory
        near.protocol = protocol = factory()
        near.out.send(OPENED)  # our bytes come after it: the listener's side opens before it reads
        opened: asyncio.Future[None] = network.loop.create_future()
        network.loop.call_soon(near.open, context=network.context)
        network.loop.call_soon(_resolve, opened)
        try:
            await opened
        except asyncio.CancelledError:
            near.abort()
            raise
        assert isinstance(protocol, asyncio.Protocol)
        return protocol

    def _ends(self, address: Address, target: str, context: contextvars.Context) -> tuple[End, End]:
        network = self._network
        if address.scheme == "uds":
            proof = Security("uds", None, _NO_BINDING, True)
            near, far = {"peername": address.path, "sockname": ""}, {"peername": "", "sockname": address.path}
            return End(network, self.name, proof, near), End(network, target, proof, far, context=context)
        host = network.host(target)
        binding = binding_of(host.public_key)
        here, there = (self.name, self._free_port()), (target, address.port)
        return (
            End(network, self.name, Security("tcp", host.public_key, binding, False), {"peername": there, "sockname": here}),
            End(network, target, Security("tcp", None, binding, False), {"peername": here, "sockname": there}, context=context),
        )

    def _listener(self, address: Address, target: str) -> SimListener:
        """Who answers there, now. A host that died in the meantime and is up again has other listeners."""
        host = self._network.find(target)
        assert host is not None
        listener = None if host.is_dead else host._listeners.get(address.path or address.port)
        if listener is None or (listener.is_local and target != self.name):
            raise Unreachable(f"nobody listens at {address}", hint="is the node up, and is this its address?")
        return listener

    def _free_port(self) -> int:
        self._next_port += 1
        return self._next_port - 1

    def _check_alive(self) -> None:
        if self.is_dead:
            raise Unreachable(f"the host {self.name} is dead", hint="restart it")


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
