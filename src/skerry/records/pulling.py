"""FederationManager: pulls from seeds, contacts and learned peers over HTTP, and makes the pages that others pull.

Each peer has a cursor of its own, given by itself and sent back as it came, so that a pull brings what is new there and nothing is missed;
pages are asked for until there are no more. Where the peer's id is known the request is signed, so that it may give what it shares with us
alone; an address that a stranger told is judged before it is dialled (`channel/reachable.py`).

    updates = await federation.get_local_updates(since=CURSOR)
    report = await federation.sync_from_seeds()
    task = asyncio.create_task(federation.start_background_sync(interval=60))

The rule: nothing that a peer says is believed but what is signed; a peer that is down, lies or never ends costs itself its turn.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode

import msgspec

from skerry.channel.https import RealHttp
from skerry.channel.reachable import IPNetwork, check_port, to_dial, why_not
from skerry.channel.signed_request import NONCE_BYTES, signed_headers
from skerry.channel.weburl import Place, read_place
from skerry.errors import Refused, SkerryError, UsageError
from skerry.identity.grants import NEVER_MS
from skerry.ports import Http, HttpAnswer, HttpGet, Random
from skerry.records.pages import CBOR, JSON, LIMIT, PAGE_BYTES_MAX, TIMESTAMP_MAX, FederationUpdate, read_cursor, read_page, update_of
from skerry.records.peers import Peer, Peers
from skerry.records.record import Refusal, Rejection
from skerry.records.registry import AgentRegistry

PATH = "/federation/pull"
OK = 200
NOT_MODIFIED = 304
TIMEOUT_S = 10.0  # one page
PAGES_MAX = 200  # in one turn; the rest comes with the next
TOGETHER_MAX = 8  # peers that are pulled from at once
INTERVAL_S = 60.0
MESSAGE_CHARACTERS_MAX = 200
MAY_COME_RIGHT = (Rejection.TOO_FAR_AHEAD, Rejection.NOT_GRANTED, Rejection.OVER_QUOTA)  # later: clocks, grants and room change
AGAIN_MS = 3600 * 1000  # until what was refused so is asked for again: its author says it anew within half a day anyway
log = logging.getLogger(__name__)


@dataclass(slots=True)
class SyncReport:
    """What came of one round. `refused`: reason -> records; `failed`: peer -> why."""

    pulled: list[str] = field(default_factory=list)
    taken: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)


class FederationManager:
    """The federation of one registry. `seeds`: places as `weburl.read_place` takes them; raises UsageError for one that is none.

    grant       the signed grant that this node shows, so that a contact knows its formation
    also_dial   networks that strangers may send us to, beside the public ones; own: texts of places that are ourselves
    synced      hears what came of each round
    """

    def __init__(
        self,
        registry: AgentRegistry,
        seeds: Iterable[str] | None = None,
        *,
        http: Http | None = None,
        chance: Random | None = None,
        grant: Callable[[], bytes] = lambda: b"",
        also_dial: Sequence[IPNetwork] = (),
        own: Iterable[str] = (),
        synced: Callable[[SyncReport], None] = lambda _: None,
    ) -> None:
        self.registry = registry
        self._http = http or RealHttp()
        self._chance = chance or _Chance()
        self._grant = grant
        self._also = tuple(also_dial)
        self._synced = synced
        self._wake = asyncio.Event()
        self.announced: list[str] = []  # where this node itself can be asked
        self._peers = Peers(own=frozenset({registry.node, *own}))
        self._cursors: dict[str, str] = {}  # peer -> the cursor that it gave; in memory, as what is learned from strangers
        self._again_ms: dict[str, int] = {}  # peer -> when to ask it for all again, because what it gave was refused
        self._tags: dict[str, str] = {}  # peer -> the ETag of its last page, which was the last one
        self.set_seeds(seeds or ())

    @property
    def seeds(self) -> list[str]:
        return [str(peer.place) for peer in self._peers.all() if peer.is_seed]

    @property
    def peers(self) -> set[str]:
        """Every place that is known: seeds, and candidates that others told."""
        return {str(peer.place) for peer in self._peers.all()}

    def all_peers(self) -> list[Peer]:
        """As `peers`, with how each of them stands."""
        return self._peers.all()

    def set_seeds(self, texts: Iterable[str]) -> None:
        """These, and no others, are named by the owner from now on."""
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise UsageError(f"seeds: {texts!r:.80} is no list of texts", hint='give seeds=["NODEID@HOST:PORT"]')
        places = [read_place(text) for text in texts]
        for place in places:
            if place.node.hex() != self.registry.node:
                self._peers.add_seed(place, now_ms=self._now_ms())
        self._peers.keep_seeds({str(place) for place in places})

    def start_over(self) -> None:
        """Ask every seed now, and every peer for all that it has."""
        self._cursors.clear()
        self._tags.clear()
        for peer in self._peers.all():
            if peer.is_seed:
                peer.due_ms = 0
        self._wake.set()

    # --- what others get ------------------------------------------------------------------------------------------------------

    async def get_local_updates(
        self, since: str | None = "", *, since_timestamp: float | None = None, contact: bytes = b"", limit: int = LIMIT
    ) -> FederationUpdate:
        """A page of what that contact (empty: anybody) may have and came after the cursor `since`. Raises UsageError that names what
        can't be asked for.

        since_timestamp   only cards updated later than that (Unix seconds), for who looks by time; sync never does
        """
        if since_timestamp is not None and not _is_seconds(since_timestamp):
            raise UsageError(f"since_timestamp: {since_timestamp!r:.40} is no time", hint="give Unix seconds, or the cursor as `since`")
        if not isinstance(limit, int) or limit < 1:
            raise UsageError(f"limit: {limit!r:.40} is no number of records", hint=f"give 1 to {LIMIT}")
        records, cursor, more = self.registry.holdings.shared.page(read_cursor(since or ""), contact=contact, limit=limit)
        update = update_of(records, peers=self.told_on(), cursor=cursor, more=more, now_ms=self._now_ms())
        if since_timestamp is None:
            return update
        later = [card for card in update.agents if card.updated_at > since_timestamp * 1000]
        return FederationUpdate(later, update.peers, update.records, update.cursor, update.timestamp, update.more)

    def told_on(self) -> list[str]:
        """The peers that strangers are told of: ourselves, and those that lately gave what was asked, and where a stranger could go."""
        places = [*map(read_place, self.announced), *(peer.place for peer in self._peers.proven(now_ms=self._now_ms()))]
        return [str(place) for place in places if self._is_for_strangers(place)]

    def _is_for_strangers(self, place: Place) -> bool:
        numeric = ":" in place.host or place.host.replace(".", "").isdigit()
        private_name = "." not in place.host or place.host.endswith((".local", ".internal", ".lan", ".home.arpa"))
        return place.scheme == "https" and (not why_not(place.host, also=self._also) if numeric else not private_name)

    # --- what we get ----------------------------------------------------------------------------------------------------------

    async def sync_from_seeds(self, *, interval: float = INTERVAL_S, all_seeds: bool = True) -> SyncReport:
        """Pull from every seed (or from those whose turn it is), and from candidates whose turn it is. One that fails is a warning."""
        _check_interval(interval)
        now_ms = self._now_ms()
        due = self._peers.due(now_ms=now_ms)
        if all_seeds:
            due += [peer for peer in self._peers.all() if peer.is_seed and peer not in due]
        report = SyncReport()
        places = asyncio.Semaphore(TOGETHER_MAX)

        async def one(peer: Peer) -> None:
            async with places:
                await self._sync_with(peer, report, int(interval * 1000))

        await asyncio.gather(*(one(peer) for peer in due))
        self.registry.holdings.purge()
        self._synced(report)
        return report

    async def start_background_sync(self, interval: float = INTERVAL_S) -> None:
        """Sync again and again, each peer in its turn, until cancelled."""
        while True:
            self._wake.clear()
            await self.sync_from_seeds(interval=interval, all_seeds=False)
            with suppress(TimeoutError):
                async with asyncio.timeout(interval * (0.9 + self._chance.fraction() / 5)):
                    await self._wake.wait()

    async def _sync_with(self, peer: Peer, report: SyncReport, interval_ms: int) -> None:
        text = str(peer.place)
        try:
            await self._pull(peer, report)
        except SkerryError as error:
            if not peer.failures:
                log.warning("no records from %s: %s", text, error)
            self._failed(peer, error.message, report, interval_ms)
        except Exception as error:  # the boundary: a bug that a stranger's answer sets off ends its turn, not everybody's
            log.exception("the answer of %s could not be worked on", text)
            self._failed(peer, f"its answer could not be worked on: {type(error).__name__}", report, interval_ms)
        else:
            report.pulled.append(text)
            self._peers.pulled(peer, now_ms=self._now_ms(), interval_ms=interval_ms)

    def _failed(self, peer: Peer, reason: str, report: SyncReport, interval_ms: int) -> None:
        report.failed[str(peer.place)] = reason
        self._tags.pop(str(peer.place), None)
        self._peers.failed(peer, reason, now_ms=self._now_ms(), interval_ms=interval_ms, chance=self._chance.fraction())

    async def _pull(self, peer: Peer, report: SyncReport) -> None:
        text = str(peer.place)
        if self._now_ms() >= self._again_ms.get(text, NEVER_MS):
            del self._again_ms[text]
            self._cursors.pop(text, None)
        for _ in range(PAGES_MAX):
            cursor = self._cursors.get(text, "")
            answer = await self._ask(peer, cursor)
            if answer.status == NOT_MODIFIED:
                return
            if answer.status != OK:
                raise Refused(f"it answers with {answer.status}: {_message(answer)}")
            page = read_page(answer.body, answer.headers.get("content-type", ""))
            self._take(peer, page, report)
            self._cursors[text] = page.cursor
            self._peers.told(page.peers, source=text, now_ms=self._now_ms())
            self._tags[text] = answer.headers.get("etag", "") if page.cursor == cursor else ""
            if not page.more or page.cursor == cursor:  # one that never comes to an end is no reason not to
                return

    def _take(self, peer: Peer, page: FederationUpdate, report: SyncReport) -> None:
        for signed in page.records:
            outcome = self.registry.holdings.take(signed, source=peer.source and str(peer.place), node=peer.place.node)
            if not isinstance(outcome, Refusal):
                report.taken += 1
            elif outcome.reason is not Rejection.SUPERSEDED:
                report.refused[outcome.reason.value] += 1
                if outcome.reason in MAY_COME_RIGHT:
                    self._again_ms.setdefault(str(peer.place), self._now_ms() + AGAIN_MS)

    async def _ask(self, peer: Peer, cursor: str) -> HttpAnswer:
        place = peer.place
        target = f"{place.path}{PATH}?{urlencode({'since': cursor, 'limit': LIMIT})}"
        headers = {"accept": f"{CBOR}, {JSON};q=0.5"}
        if self._tags.get(str(place)):
            headers["if-none-match"] = self._tags[str(place)]
        if place.node:
            now_s, nonce = self._now_ms() // 1000, self._chance.token(NONCE_BYTES)
            key = self.registry.holdings.key
            headers |= signed_headers(key, method="GET", target=target, server=place.node, now_s=now_s, nonce=nonce, grant=self._grant())
        request = HttpGet(
            scheme=place.scheme,
            host=place.host,
            port=place.port,
            authority=place.authority,
            target=target,
            headers=headers,
            judge=(lambda _, addresses: addresses) if peer.is_seed else self._judge(place),
            node=place.node,
            either=place.either,
        )
        return await self._http.get(request, timeout_s=TIMEOUT_S, size_bytes_max=PAGE_BYTES_MAX)

    def _judge(self, place: Place) -> Callable[[str, list[str]], list[str]]:
        def judge(host: str, addresses: list[str]) -> list[str]:
            check_port(place.port)
            return to_dial(host, addresses, also=self._also)

        return judge

    def _now_ms(self) -> int:
        return self.registry.holdings.clock.now_ms()


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= TIMESTAMP_MAX


def _check_interval(interval: float) -> None:
    if not _is_seconds(interval) or not interval > 0:
        raise UsageError(f"interval: {interval!r:.40} is no time between two rounds", hint="give seconds: interval=60")


class _Chance:
    """Chance for a registry that is no node's."""

    def token(self, size_bytes: int) -> bytes:
        return random.SystemRandom().randbytes(size_bytes)

    def fraction(self) -> float:
        return random.random()


def _message(answer: HttpAnswer) -> str:
    """What the other side says is wrong, as far as it can be read."""
    try:
        said = msgspec.json.decode(answer.body)["error"]["message"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
        return "no reason given"
    return "".join(c for c in str(said)[:MESSAGE_CHARACTERS_MAX] if c.isprintable())
