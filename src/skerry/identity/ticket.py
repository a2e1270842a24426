"""The invitation text: `skerry1` and then base32 in lower case, with a checksum over all of it.

A ticket holds the formation's id, the inviter's id and addresses, and a secret that the inviter knows only by its hash. It is a
secret itself until it is spent. A use is bound to the id of the node that joins, so that a join repeated after a crash gets the same
grant again and costs no second use.

The rule: an altered, cut or mistyped ticket is noticed before anything is dialled.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from blake3 import blake3

from skerry.errors import Code, ProtocolError, SkerryError, UsageError
from skerry.identity.codec import decode, encode
from skerry.identity.grants import Role
from skerry.identity.keys import KEY_BYTES

PREFIX = "skerry1"
SECRET_BYTES = 16  # guessed never; short enough for a text that people paste
CHECKSUM_BYTES = 4  # against slips, not against attackers: the secret is for those
ADDRESSES_MAX = 16
ADDRESS_CHARACTERS_MAX = 300
TICKET_CHARACTERS_MAX = 8192  # 16 addresses of 300 characters take 8,100
USES_MAX = 100_000
LIFETIME_MS = 60 * 60 * 1000
LIFETIME_MS_MAX = 366 * 24 * LIFETIME_MS
_SECRET_DOMAIN = b"skerry/ticket/1:"


class TicketKind(StrEnum):
    JOIN = "join"  # the formation, as a node or a client
    CONTACT = "contact"  # become a contact of the formation


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an invitation says. `addresses` are tried in their order."""

    formation: bytes
    inviter: bytes
    addresses: tuple[str, ...]
    secret: bytes = field(repr=False)
    kind: TicketKind = TicketKind.JOIN

    def __str__(self) -> str:
        what_for = [] if self.kind is TicketKind.JOIN else [self.kind.value]
        body = encode([self.formation, self.inviter, list(self.addresses), self.secret, *what_for])
        checked = body + _checksum(body)
        return PREFIX + base64.b32encode(checked).decode().rstrip("=").lower()


def parse_ticket(text: str, *, kind: TicketKind = TicketKind.JOIN) -> Ticket:
    """A ticket of that kind. Raises UsageError(bad_ticket) that says what is wrong with the text."""
    text = "".join(text.split())
    if not text.isascii() or not text.lower().startswith(PREFIX):
        raise _bad(f"a ticket starts with {PREFIX!r}, this text with {text[:12]!r}")
    if len(text) > TICKET_CHARACTERS_MAX:
        raise _bad(f"the ticket has {len(text)} characters, at most {TICKET_CHARACTERS_MAX} are possible")
    body = text[len(PREFIX) :].upper()
    try:
        checked = base64.b32decode(body + "=" * (-len(body) % 8))
    except ValueError:
        raise _bad("the ticket has characters that no ticket has") from None
    if base64.b32encode(checked).decode().rstrip("=") != body or len(checked) <= CHECKSUM_BYTES:
        raise _bad("the ticket is cut short")
    if _checksum(checked[:-CHECKSUM_BYTES]) != checked[-CHECKSUM_BYTES:]:
        raise _bad("the ticket's checksum does not fit: it was altered, or a part is missing")
    try:
        value = decode(checked[:-CHECKSUM_BYTES])
    except ProtocolError as error:
        raise _bad(f"the ticket holds no invitation ({error})") from None
    ticket = _ticket(value)
    if ticket.kind is kind:
        return ticket
    if ticket.kind is TicketKind.CONTACT:
        raise UsageError("this ticket makes two formations contacts: nobody joins with it", code=Code.BAD_TICKET, hint=_ACCEPT)
    raise UsageError("this ticket is for joining the formation, not for a contact", code=Code.BAD_TICKET, hint=_INVITE_CONTACT)


