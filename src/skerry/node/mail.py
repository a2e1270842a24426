"""Letters of one node: what its agents and clients send, and what its agents are sent.

    sender ──▶ outbox ──▶ carrier ─── mail.deliver ───▶ mailbox ──▶ worker's handler
                 ▲                                          │
                 └──── gone once it was handled ◀── one commit: state, cursor, what the handler sent

The rule: what came of a letter, that it was handled, and what its handler sent stand in one commit, and the sender hears of it after that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skerry.agents.launch import state_facts
from skerry.agents.letters import (
    HANDLER_S,
    LETTER_BYTES_MAX,
    HearReply,
    Letter,
    MeshSendReply,
    MeshSendRequest,
    Outgoing,
    session_of,
    shown_session,
)
from skerry.agents.mailbox import CURSORS, Mailbox
from skerry.agents.profile import Status
from skerry.agents.resident import Resident
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, ProtocolError, Refused, SkerryError, StorageError, Unreachable
from skerry.identity.codec import unpack
from skerry.identity.keys import KeyPair
from skerry.node.addressees import DEAF, address_of, target_of
from skerry.node.intake import Intake
from skerry.node.undelivered import Undelivered
from skerry.ports import Fact, backoff
from skerry.wiring.outbox import Entry, Outbox, Target, forgotten
from skerry.wiring.post import BATCH_LETTERS, Post
from skerry.wiring.verbs import DeliverReply, DeliverRequest, SendReply, SendRequest
from skerry.wiring.vouchers import Vouchers

if TYPE_CHECKING:
    from skerry.node.node import Node

DELIVER_TIMEOUT_S = 90.0  # for a batch to be handled over there
REACH_S = 5.0  # to find the way there
HEAR_TIMEOUT_S = 2 * HANDLER_S + 10.0  # for a batch at the worker: its wait for a place, and the last of its letters
ROOM_S = 10.0  # how long a sender waits for room in its session
RETRY_FIRST_S = 0.1  # until letters are handed to a worker again that could not take them, doubling to
RETRY_MOST_S = 5.0
AWAY = frozenset({Status.STOPPED, Status.FAILED})  # it will not handle anything before somebody starts it
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: an id that is its own, how the receiver may address it, and where replies go (`Letter.reply_to`). `key`: of an agent."""

    id: bytes
    shown: str
    reply_to: str = ""
    key: KeyPair | None = None


@dataclass(slots=True)
class _Box:
    """One agent's mailbox, and who waits for which letter of which session to be handled."""

    letters: Mailbox
    waiting: list[tuple[str, int, asyncio.Future[None]]] = field(default_factory=list)
    pump: asyncio.Task[None] | None = None
    alone: int = 0  # so many letters go one by one: one of them ended the process, nobody knows which


