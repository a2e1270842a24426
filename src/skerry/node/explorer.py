"""How a node finds circles of other formations, and tells them of its own: it executes what `routing/mesh.py` plans.

Looking for a capability asks the DHT who claims to offer it, dials a few of them as anybody would, and takes in the announcements that they
show, each judged by its own chain. The DHT is opened when there is a reason: a place to enter was named, or a circle of ours is public.

The rule: a lie costs a bounded number of dials, to addresses that are dialled for a stranger at all, and nothing is believed for being
found. What is not found may still be there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from skerry.channel.address import Address, parse_address, parse_host_port
from skerry.channel.admission import Quota
from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.channel.reachable import check_port, to_dial
from skerry.channel.silence import Watch
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.codec import encode, unpack
from skerry.identity.keys import KeyPair, derived, short
from skerry.node.circles import PREFIX
from skerry.ports import backoff
from skerry.records.record import Refusal
from skerry.routing.announcement import Speaker
from skerry.routing.circle import DHT_KEY_BYTES
from skerry.routing.mesh import DhtOp, Drop, Find, Store
from skerry.routing.pool import Candidate
from skerry.routing.verbs import AnnouncementsReply, AnnouncementsRequest

if TYPE_CHECKING:
    from skerry.node.node import Node

FIND_TIMEOUT_S = 1.5  # of one look-up in the DHT; found things come in milliseconds
LOOK_UPS = 2  # of one search: who came a moment ago is known a moment later
DIALS_MAX = 8  # of one search
DIAL_TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 16  # announcements taken of one node
FRESH_S = 30.0  # how long a search is not done again
SEARCHES_MAX = 1000  # remembered
FRUITLESS_S = 600.0  # how long a place that showed nothing is asked after all others
FRUITLESS_MAX = 1000  # such places remembered
PLACES_AT_ONCE = 60.0  # dials for strangers' sake, of all searches
PLACES_PER_S = 2.0
MATES_MAX = 8  # through which the DHT is entered
LINKS_MAX = 64  # to speakers of circles
PLACE_SALT = b"place"
TELL_FIRST_S = 4.0  # until it is told again, doubling: who has just come does not know yet who is near
TELL_EVERY_S = 1800.0  # nodes forget values after two hours
PLACE_TEXTS_MAX = 4
log = logging.getLogger(__name__)


class Explorer:
    """One node's way to circles of others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._dht = node.ports.dht
        self._opening: asyncio.Task[None] | None = None
        self._keys: dict[bytes, tuple[bytes, ...]] = {}  # circle -> where it is said
        self._said: set[bytes] = set()
        self._searched: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        self._searching: dict[tuple[str, bytes], asyncio.Task[None]] = {}
        self._fruitless: OrderedDict[str, float] = OrderedDict()
        self._budget = Quota(at_once=PLACES_AT_ONCE, per_s=PLACES_PER_S)
        self._links: OrderedDict[bytes, Link] = OrderedDict()
        self._watch = Watch(lambda: list(self._links.values()), lambda link: True)
        self._place_key = KeyPair.from_seed(derived(node.key, "skerry dht place 1"))
        self.trouble = ""

    @property
    def dht_address(self) -> str:
        """Where others enter the DHT through this node; "" where it is closed."""
        return self._dht.address if self._dht is not None else ""

    async def start(self) -> None:
        """Open what the settings ask for. Raises UsageError where that can't be."""
        if self._dht is not None and self._node.settings.bootstrap:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            await self._opening
            if self.trouble:
                raise Refused(self.trouble, code=Code.PORT_IN_USE, hint="choose another place with --dht HOST:PORT")

    async def close(self) -> None:
        tasks = [*self._searching.values(), *([self._opening] if self._opening is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watch.stop()
        for link in self._links.values():
            link.close(Unreachable("the node shuts down", code=Code.SHUTTING_DOWN))
        if self._dht is not None and self._dht.address:
            await self._dht.close()

    async def _open(self) -> None:
        assert self._dht is not None
        try:
            await self._dht.open()
        except SkerryError as error:
            self.trouble = error.message
            self._node.warnings["dht"] = error.message
            log.warning("the DHT is not open: %s", error)
            return
        self._node.warnings.pop("dht", None)
        log.info("the DHT is open at %s", self._dht.address)
        self._node.circles.dht_key = self._place_key.public
        self._dht.enter([*self._mates(), *self._node.neighbourhood.dht_places()])
        if self._node.may_write.is_set():
            self._node.advertiser.say_node()
        self._say()
        self._node.spawn(self._tell_place())

    def place(self) -> dict[str, object]:
        """What this node's record says of its part of the DHT: where it is entered, and the key under which it says where it is."""
        if not self.dht_address or not self._node.addresses():
            return {}
        port, host = parse_host_port(self.dht_address).port, parse_address(self._node.addresses()[0]).host
        return {"dht": Address("tcp", host, port).host_port, "dht_key": self._place_key.public}

    def enter(self, places: list[str]) -> None:
        """Further places by which the DHT can be entered, where it is open."""
        if self._dht is not None and self._dht.address:
            self._dht.enter(places[:MATES_MAX])

    def _mates(self) -> list[str]:
        """Where the DHT is entered through other nodes of our formation."""
        said = [s.body.get("dht") for s in self._node.replica.held("node") if s.author != self._node.key.public]
        return [place for place in said if isinstance(place, str) and place][:MATES_MAX]

    @property
    def can_look(self) -> bool:
        """Whether there is a DHT to look in: one that is open, or anybody through whom it can be entered."""
        entries = self._node.settings.bootstrap or self._mates() or self._node.neighbourhood.dht_places()
        return self._dht is not None and bool(self._dht.address or entries)

    def _ensure_open(self) -> None:
        if self._dht is not None and not self._dht.address and self._opening is None and self._node.running:
            self._opening = asyncio.get_running_loop().create_task(self._open())

    # --- telling --------------------------------------------------------------------------------------------------------------

    def execute(self, ops: list[DhtOp]) -> None:
        """Do what was planned for circles of ours."""
        for op in ops:
            match op:
                case Store(circle, key, _):
                    self._keys[circle] = op.keys
                    log.debug("the circle %s is said under %s and what it offers", short(circle), key.hex()[:10])
                case Drop(circle, keys):
                    left = tuple(key for key in self._keys.pop(circle, ()) if key not in keys)
                    if left:
                        self._keys[circle] = left
                case Find():
                    raise AssertionError("what is looked for is asked by `search`")
        if self._keys:
            self._ensure_open()
        self._say()

    def _say(self) -> None:
        if self._dht is None or not self._dht.address or not self._node.listening:
            return
        wanted = {key[:DHT_KEY_BYTES] for keys in self._keys.values() for key in keys}
        port = parse_address(self._node.listening[0]).port
        for key in self._said - wanted:
            self._dht.withdraw(key)
        for key in sorted(wanted - self._said):
            self._dht.announce(key, port)
        self._said = wanted

    async def _tell_place(self) -> None:
        """Where this node is, signed, for those who know it by its key alone: its addresses may change."""
        assert self._dht is not None
        value = encode(list(self._node.addresses()[:PLACE_TEXTS_MAX]))
        for wait_s in backoff(self._node.ports.random, first_s=TELL_FIRST_S, most_s=TELL_EVERY_S):
            with suppress(SkerryError):
                await self._dht.put(self._place_key.seed, value, salt=PLACE_SALT)
            await asyncio.sleep(wait_s)
            value = encode(list(self._node.addresses()[:PLACE_TEXTS_MAX]))

    async def place_of(self, speaker: Speaker) -> list[str]:
        """Where a speaker says it is now, which may be elsewhere than its announcement has it."""
        if self._dht is None or not speaker.dht_key:
            return []
        value = await self._dht.get(speaker.dht_key, salt=PLACE_SALT, timeout_s=FIND_TIMEOUT_S)
        try:
            said = unpack(value) if value is not None else []
        except SkerryError:
            return []
        return [text for text in said[:PLACE_TEXTS_MAX] if isinstance(text, str)] if isinstance(said, list) else []

    # --- looking --------------------------------------------------------------------------------------------------------------

    async def search(self, *, query: str = "", circle: bytes = b"", timeout_s: float = 10.0) -> None:
        """Look for circles that offer something, or for one of them; what is found is in the router then."""
        if not self.can_look:
            return  # it was told of nobody to ask
        self._ensure_open()
        key, loop = (query, circle), asyncio.get_running_loop()
        at = self._searched.get(key)
        if at is not None and loop.time() - at < FRESH_S:
            return
        task = self._searching.get(key)
        if task is None:
            task = self._searching[key] = loop.create_task(self._search(query, circle))
            task.add_done_callback(lambda _: self._searching.pop(key, None))
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(task)

    async def _search(self, query: str, circle: bytes) -> None:
        router = self._node.circles.router
        op = router.plan_discover_circle(circle) if circle else router.plan_discover_capability(query)
        if op is None or self._dht is None:
            return
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        places: list[str] = []
        for _ in range(LOOK_UPS):
            places = await self._dht.find(op.key[:DHT_KEY_BYTES], timeout_s=FIND_TIMEOUT_S)
            if places:
                break
        ours = {address.partition("://")[2] for address in self._node.addresses()}
        asked = [place for place in places if place not in ours]
        taken = await asyncio.gather(*(self._ask_place(place, op) for place in self._chosen(asked)))
        if any(taken):
            self._searched[query, circle] = asyncio.get_running_loop().time()
            if len(self._searched) > SEARCHES_MAX:
                self._searched.popitem(last=False)

    def _chosen(self, places: list[str]) -> list[str]:
        """Those to dial: any, so that no liar stands first for everybody, but first those that did not disappoint us a while ago."""
        since = asyncio.get_running_loop().time() - FRUITLESS_S
        while self._fruitless and next(iter(self._fruitless.values())) < since:
            self._fruitless.popitem(last=False)
        return sorted(places, key=lambda place: (place in self._fruitless, self._node.ports.random.fraction()))[:DIALS_MAX]

    async def _ask_place(self, place: str, op: Find) -> int:
        """The announcements that somebody shows, taken in; how many were believed."""
        now = asyncio.get_running_loop().time()
        if not self._budget.take("", now=now):
            return 0
        believed = await self._shown_at(place, op)
        self._fruitless.pop(place, None)
        if not believed:
            self._fruitless[place] = now
            if len(self._fruitless) > FRUITLESS_MAX:
                self._fruitless.popitem(last=False)
        return believed

    async def _shown_at(self, place: str, op: Find) -> int:
        try:
            link = await self._dial(str(parse_host_port(place)), None)
        except SkerryError as error:
            log.debug("%s, which is said to speak for a circle, can't be asked: %s", place[:100], error)
            return 0
        try:
            request = AnnouncementsRequest(op.capability, op.circle_id)
            body = await link.call("circle.announcements", pack_message(request), timeout_s=DIAL_TIMEOUT_S)
            payloads = unpack_message(AnnouncementsReply, body).announcements[:ANSWER_BYTES_MAX]
        except SkerryError as error:
            log.debug("%s does not show what it announces: %s", place[:100], error)
            return 0
        finally:
            link.close(Refused("that was all", code=Code.CANCELLED))
        now_ms, believed = self._node.ports.clock.now_ms(), 0
        for payload in payloads:
            outcome = self._node.circles.router.ingest_one(payload, now_ms=now_ms)
            if isinstance(outcome, Refusal):
                log.info("an announcement from %s is not believed: %s", place[:100], outcome.detail)
            else:
                believed += 1
        return believed

    async def _dial(self, address: str, expected: bytes | None) -> Link:
        """As anybody would: resolved once, judged, and the very address that was judged."""
        place = parse_address(address)
        check_port(place.port)
        if place.scheme != "tcp":
            raise Refused(f"{address[:100]} is not dialled for a stranger", code=Code.NOT_GRANTED, hint="use tcp://HOST:PORT")
        found = await self._node.ports.network.resolve(place.host, place.port)
        error: SkerryError = Unreachable(f"{place.host} has no address")
        for host in to_dial(place.host, found, also=(*self._node.settings.also_dial, *self._node.settings.met_dial)):
            try:
                link = await self._node.links.probe(str(Address("tcp", host, place.port)), expected=expected, timeout_s=DIAL_TIMEOUT_S)
                link.takes_large = False  # as the other side has it: we are strangers there
                return link
            except SkerryError as failed:
                error = failed
        raise error

    # --- for the dispatcher ---------------------------------------------------------------------------------------------------

    async def link_to(self, candidate: Candidate, timeout_s: float) -> Link:
        """A link to the node that speaks for the circle. Raises Unreachable."""
        circle = bytes.fromhex(candidate.agent.removeprefix(PREFIX))
        published = self._node.circles.router.discovered(circle, now_ms=self._node.ports.clock.now_ms())
        if published is None:
            raise Unreachable("what is known of the circle is over", hint="ask again: it is looked for anew")
        error: SkerryError = Unreachable("this node does not speak for the circle any more")
        try:
            async with asyncio.timeout(timeout_s):
                for speaker in published.announcement.speakers:
                    if speaker.node == candidate.node:
                        return await self._link(speaker)
        except SkerryError as failed:
            error = failed
        except TimeoutError:
            error = Unreachable(f"the circle {candidate.name} did not answer within {timeout_s:g} s")
        raise error if isinstance(error, Unreachable) else Unreachable(error.message, hint=error.hint)

    def _keep(self, node: bytes, link: Link) -> Link:
        """The link to use from now on: two tasks at once may have dialled."""
        known = self._links.get(node)
        if known is not None and not known.closed and not known.away:
            link.close(Refused("another connection between us stays", code=Code.CONFLICT))
            return known
        over = [self._links.pop(node)] if known is not None else []
        self._links[node] = link
        if len(self._links) > LINKS_MAX:
            idle = (one for one, held in self._links.items() if not held.busy)
            over.append(self._links.pop(next(idle)))  # ours is one
        for one in over:
            self._watch.forget(one)
            one.close(Refused("too many circles are asked at once", code=Code.BUSY))
        self._watch.start()
        return link

    async def _link(self, speaker: Speaker) -> Link:
        held = self._links.get(speaker.node)
        if held is not None and not held.closed and not held.away:
            return held
        error: SkerryError = Unreachable(f"the node {short(speaker.node)} has no address")
        for is_last, addresses in ((False, list(speaker.addresses)), (True, None)):
            for address in addresses if addresses is not None else await self.place_of(speaker):
                try:
                    link = await self._dial(address, speaker.node)
                except SkerryError as failed:
                    error = failed
                    continue
                return self._keep(speaker.node, link)
            if is_last:
                break
        raise error
