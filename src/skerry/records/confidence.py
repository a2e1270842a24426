"""What the nodes of one formation tell each other and nobody else: who its contacts are, and to whom each agent is shared.

Both are statements, signed like records, with a stamp that decides which one counts; but they are no records: they lie among the node's
private facts and travel by verbs that only members may use (`private.pull`, `private.push`). There are few of them, so two nodes compare
one digest, and where it differs they hand over all.

    contact   name: the contact's id; body: its entry, empty when it was removed. An operator's word: whoever else signs one says nothing
    share     name: the agent's id; body: to whom its node gives it, who had it before, and the tombstone for those

The rule: who may have something of ours is known to our nodes alone. `now_ms` is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from blake3 import blake3

from skerry.errors import Code, ProtocolError, UsageError
from skerry.identity.contacts import CONTACTS_MAX, NAME_CHARACTERS_MAX, Contact, parse_contact
from skerry.identity.grants import DAY_MS, NEVER_MS, Roster
from skerry.identity.keys import KEY_BYTES, KeyPair
from skerry.identity.stamps import next_stamp, stamp_ms, too_far_ahead
from skerry.identity.statement import Statement, parse, parse_unverified, state
from skerry.ports import Store
from skerry.records.record import TOMBSTONE_MS, Refusal, Rejection, expired, wins

CONTACT = "contact"
SHARE = "share"
FACTS = "confidence"  # the space of facts
SIZE_BYTES_MAX = 24 * 1024  # an agent that 256 contacts have, and as many had, with the tombstone
AUTHOR_MAX = {CONTACT: 2 * CONTACTS_MAX, SHARE: 512}  # names that one author may have here
REMOVED_MS = 366 * DAY_MS  # how long it is known that a contact was removed: a node that was away for longer may bring it back
SHARE_MS = 90 * DAY_MS  # renewed at half of it
SHOWN_CHARACTERS = NAME_CHARACTERS_MAX - 5  # of a name that gets a suffix
SUFFIX_CHARACTERS = 4  # of two contacts with one name the younger shows as name~a1b2

Watcher = Callable[[Statement], None]


class Confidence:
    """The private statements of one formation, as one node knows them."""

    def __init__(self, store: Store, key: KeyPair, *, formation: bytes, roster: Roster) -> None:
        self._store = store
        self._key = key
        self._formation = formation
        self._roster = roster
        self._watchers: list[Watcher] = []
        self._held: dict[tuple[bytes, str, str], Statement] = {}
        self._last_stamp = 0
        for _, signed in store.facts(FACTS):
            statement = parse_unverified(signed)[0]
            with suppress(ProtocolError, UsageError):  # an older release may have taken in what this one refuses
                _check(statement)
                self._note(statement)

    def watch(self, watcher: Watcher) -> None:
        self._watchers.append(watcher)

    # --- in -------------------------------------------------------------------------------------------------------------------

    def say(self, kind: str, name: str, body: dict[str, Any], *, expires: int, now_ms: int) -> Statement:
        """Sign a statement and keep it; whoever calls tells the others."""
        stamp = next_stamp(self._last_stamp, now_ms=now_ms)
        said = state(
            self._key, kind=kind, name=name, formation=self._formation, audience="formation", stamp=stamp, expires=expires, body=body
        )
        if len(said.signed) > SIZE_BYTES_MAX:
            raise UsageError("there is too much in it to tell the other nodes", code=Code.TOO_LARGE, hint="give fewer addresses or rights")
        self._keep(said)
        return said

    def ingest(self, signed: bytes, *, now_ms: int) -> Statement | Refusal:
        """Take in what another node of ours told. May raise StorageError."""
        try:
            told = parse(signed, size_bytes_max=SIZE_BYTES_MAX)
        except ProtocolError as error:
            return Refusal(Rejection.TOO_LARGE if error.code == Code.TOO_LARGE else Rejection.MALFORMED, error.message)
        held = self._held.get(told.identity)
        if held is not None and not wins(told, held.stamp, held.hash):
            return Refusal(Rejection.SUPERSEDED, "a newer one is here already")
        refusal = self._refusal(told, now_ms=now_ms, known=held is not None)
        if refusal is not None:
            return refusal
        self._keep(told)
        return told

    def _refusal(self, told: Statement, *, now_ms: int, known: bool) -> Refusal | None:
        if told.kind not in AUTHOR_MAX or told.audience != "formation":
            return Refusal(Rejection.UNKNOWN_KIND, f"statements of kind {told.kind!r} are not told in confidence")
        if told.formation != self._formation:
            return Refusal(Rejection.WRONG_FORMATION, "it is of another formation")
        if too_far_ahead(told.stamp, now_ms=now_ms):
            return Refusal(Rejection.TOO_FAR_AHEAD, "it is of the future: a clock is off by more than 5 minutes")
        if expired(told.expires, now_ms=now_ms):
            return Refusal(Rejection.EXPIRED, "its time is over")
        if not self._roster.knows(told.author):
            return Refusal(Rejection.NOT_GRANTED, "no grant of its author is known here")
        same = sum(author == told.author and kind == told.kind for author, kind, _ in self._held)
        if not known and same >= AUTHOR_MAX[told.kind]:
            return Refusal(Rejection.OVER_QUOTA, f"its author has {same} of them here already")
        try:
            _check(told)
        except (ProtocolError, UsageError) as error:
            return Refusal(Rejection.MALFORMED, error.message)
        return None

    def _keep(self, statement: Statement) -> None:
        self._store.set_fact(FACTS, _fact_key(statement), statement.signed, durable=True)
        self._note(statement)
        for watcher in self._watchers:
            watcher(statement)

    def _note(self, statement: Statement) -> None:
        self._held[statement.identity] = statement
        self._last_stamp = max(self._last_stamp, statement.stamp)

    def purge(self, *, now_ms: int) -> int:
        """Forget what is over, and what those said whom nobody knows any more; returns how many."""
        gone = [s for s in self._held.values() if expired(s.expires, now_ms=now_ms) or not self._roster.knows(s.author)]
        for statement in gone:
            self._store.set_fact(FACTS, _fact_key(statement), None)
            del self._held[statement.identity]
        return len(gone)

    # --- out ------------------------------------------------------------------------------------------------------------------

    def digest(self) -> bytes:
        """32 bytes for all that is known, so that two nodes see at once whether they know the same."""
        return blake3(b"".join(sorted(statement.hash for statement in self._held.values()))).digest()

    def all(self) -> list[bytes]:
        """Everything, as signed."""
        return [statement.signed for _, statement in sorted(self._held.items())]

    def of_kind(self, kind: str) -> list[Statement]:
        """What anybody of ours said, in the order of authors and names."""
        return [s for _, s in sorted(self._held.items()) if s.kind == kind]

    def own(self, kind: str) -> list[Statement]:
        """What this node itself said, in the order of names."""
        return [s for _, s in sorted(self._held.items()) if s.author == self._key.public and s.kind == kind]

    def by(self, author: bytes, kind: str) -> list[Statement]:
        return [s for _, s in sorted(self._held.items()) if s.author == author and s.kind == kind]

    def contacts(self) -> list[Contact]:
        """The contacts of the formation, as its operators have it: of each the newest word counts."""
        newest: dict[str, Statement] = {}
        for statement in self._held.values():
            if statement.kind == CONTACT and self._roster.was_operator_at(statement.author, statement.stamp):
                known = newest.get(statement.name)
                if known is None or wins(statement, known.stamp, known.hash):
                    newest[statement.name] = statement
        living = sorted((s for s in newest.values() if not s.tombstone), key=lambda s: (s.stamp, s.hash))
        taken: set[str] = set()
        contacts: list[Contact] = []
        for statement in living[:CONTACTS_MAX]:
            contact = _contact(statement)
            if contact.name in taken:
                contact = replace(contact, name=f"{contact.name[:SHOWN_CHARACTERS]}~{statement.name[:SUFFIX_CHARACTERS]}")
            taken.add(contact.name)
            contacts.append(contact)
        return contacts

    def gives(self, author: bytes, name: str, contact: bytes) -> bool:
        """Whether an agent's node gives it to that contact (`abroad.ShareLists`)."""
        said = self._held.get((author, SHARE, name))
        return said is not None and contact in said.body.get("to", [])

    def taken_back(self, author: bytes, name: str, contact: bytes) -> bytes | None:
        """The tombstone for a contact (empty: for anybody) that had an agent (`abroad.ShareLists`)."""
        said = self._held.get((author, SHARE, name))
        if said is None or not said.body.get("tombstone"):
            return None
        had = said.body["anybody"] or contact in said.body["had"]
        tombstone: bytes = said.body["tombstone"]
        return tombstone if had else None


