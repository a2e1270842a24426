"""To whom this node gives its agents: nobody outside, some contacts, or everybody.

An agent's record says whether it may leave at all (its audience); to which contacts, only our own nodes know (`records/confidence.py`).

The rule: who is dropped hears that the agent is gone, and nothing else; and what is shared is an agent, never a contact's name with it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from skerry.agents.resident import Resident
from skerry.agents.spec import Spec
from skerry.errors import UsageError
from skerry.identity.keys import short
from skerry.identity.statement import Statement, state
from skerry.records.confidence import SHARE, is_due, share_body, share_expires
from skerry.records.record import TOMBSTONE_MS

if TYPE_CHECKING:
    from skerry.node.node import Node

PUBLIC = "public"
NONE = "none"
SHARE_MAX = 256  # contacts that one agent is given to: all that there can be
log = logging.getLogger(__name__)


class Sharing:
    """The share lists of one node's agents, and what follows from those of others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        for statement in node.confidence.of_kind(SHARE):
            node.shared.keep(statement.author, statement.name)

    def resolve(self, names: list[str]) -> list[str]:
        """`public`, or the ids of contacts, from what was asked for. Raises UsageError or Refused for who is none."""
        if len(names) > SHARE_MAX:
            raise UsageError(f"an agent can't be shared with {len(names)} contacts", hint=f"{SHARE_MAX} are possible, or public")
        if NONE in names:
            if len(names) > 1:
                raise UsageError("'none' goes with no other name", hint="leave one of them out")
            return []
        found = []
        for name in names:
            if name == PUBLIC:
                found.append(PUBLIC)
                continue
            contact = self._node.contacts.named(name)
            if contact.inproc:
                raise UsageError(f"the contact {name!r} is this formation itself, which has the agent anyway", hint="leave it out")
            found.append(contact.id.hex())
        return sorted(set(found))

    def names(self, spec: Spec) -> list[str]:
        """To whom, as people say it."""
        shown = []
        for given in spec.share:
            contact = None if given == PUBLIC else self._node.contacts.directory.with_id(bytes.fromhex(given))
            shown.append(given if given == PUBLIC else contact.name if contact is not None else short(given))
        return sorted(shown)

    def audience(self, spec: Spec) -> str:
        """Of an agent's record."""
        return PUBLIC if PUBLIC in spec.share else "contacts" if spec.share else "formation"

    def change(self, resident: Resident, share: list[str]) -> None:
        """Give an agent to these from now on, and to nobody else. `share` as `resolve` has it."""
        before, after = set(resident.spec.share), set(share)
        if before == after:
            return
        self._node.host.keep(resident, replace(resident.spec, share=sorted(after)))
        self._say(resident.spec, before)

    def began(self, spec: Spec, *, before: set[str]) -> None:
        """An agent is new, or in the place of one that was given to those in `before`."""
        if before != set(spec.share):
            self._say(spec, before)

    def forget_contact(self, identity: bytes) -> None:
        """It is no contact any more. One that comes again under that id is given nothing of what this one had."""
        for resident in self._node.host.all():
            if identity.hex() in resident.spec.share:
                self.change(resident, [given for given in resident.spec.share if given != identity.hex()])

    def renew(self) -> None:
        """Say again what is still so and about to be forgotten."""
        now_ms = self._node.ports.clock.now_ms()
        for statement in self._node.confidence.own(SHARE):
            resident = self._node.host.get(statement.name)
            if resident is not None and statement.body.get("to") and is_due(statement, now_ms=now_ms):
                expires = share_expires(statement.body["to"], now_ms=now_ms)
                self._node.confidence.say(SHARE, statement.name, statement.body, expires=expires, now_ms=now_ms)

    def learned(self, statement: Statement) -> None:
        """A list is new here, ours or another node's of our formation: those on it hear of it."""
        self._node.shared.touch(statement.author, statement.name)
        self._node.envoy.spread_news()

    def _say(self, spec: Spec, before: set[str]) -> None:
        """The list, with the tombstone for those who were dropped from it; then the record as it is now, which is newer than that."""
        node, after = self._node, set(spec.share)
        now_ms = node.ports.clock.now_ms()
        held = next((s for s in node.confidence.own(SHARE) if s.name == spec.id), None)
        had = set(held.body["had"]) if held is not None else set()
        anybody = (bool(held.body["anybody"]) if held is not None else False) or PUBLIC in before
        had |= {bytes.fromhex(given) for given in before - {PUBLIC}}
        to = [bytes.fromhex(given) for given in sorted(after - {PUBLIC})]
        had -= set(to)
        tombstone = b""
        if PUBLIC not in after and (had or anybody):
            tombstone = state(
                node.key,
                kind="agent",
                name=spec.id,
                formation=node.formation,
                audience=PUBLIC if anybody else "contacts",
                stamp=node.replica.next_stamp(now_ms=now_ms),
                expires=now_ms + TOMBSTONE_MS,
                body={},
            ).signed
        body = share_body(to, had=list(had)[-SHARE_MAX:], anybody=anybody and PUBLIC not in after, tombstone=tombstone)
        node.confidence.say(SHARE, spec.id, body, expires=share_expires(to, now_ms=now_ms), now_ms=now_ms)
        resident = node.host.get(spec.id)
        if resident is not None:
            node.advertiser.say_agent(resident, anew=True)
