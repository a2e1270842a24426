"""Letters that their way ended for: what is shown of them, and their second chance.

A letter is put aside at its sender's node where it can't be delivered, and at its receiver's node where the agent could not handle it.
There it stays until the owner has it tried again, or drops it.

The rule: what is tried again is a new letter behind all others; what it was before is gone in the same commit.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from skerry.agents.letters import Letter, session_of
from skerry.agents.resident import Resident
from skerry.errors import Code, Refused, SkerryError, StorageError
from skerry.identity.stamps import stamp_ms
from skerry.node import views
from skerry.wiring.aside import Aside, Kept, Slip, dropped
from skerry.wiring.outbox import Entry, Outbox, Target, forgotten
from skerry.wiring.verbs import LetterContent, LetterInfo, LetterList

if TYPE_CHECKING:
    from skerry.node.node import Node

SHOWN_MAX = 1000  # letters in one list
UNHANDLED = "unhandled"  # the code of what a handler raised
REASON_CHARACTERS_MAX = 1000
log = logging.getLogger(__name__)


class Undelivered:
    """One node's."""

    def __init__(self, node: Node, outbox: Outbox) -> None:
        self._node = node
        self._outbox = outbox
        self.aside = Aside(node.ports.store)

    def start(self) -> None:
        """Say what a former life left."""
        self._warn()

    # --- they come --------------------------------------------------------------------------------------------------------------

    def put_aside(self, session: str, error: SkerryError, most: int) -> None:
        """The oldest letters of a session can't be delivered."""
        entries = self._outbox.give_up(session, most=most)
        now_ms = self._node.ports.clock.now_ms()
        reason = error.message[:REASON_CHARACTERS_MAX]
        kept = [Kept(one.letter, str(error.code), reason, one.target, now_ms, voucher=one.voucher) for one in entries]
        for entry in entries:
            log.warning("the letter %s of %s can't be delivered: %s", entry.letter.id, entry.letter.sender, error.message)
        try:
            self._node.ports.store.keep_together([*self.aside.facts(kept), *forgotten([entry.letter for entry in entries])])
        except StorageError as full:
            log.error("what can't be delivered can't be put aside either: %s", full)
        else:
            self.note(kept)

    def unhandled(self, resident: Resident, letter: Letter, reason: str) -> Kept:
        """An agent of ours could not handle it. It is kept with the cursor that passes it; then `note` is called."""
        log.error("the letter %s of %s is put aside after its last try: %s", letter.id, letter.sender, reason)
        target = Target(resident.spec.id, self._node.key.public)
        return Kept(letter, UNHANDLED, reason[:REASON_CHARACTERS_MAX], target, self._node.ports.clock.now_ms(), taken=True)

    def note(self, kept: list[Kept]) -> None:
        """They are on the disk."""
        if kept:
            self.aside.note(kept)
            self._warn()

    # --- for people -------------------------------------------------------------------------------------------------------------

    def listed(self, limit: int) -> LetterList:
        names = self._names()
        most = max(min(limit, SHOWN_MAX), 0)
        aside = [self._aside_info(slip, names) for slip in self.aside.slips()[:most]]
        waiting = [self._waiting_info(entry, names) for entry in self._outbox.oldest(most - len(aside))]
        return LetterList([*aside, *waiting], len(self._outbox), len(self.aside))

    def shown(self, letter_id: str) -> LetterContent:
        names = self._names()
        for entry in self._outbox.oldest(len(self._outbox)):
            if entry.letter.id == letter_id:
                return LetterContent(self._waiting_info(entry, names), entry.letter.content)
        kept = self._read(letter_id)
        slip = next(slip for slip in self.aside.slips() if slip.id == letter_id)
        return LetterContent(self._aside_info(slip, names), kept.letter.content)

    def retry(self, ids: list[str]) -> LetterList:
        """Send them again. Raises Refused at the first that can't be, with those before it sent."""
        names, sent = self._names(), []
        for letter_id in ids or [slip.id for slip in self.aside.slips()]:
            kept = self._read(letter_id)
            entry = self._again(kept)
            self._node.mail.kept([dropped(letter_id)], [entry])
            self.aside.forget(letter_id)
            sent.append(self._waiting_info(entry, names))
        self._warn()
        return LetterList(sent, len(self._outbox), len(self.aside))

    def drop(self, ids: list[str]) -> LetterList:
        """Forget them."""
        names, gone = self._names(), []
        held = {slip.id: slip for slip in self.aside.slips()}
        for letter_id in ids or list(held):
            self._read(letter_id)
            gone.append(self._aside_info(held[letter_id], names))
            self._node.ports.store.keep_together([dropped(letter_id)])
            self.aside.forget(letter_id)
        self._warn()
        return LetterList(gone, len(self._outbox), len(self.aside))

    def _again(self, kept: Kept) -> Entry:
        letter, target, node = kept.letter, kept.target, self._node
        if kept.taken and node.host.get(target.agent) is None:
            raise Refused(f"the agent of the letter {letter.id} is not on this node any more", code=Code.UNKNOWN_MEMBER, hint=_DROP)
        if not target.agent:
            raise Refused(
                f"whom the letter {letter.id} was for is not known: an older release put it aside", code=Code.CONFLICT, hint=_DROP
            )
        # the numbers of a session that another node counts are not ours to give
        taken = session_of(node.key.public + letter.session.encode(), target.agent, urgent=letter.urgent)
        session = taken if kept.taken else letter.session
        self._outbox.check_room(session)
        now_ms = node.ports.clock.now_ms()
        return self._outbox.write(
            session,
            target,
            sender=letter.sender,
            reply_to=letter.reply_to,
            content=letter.content,
            now_ms=now_ms,
            voucher=kept.voucher,
        )

    def _read(self, letter_id: str) -> Kept:
        kept = self.aside.read(letter_id)
        if kept is None:
            raise Refused(f"no letter {letter_id[:100]!r} was put aside here", code=Code.NOT_FOUND, hint="`skerry letter list` shows them")
        return kept

    # --- how they are shown -----------------------------------------------------------------------------------------------------

    def _names(self) -> dict[str, str]:
        """Agents by id, as people address them."""
        node = self._node
        wired = {half.peer.agent: node.wires.shown(half.peer) for half in node.wires.halves()}
        infos = [*views.agents(node), *node.foreign_agents.infos()]
        return wired | {info.id: "/".join(filter(None, (info.contact, info.node_name, info.name))) for info in infos}

    def _waiting_info(self, entry: Entry, names: dict[str, str]) -> LetterInfo:
        letter, to = entry.letter, entry.target.agent
        reason = self._node.mail.post.trouble.get(letter.session, "")
        return LetterInfo(letter.id, letter.sender, names.get(to, to), "waiting", stamp_ms(letter.seq), len(letter.content), reason)

    def _aside_info(self, slip: Slip, names: dict[str, str]) -> LetterInfo:
        to, state = slip.target.agent, "failed" if slip.taken else "undelivered"
        return LetterInfo(slip.id, slip.sender, names.get(to, to), state, slip.at_ms, slip.size_bytes, slip.reason)

    def _warn(self) -> None:
        """Whoever looks at the node sees that there are some."""
        count = len(self.aside)
        if count:
            were = "1 letter was" if count == 1 else f"{count} letters were"
            self._node.warnings["letters"] = f"{were} put aside: `skerry letter list` says why, then `skerry letter retry` or `drop`"
        else:
            self._node.warnings.pop("letters", None)


_DROP = "drop it: skerry letter drop ID"
