"""This node among contacts: it keeps a link to each, pulls what they share with us, tells them when there is something new for them.

Each node of ours does so by itself. A contact is dialled at the addresses of its entry and at no others, one after the other, and again
with backoff. Where it lets us federate it is asked for what is new from time to time, and at once when it says that there is something.

The rule: whoever answers is believed to be the contact only if its key, or its grant's chain, says so; and a contact that is down, slow or
full of lies costs one link and a bounded pull.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.contacts import Contact
from skerry.identity.keys import short
from skerry.node.verbs import NewsRequest
from skerry.ports import backoff, jitter
from skerry.records.record import Refusal
from skerry.records.verbs import PullReply, PullRequest

if TYPE_CHECKING:
    from skerry.node.node import Node

CURSORS = "cursor-abroad"  # the space of facts: contact/node -> its cursor
FIRST_S = 0.5  # until a contact that could not be reached is dialled again, doubling to
MOST_S = 60.0
DIAL_TIMEOUT_S = 20.0  # for all addresses of one contact
PULL_EVERY_S = 60.0  # where nobody says that there is something new
PULL_TIMEOUT_S = 30.0
PULL_GAP_S = 0.5  # between two pulls, however often a contact says that there is something new
PAGES_MAX = 40  # of one pull: with 200 records each more than a contact may have here
REFUSED_S = 300.0  # until a contact that does not let us federate is asked again
LOOK_S = 2.0  # how often a link that ended is noticed
NEWS_AFTER_S = 0.2  # what changes within this time is told once
NEWS_TIMEOUT_S = 5.0
NEWS_RECORDS_MAX = 400  # revocations and departures that a contact is told, newest first
LINKS_EACH_MAX = 16  # that we remember of one contact; it may have many nodes
log = logging.getLogger(__name__)


class Envoy:
    """The links of one node to contacts."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._wake: dict[bytes, asyncio.Event] = {}
        self._links: dict[bytes, list[Link]] = {}
        self._dialling: dict[bytes, asyncio.Task[Link]] = {}
        self._spread: asyncio.TimerHandle | None = None
        self._shut_out: set[bytes] = set()  # contacts for which we are none (any more), as they said last
        self.last_error: dict[bytes, SkerryError] = {}

    def look(self) -> None:
        """Who the contacts are changed: see to it that each has somebody who attends to it."""
        wanted = {contact.id for contact in self._node.contacts.directory.contacts.values() if not contact.inproc}
        for identity in sorted(wanted):
            task = self._tasks.get(identity)
            if self._node.running and (task is None or task.done()):
                self._tasks[identity] = asyncio.get_running_loop().create_task(self._attend(identity))
            elif identity in self._wake:
                self._wake[identity].set()  # there may be another address
        for identity in [one for one in self._tasks if one not in wanted]:
            self._tasks.pop(identity).cancel()
            self._links.pop(identity, None)
            self.last_error.pop(identity, None)
            self._shut_out.discard(identity)
            for key, _ in self._node.ports.store.facts(CURSORS):
                if key.startswith(identity.hex()):
                    self._node.ports.store.set_fact(CURSORS, key, None)

    async def close(self) -> None:
        if self._spread is not None:
            self._spread.cancel()
        tasks: list[asyncio.Task[None] | asyncio.Task[Link]] = [*self._tasks.values(), *self._dialling.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- links ----------------------------------------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A connection that is no node's of ours: a contact's perhaps."""
        assert link.peer is not None
        contact = self._node.contacts.of_peer(link.peer)
        if contact is None:
            return
        log.info("linked with %s, a node of the contact %s", short(link.id), contact.name)
        held = self._links.setdefault(contact.id, [])
        held[:] = [one for one in held if not one.closed][-LINKS_EACH_MAX + 1 :]
        if link not in held:
            held.append(link)
        self.last_error.pop(contact.id, None)
        if contact.id in self._wake:
            self._wake[contact.id].set()
        self._node.mail.post.try_again()
        self._node.wires.look()
        self._node.spawn(self._tell(link))
        self._node.reaching.link_up(link)

    def links_of(self, contact: Contact) -> list[Link]:
        """Those to its nodes that are open, the newest of each node last."""
        held = self._links.get(contact.id, [])
        return [link for link in held if not link.closed and link.peer is not None and self._node.contacts.of_peer(link.peer) == contact]

    def links(self) -> list[Link]:
        """Straight ones to contacts' nodes, one of each node."""
        found = [link for contact in self._node.contacts.directory.contacts.values() for link in self.links_of(contact)]
        return list({link.id: link for link in found if not link.away and not link.connection.is_relayed}.values())

    def link_of(self, contact: Contact) -> Link | None:
        """An open link to a contact, the newest where there are several."""
        for link in reversed(self._links.get(contact.id, [])):
            if not link.closed and not link.away and link.peer is not None and self._node.contacts.of_peer(link.peer) == contact:
                return link
        return None

    async def link_to(self, contact: Contact, timeout_s: float) -> Link:
        """A link to a contact, dialled where none is up. Raises Unreachable or Refused."""
        link = self.link_of(contact)
        if link is not None:
            return link
        task = self._dialling.get(contact.id)
        if task is None or task.done():
            task = self._dialling[contact.id] = asyncio.get_running_loop().create_task(self._dial(contact))
            task.add_done_callback(_seen)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(task)
        except TimeoutError:
            raise Unreachable(f"the contact {contact.name} did not answer within {timeout_s:g} s", hint=_SHOW) from None

    async def _dial(self, contact: Contact) -> Link:
        error: SkerryError = Unreachable(f"no address of the contact {contact.name} can be dialled", hint=_ADDRESS)
        for expected, address in contact.dialled():
            try:
                link = await self._node.links.dial(address, expected=expected)
            except SkerryError as failed:
                error = failed
                continue
            if link.peer is not None and self._node.contacts.of_peer(link.peer) == contact:
                return link
            error = Refused(
                f"at {address} answers the node {short(link.id)}, which is none of the contact {contact.name}",
                code=Code.WRONG_IDENTITY,
                hint="check the contact's addresses and id",
            )
            if self._node.links.get(link.id) is not link:  # a node of ours keeps its link
                link.close(error)
        raise error

    # --- one contact ----------------------------------------------------------------------------------------------------------

    async def _attend(self, identity: bytes) -> None:
        """Stay linked with one contact, and know what it shares."""
        loop, random = asyncio.get_running_loop(), self._node.ports.random
        wake = self._wake[identity] = asyncio.Event()
        waits: Iterator[float] = backoff(random, first_s=FIRST_S, most_s=MOST_S)
        pull_at = 0.0
        try:
            while (contact := self._node.contacts.directory.with_id(identity)) is not None:
                try:
                    link = await self.link_to(contact, DIAL_TIMEOUT_S)
                    self.last_error.pop(identity, None)
                    if loop.time() >= pull_at or wake.is_set():
                        wake.clear()
                        pull_at = loop.time() + await self._pull(contact, link)
                        waits = backoff(random, first_s=FIRST_S, most_s=MOST_S)
                    pause = LOOK_S
                except SkerryError as error:
                    self.last_error[identity] = error
                    log.debug("the contact %s: %s", contact.name, error)
                    wake.clear()
                    pause = next(waits)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await wake.wait()
                await asyncio.sleep(PULL_GAP_S)
        finally:
            if self._wake.get(identity) is wake:
                del self._wake[identity]

    async def _pull(self, contact: Contact, link: Link) -> float:
        """All that a contact has for us and that is new; returns when to ask again, in seconds."""
        key = f"{contact.id.hex()}/{link.id.hex()}"
        store = self._node.ports.store
        for _ in range(PAGES_MAX):
            cursor = (store.fact(CURSORS, key) or b"").decode()
            try:
                body = await link.call("records.pull", pack_message(PullRequest(cursor)), timeout_s=PULL_TIMEOUT_S)
            except Refused as error:
                if error.code != Code.NOT_GRANTED:
                    raise
                log.debug("the contact %s shares no records with us: %s", contact.name, error)
                return REFUSED_S
            reply = unpack_message(PullReply, body)
            if self._node.contacts.directory.with_id(contact.id) is None:
                break  # removed meanwhile
            self._take(contact, link, reply.records)
            store.set_fact(CURSORS, key, reply.cursor.encode())
            if not reply.more or reply.cursor == cursor:
                break
        return jitter(self._node.ports.random, PULL_EVERY_S / 2, PULL_EVERY_S)

    def _take(self, contact: Contact, link: Link, records: list[bytes]) -> None:
        """Take in what a contact told, as its own formation's and nobody else's."""
        assert link.peer is not None
        formation = contact.id if not contact.is_node else self._node.contacts.formation_of(contact)
        if not formation or formation == self._node.formation:
            return
        foreign, now_ms = self._node.abroad.of(formation), self._node.ports.clock.now_ms()
        for signed in records:
            outcome = foreign.ingest(signed, now_ms=now_ms, only_of=contact.id if contact.is_node else None)
            if isinstance(outcome, Refusal) and outcome.reason.value != "superseded":
                self._node.federation.refused[outcome.reason.value] += 1
                log.debug("a record of the contact %s is not taken: %s", contact.name, outcome.detail)

    # --- news -----------------------------------------------------------------------------------------------------------------

    def spread_news(self) -> None:
        """Something may be new for contacts: tell those that we are linked with."""
        if self._spread is None and self._node.running and self._node.contacts.directory.contacts:
            self._spread = asyncio.get_running_loop().call_later(NEWS_AFTER_S, self._tell_all)

    def _tell_all(self) -> None:
        self._spread = None
        for links in list(self._links.values()):
            for link in links:
                if not link.closed:
                    self._node.spawn(self._tell(link))

    async def _tell(self, link: Link) -> None:
        """That there may be something new, and who is out here: a contact must not let them in."""
        try:
            await self.greet(link)
        except SkerryError as error:
            log.debug("%s could not be told that there is news: %s", short(link.id), error)  # it pulls from time to time

    async def greet(self, link: Link) -> None:
        """The same. Raises Refused(not_granted) where we are no contact there: it was removed, or the other side never added us."""
        contact = self._node.contacts.of_peer(link.peer) if link.peer is not None else None
        try:
            await link.call("contact.news", pack_message(NewsRequest(self._ends())), timeout_s=NEWS_TIMEOUT_S)
        except Refused as error:
            if contact is not None and error.code == Code.NOT_GRANTED and self._node.contacts.directory.with_id(contact.id) is not None:
                if contact.id not in self._shut_out:
                    log.warning("for the contact %s this formation is none (any more): it refuses what is asked of it", contact.name)
                self._shut_out.add(contact.id)
            raise
        if contact is not None and contact.id in self._shut_out:
            self._shut_out.discard(contact.id)
            self._node.mail.post.try_again()
            self._node.wires.look()

    def is_shut_out(self, contact: Contact) -> bool:
        """Whether we are no contact there, as its nodes said last."""
        return contact.id in self._shut_out

    def _ends(self) -> list[bytes]:
        """Our own grant, which may be newer than the one that we showed, and whose membership here was ended."""
        rows = [row for kind in ("revocation", "departure") for row in self._node.ports.store.of_kind(kind)]
        newest = sorted(rows, key=lambda row: (row.stamp, row.hash), reverse=True)[:NEWS_RECORDS_MAX]
        return [*filter(None, [self._node.trust.grant_to_show()]), *(row.signed for row in newest)]

    def hear(self, link: Link, request: NewsRequest) -> None:
        """A contact says that something is new there."""
        contact = self._node.contacts.of_peer(link.peer) if link.peer is not None else None
        if contact is None:
            raise Refused("news are taken from contacts alone", code=Code.NOT_GRANTED)
        if contact.id in self._shut_out:  # who tells us news may have us as a contact again
            self._node.spawn(self._tell(link))
        self._take(contact, link, request.records[: NEWS_RECORDS_MAX + 1])
        self._node.household.refresh()  # who is out there is out here
        if contact.id in self._wake:
            self._wake[contact.id].set()


def _seen(task: asyncio.Task[Link]) -> None:
    """Whoever waited for it has seen how it ended; where nobody did, it is no news."""
    if not task.cancelled():
        task.exception()


_SHOW = "`skerry contact show` says how it stands"
_ADDRESS = "give it one: skerry contact add NAME tcp://HOST:PORT"