class Mail:
    """One node's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.outbox = Outbox(node.ports.store)
        self.undelivered = Undelivered(node, self.outbox)
        self.post = Post(
            self.outbox,
            deliver=self._deliver,
            random=node.ports.random,
            done=self._handled_there,
            failed=self.undelivered.put_aside,
            passed=self._renumber,
        )
        self.intake = Intake(node)
        self._boxes: dict[str, _Box] = {}
        self._vouchers = Vouchers(node.key.public)
        self._written: list[tuple[Entry, asyncio.Future[None]]] = []  # since the last turn of the loop, and who waits for it

    def start(self) -> None:
        self.undelivered.start()
        self.post.start()

    async def close(self) -> None:
        await self.post.close()
        pumps = [box.pump for box in self._boxes.values() if box.pump is not None]
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    def forget(self, agent: str) -> None:
        """An agent is no more, nor are its cursors: who waits for it is told."""
        box = self._boxes.pop(agent, None)
        if box is not None:
            if box.pump is not None:
                box.pump.cancel()
            _fail(box, Refused("the agent was removed", code=Code.UNKNOWN_MEMBER))

    # --- sending --------------------------------------------------------------------------------------------------------------

    async def send(self, sender: Sender, to: str, content: bytes, *, urgent: bool) -> SendReply:
        """Put a letter into the outbox. Raises Refused where nobody of that address is known, or there is no room."""
        target = await self._find(to, content)
        # the same people may write by several nodes: each has an order of its own
        session = session_of(sender.id + self._node.key.public, target.agent, urgent=urgent)
        await self.post.room(session, timeout_s=ROOM_S)
        entry = self._write(sender, session, target, content)
        await self._kept_with_others(entry)
        return SendReply(shown_session(session), entry.letter.id)

    async def send_for(self, resident: Resident, request: MeshSendRequest) -> MeshSendReply:
        """`mesh.send`: an agent of ours sends."""
        target = await self._find(request.to, request.content)
        sender = self._sender(resident)
        session = session_of(sender.id, target.agent, urgent=request.urgent)
        await self.post.room(session, timeout_s=ROOM_S)
        if not request.only_look:
            await self._kept_with_others(self._write(sender, session, target, request.content))
        return MeshSendReply(shown_session(session), address_of(target))

    async def send_asked(self, request: SendRequest, *, caller: bytes) -> SendReply:
        """`mail.send`: a client, or the owner of the machine, whose every connection has another key, sends."""
        identity = caller if self._node.trust.standing(caller).belongs else self._node.key.public
        return await self.send(Sender(identity, self._node.settings.name), request.to, request.content, urgent=request.interrupt)

    def keep(self, resident: Resident, facts: list[Fact], sent: list[Outgoing]) -> None:
        """What a handler left behind, in one commit. Raises StorageError or Refused: then none of it is there."""
        self.kept(facts, self._outgoing(resident, sent))

    def _outgoing(self, resident: Resident, sent: list[Outgoing]) -> list[Entry]:
        sender = self._sender(resident)
        if any(len(one.content) > LETTER_BYTES_MAX for one in sent):
            raise Refused(f"the agent {resident.spec.name!r} sends letters that are too large", code=Code.TOO_LARGE)
        self.outbox.check_held([one.content for one in sent])
        targets = [target_of(one.to) for one in sent]  # all of them, before the first is written
        return [
            self._write(sender, session_of(sender.id, target.agent, urgent=one.urgent), target, one.content)
            for one, target in zip(sent, targets, strict=True)
        ]

    def _write(self, sender: Sender, session: str, target: Target, content: bytes) -> Entry:
        now_ms = self._node.ports.clock.now_ms()
        return self.outbox.write(
            session,
            target,
            sender=sender.shown,
            reply_to=sender.reply_to,
            content=content,
            now_ms=now_ms,
            voucher=self._vouchers.of(sender.key, session) if sender.key is not None else sender.id,
        )

    async def _kept_with_others(self, entry: Entry) -> None:
        """Into one commit go all letters that are sent in the same moment. Raises StorageError: then none of them is there."""
        loop = asyncio.get_running_loop()
        if not self._written:
            loop.call_soon(self._keep_written)
        kept: asyncio.Future[None] = loop.create_future()
        self._written.append((entry, kept))
        await asyncio.shield(kept)

    def _keep_written(self) -> None:
        if self._written:
            with suppress(StorageError):  # whoever sent hears of it
                self.kept([], [])

    def kept(self, facts: list[Fact], entries: list[Entry]) -> None:
        """In one commit, with what was sent before and waits for one: its places in the sessions come first."""
        written, self._written = self._written, []
        entries = [*(entry for entry, _ in written), *entries]
        try:
            self._node.ports.store.keep_together([*facts, *self.outbox.facts(entries)])
        except StorageError as error:
            self.outbox.forgo(entries)
            for _, kept in written:
                kept.set_exception(error)
                kept.exception()  # whoever sent may be gone
            raise
        for entry in entries:
            self.outbox.note(entry)
            self.post.carry(entry.letter.session)
        for _, kept in written:
            kept.set_result(None)

    def _sender(self, resident: Resident) -> Sender:
        node = self._node
        key = resident.key
        reply_to = f"{resident.spec.id}@{node.key.public.hex()}" if resident.hears is not False else ""
        return Sender(key.public, f"{node.settings.name}/{resident.spec.name}", reply_to, key)

    async def _find(self, to: str, content: bytes) -> Target:
        if len(content) > LETTER_BYTES_MAX:
            raise Refused(
                f"a letter of {len(content)} bytes, where at most {LETTER_BYTES_MAX} are taken",
                code=Code.TOO_LARGE,
                hint="send where it can be fetched, or have it done as a task: `skerry call`",
            )
        try:
            unpack(content)
        except ProtocolError as error:
            raise Refused(f"nobody could read this letter: {error.message}", code=Code.BAD_PAYLOAD, hint="send plain values") from error
        target = await self._node.addressees.find(to)
        resident = self._node.host.get(target.agent) if not target.formation else None
        if resident is not None:
            _check_hears(resident)
        return target

    # --- delivering -----------------------------------------------------------------------------------------------------------

    async def _deliver(self, target: Target, letters: list[Letter]) -> int:
        node = self._node
        if not target.formation and target.node == node.key.public:
            return await self.take(target.agent, letters)
        link = await node.addressees.link_to(target, timeout_s=REACH_S)
        request = DeliverRequest(target.agent, letters, self.outbox.voucher(letters[0].session))
        try:
            body = await link.call("mail.deliver", pack_message(request), timeout_s=DELIVER_TIMEOUT_S)
        except Refused as error:
            if error.code != Code.NOT_GRANTED or target.formation:
                raise
            raise Unreachable(f"a node of ours does not know us yet: {error.message}") from error  # it has not heard of our grant
        return unpack_message(DeliverReply, body).handled

    def _handled_there(self, letters: list[Letter]) -> None:
        """They leave the disk with the next commit; where that is lost, they are offered again and known over there."""
        for space, key, value in forgotten(letters):
            with suppress(StorageError):  # a full disk: the same
                self._node.ports.store.set_fact(space, key, value)
        self._node.commit_soon()

    def _renumber(self, session: str, up_to: int) -> bool:
        """This home came back with less than it said: what it wrote since goes behind that."""
        entries, facts = self.outbox.renumber(session, up_to)
        try:
            self._node.ports.store.keep_together(facts)
        except StorageError as full:
            log.warning("%d letters wait for a disk that takes them: %s", len(entries), full)
            return False
        self.outbox.renumbered(session, entries)
        log.warning("%d letters of a home that came back from a backup have new numbers", len(entries))
        return True

    # --- receiving ------------------------------------------------------------------------------------------------------------

    async def serve(self, request: DeliverRequest, *, caller: bytes) -> DeliverReply:
        """`mail.deliver`."""
        letters = self.intake.checked(request, caller=caller)
        return DeliverReply(await self.take(request.agent, letters, is_foreign=bool(request.contact)))

    async def take(self, agent: str, letters: list[Letter], *, is_foreign: bool = False) -> int:
        """Letters of one session for an agent of this node. Returns up to which they are handled, once they all are. Raises Refused or
        Unreachable where that can't be now."""
        if not self._node.running:
            raise Refused("the node starts or ends", code=Code.SHUTTING_DOWN, hint="try again in a moment")
        resident = self._node.host.get(agent)
        if resident is None:
            raise Refused(f"the agent {agent[:10]} is not on this node any more", code=Code.UNKNOWN_MEMBER)
        if not letters:
            raise Refused("no letters to deliver", code=Code.BAD_PAYLOAD)
        session = letters[0].session
        if any(letter.session != session or not letter.is_sound for letter in letters):
            raise Refused("letters of several sessions, or out of their bounds", code=Code.BAD_PAYLOAD)
        if resident.status in AWAY:
            raise Unreachable(f"the agent {resident.spec.name!r} is {resident.status.value}", code=Code.AGENT_RESTARTING)
        _check_hears(resident)
        box = self._box(resident)
        box.letters.take(letters, is_foreign=is_foreign)
        last = max(letter.seq for letter in letters)
        if box.letters.cursor(session) < last:
            self._pump(agent, box)
            handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            box.waiting.append((session, last, handled))
            try:
                await handled
            finally:
                box.waiting = [one for one in box.waiting if one[2] is not handled]
        return box.letters.cursor(session)

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Letters by the id of the agent that they are for, as far as this node knows: how many wait, how many were put aside."""
        waiting = Counter(self.outbox.waiting())
        for agent, box in self._boxes.items():  # beside those of our own senders, which are in the outbox until they are handled
            waiting[agent] += box.letters.count(lambda session: self.outbox.target(session) is None)
        return {agent: count for agent, count in waiting.items() if count}, self.undelivered.aside.counts()

    def _box(self, resident: Resident) -> _Box:
        agent = resident.spec.id
        if agent not in self._boxes:
            self._boxes[agent] = _Box(Mailbox(resident.spec.name, self._node.ports.store.facts(CURSORS + agent)))
        return self._boxes[agent]

    def _pump(self, agent: str, box: _Box) -> None:
        if box.pump is None or box.pump.done():
            box.pump = asyncio.get_running_loop().create_task(self._hand_on(agent, box))

    async def _hand_on(self, agent: str, box: _Box) -> None:
        """Hand an agent its letters for as long as there are any."""
        waits = backoff(self._node.ports.random, first_s=RETRY_FIRST_S, most_s=RETRY_MOST_S)
        while len(box.letters):
            resident = self._node.host.get(agent)
            if resident is None:
                return
            batch = box.letters.next(1 if box.alone else BATCH_LETTERS)
            try:
                reply = await resident.hear(batch, timeout_s=HEAR_TIMEOUT_S)
                progress = self._heard(resident, box, batch, reply)
            except asyncio.CancelledError:
                box.letters.put_back(batch)
                raise
            except SkerryError as error:
                progress = self._not_heard(resident, box, batch, error)
            if progress:
                waits = backoff(self._node.ports.random, first_s=RETRY_FIRST_S, most_s=RETRY_MOST_S)
            else:
                await asyncio.sleep(next(waits))

    def _heard(self, resident: Resident, box: _Box, batch: list[Letter], reply: HearReply) -> bool:
        """The worker answered. Returns whether anything was handled."""
        now_ms = self._node.ports.clock.now_ms()
        done, aside = batch[: max(reply.handled, 0)], []
        if reply.failed and not 0 <= reply.failed_at < len(batch):
            box.alone = max(box.alone, len(batch))  # one of them, nobody knows which
        elif reply.failed and not reply.busy:
            letter = batch[reply.failed_at]
            if box.letters.failed(letter, now_ms=now_ms, passing=reply.passing) and reply.failed_at == reply.handled:
                done = [*done, letter]
                aside = [self.undelivered.unhandled(resident, letter, reply.failed)]
        space = CURSORS + resident.spec.id
        cursors: list[Fact] = [(space, session, data) for session, data in box.letters.after(done, now_ms=now_ms)]
        try:
            facts = [*state_facts(resident.spec.id, reply.state), *cursors, *self.undelivered.aside.facts(aside)]
            self.kept(facts, self._outgoing(resident, list(reply.sent)))
        except (StorageError, Refused) as error:  # a full disk, or a worker that sends what can't be
            box.letters.put_back(batch)
            resident.start_again(f"what its letters changed can't be kept: {error.message}")
            return False
        box.letters.put_back(batch[len(done) :])
        box.letters.handled(done, now_ms=now_ms)
        self.undelivered.note(aside)
        box.alone = max(box.alone - len(done), 0)
        for session, seq, handled in box.waiting:
            if box.letters.cursor(session) >= seq and not handled.done():
                handled.set_result(None)
        with suppress(StorageError):  # those that stay are dropped another time
            for session in box.letters.surplus():
                self._node.ports.store.set_fact(space, session, None)
        return bool(done)

    def _not_heard(self, resident: Resident, box: _Box, batch: list[Letter], error: SkerryError) -> bool:
        """The worker could not take them, or ended with them."""
        if isinstance(error, Unreachable) and error.outcome_unknown:
            box.alone = max(box.alone, len(batch))
            if error.code == Code.DEADLINE_EXCEEDED:
                resident.start_again("it did not end with its letters in time")
            if len(batch) == 1 and box.letters.failed(batch[0], now_ms=self._node.ports.clock.now_ms()):
                return self._heard(resident, box, batch, HearReply(0, failed=error.message))
        box.letters.put_back(batch)
        log.debug("letters wait at the agent %s: %s", resident.spec.name, error)
        return False


def _check_hears(resident: Resident) -> None:
    if resident.hears is False:
        raise Refused(f"the agent {resident.spec.name!r} takes no letters", code=Code.NO_COMMS, hint=DEAF)


def _fail(box: _Box, error: SkerryError) -> None:
    for _, _, handled in box.waiting:
        if not handled.done():
            handled.set_exception(error)
            handled.exception()  # whoever waited may be gone at this very moment