def contact_body(contact: Contact) -> dict[str, Any]:
    """A contact's entry, as a statement has it."""
    allow = contact.allow.texts()
    return {"name": contact.name, "node": contact.is_node, "addresses": list(contact.addresses), "allow": allow}


def contact_key(contact: Contact) -> str:
    """The name of the statement about a contact."""
    return contact.id.hex() if contact.id else f"inproc:{contact.name}"


def share_body(to: Iterable[bytes], *, had: Iterable[bytes], anybody: bool, tombstone: bytes) -> dict[str, Any]:
    """To whom an agent is given; and who had it (`anybody`: it was public) with the tombstone for those."""
    return {"to": sorted(to), "had": sorted(had), "anybody": anybody, "tombstone": tombstone}


def share_expires(to: Iterable[bytes], *, now_ms: int) -> int:
    """A list that gives it to nobody is only kept as long as its tombstone."""
    return now_ms + (SHARE_MS if any(True for _ in to) else TOMBSTONE_MS + DAY_MS)


def is_due(statement: Statement, *, now_ms: int) -> bool:
    """Whether what is still so has to be said again, before its time is over."""
    return statement.expires != NEVER_MS and now_ms >= (stamp_ms(statement.stamp) + statement.expires) // 2


def _contact(statement: Statement) -> Contact:
    """The entry in a statement. Raises UsageError or ProtocolError where it can't be one."""
    body = statement.body
    if set(body) != {"name", "node", "addresses", "allow"} or not isinstance(body["name"], str):
        raise ProtocolError("a contact has a name, node, addresses and allow")
    if statement.name.startswith("inproc:"):
        return parse_contact(body["name"], {"addresses": ["inproc"], "allow": body["allow"]})
    table = {"addresses": body["addresses"], "allow": body["allow"], "node" if body["node"] is True else "formation": statement.name}
    return parse_contact(body["name"], table)


def _check(statement: Statement) -> None:
    """Raises where a statement's body is not of its kind."""
    if statement.tombstone:
        return
    if statement.kind == CONTACT:
        _contact(statement)
        return
    body = statement.body
    if set(body) != {"to", "had", "anybody", "tombstone"} or not isinstance(body["anybody"], bool):
        raise ProtocolError("a share list has to, had, anybody and tombstone")
    for field in ("to", "had"):
        if not isinstance(body[field], list) or not all(isinstance(one, bytes) and len(one) == KEY_BYTES for one in body[field]):
            raise ProtocolError(f"a share list's {field!r} is a list of ids")
    if not isinstance(body["tombstone"], bytes):
        raise ProtocolError("a share list's tombstone is a signed record, or nothing")
    if body["tombstone"]:
        told = parse(body["tombstone"])
        if not told.tombstone or told.identity != (statement.author, "agent", statement.name):
            raise ProtocolError("a share list's tombstone is its own agent's")


def _fact_key(statement: Statement) -> str:
    return f"{statement.kind}/{statement.author.hex()}/{statement.name}"