def _ticket(value: Any) -> Ticket:
    match value:
        case [bytes(formation), bytes(inviter), list(addresses), bytes(secret), *what_for] if what_for in ([], [TicketKind.CONTACT.value]):
            sizes = len(formation) == KEY_BYTES and len(inviter) == KEY_BYTES and len(secret) == SECRET_BYTES
            texts = 0 < len(addresses) <= ADDRESSES_MAX and all(
                isinstance(a, str) and 0 < len(a) <= ADDRESS_CHARACTERS_MAX for a in addresses
            )
            if sizes and texts:
                return Ticket(formation, inviter, tuple(addresses), secret, TicketKind(what_for[0]) if what_for else TicketKind.JOIN)
    raise _bad("the ticket is of a kind that this version of Skerry does not know")


def _bad(what: str) -> UsageError:
    return UsageError(
        what,
        code=Code.BAD_TICKET,
        hint="copy the whole ticket again, or ask for a new one: `skerry node invite` or `skerry contact invite`",
    )


def _checksum(body: bytes) -> bytes:
    return blake3(PREFIX.encode() + body).digest()[:CHECKSUM_BYTES]


def hash_secret(secret: bytes) -> bytes:
    """What the inviter stores: 32 bytes from which the secret can't be had back."""
    return blake3(_SECRET_DOMAIN + secret).digest()


# --- the inviter's side -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the inviter remembers of a ticket: never the secret. `used_by` are the nodes that joined with it, `used_at` the inviter's
    stamps of these uses."""

    secret_hash: bytes
    role: Role
    uses: int
    expires_ms: int
    used_by: tuple[bytes, ...] = ()
    used_at: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        return encode([self.secret_hash, self.role.value, self.uses, self.expires_ms, list(self.used_by), list(self.used_at)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Invitation:
        """Raises ProtocolError where it is damaged."""
        match decode(data, size_bytes_max=USES_MAX * 48):
            case [bytes(secret_hash), str(role), int(uses), int(expires_ms), [*used_by], [*used_at]] if (
                role in tuple(Role) and _all(bytes, used_by) and _all(int, used_at) and len(used_by) == len(used_at)
            ):
                return cls(secret_hash, Role(role), uses, expires_ms, tuple(used_by), tuple(used_at))
        raise ProtocolError("what was kept of a ticket is damaged", code=Code.BAD_TICKET)

    def was_used(self, joiner: bytes, *, after: int) -> bool:
        """Whether that node joined with it, later than the stamp `after`."""
        return any(node == joiner and at >= after for node, at in zip(self.used_by, self.used_at, strict=True))


def _all(kind: type, values: list[Any]) -> bool:
    return all(type(value) is kind for value in values)


def redeem(invitation: Invitation | None, joiner: bytes, *, now_ms: int, stamp: int = 0, departed: int = 0) -> Invitation | SkerryError:
    """The invitation after `joiner` used it, or why it may not. A joiner that used it already may again, also when it is spent: a join
    that was cut is repeated.

    stamp      of this use; departed: the stamp of the joiner's departure, 0 where there is none: uses before it count no more
    """
    if invitation is None:
        return UsageError("the inviter does not know this ticket", code=Code.TICKET_UNKNOWN, hint=_ASK)
    if invitation.was_used(joiner, after=departed):
        return invitation
    if now_ms > invitation.expires_ms:
        ago = (now_ms - invitation.expires_ms) // 1000
        return UsageError(f"the ticket expired {ago} s ago by the inviter's clock", code=Code.TICKET_EXPIRED, hint=_ASK)
    if len(invitation.used_by) >= invitation.uses:
        return UsageError(f"the ticket is spent: it was good for {invitation.uses} use(s)", code=Code.TICKET_SPENT, hint=_ASK)
    return replace(invitation, used_by=(*invitation.used_by, joiner), used_at=(*invitation.used_at, stamp))


_COPY = "copy the whole ticket again, or ask for a new one: `skerry node invite`, or `skerry contact invite`"
_ACCEPT = "at the other formation: skerry contact accept TICKET --name NAME"
_INVITE_CONTACT = "ask for one of `skerry contact invite`; to join with this one: skerry join TICKET"
_ASK = "ask for a new one: `skerry node invite` at the inviter's"
