"""Circles: named groups of agents that offer their capabilities together, and what is announced of them.

A circle belongs to a formation: its id is BLAKE3 of the formation's id, the founder's and a nonce, so that no other formation can speak
for it. Its *charter* is said by the node that founded it; its members are agents whose nodes say that they entered, and that the charter
lets in. Each node with a member may speak for the circle: its *announcement* is a record of kind `circle`, signed like every record, and
says what a caller must know, and nothing of who the members are. The keys under which a DHT finds it are those of the seed, so that
others look in the same place.

The rule: an announcement is believed as far as its formation's word goes, for as long as it lives, and no longer. Times are Unix ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from blake3 import blake3

from skerry.agents.capability import kind_of, matches
from skerry.agents.profile import COMES_BACK, WORKS, Status
from skerry.errors import Code, ProtocolError, UsageError
from skerry.identity.statement import Statement

CIRCLE_KIND = "circle"
CHARTER_KIND = "charter"
ENTRY_KIND = "entry"
NONCE_BYTES = 16
TTL_MS = 3_600_000  # the seed's: 3600 s
NAME_CHARACTERS_MAX = 64
DESCRIPTION_CHARACTERS_MAX = 500
MEMBERS_MAX = 10_000
INVITED_MAX = 256
ENTRIES_MAX = 64  # circles that one agent is in
DHT_KEY_BYTES = 20  # what a DHT takes of a key: the first ones
EPOCH_MAX = 2**53
_DOMAIN = b"skerry/circle/1:"
_ANNOUNCEMENT = b"abzu:agent-circle:announcement:"
_CAPABILITY = b"abzu:agent-circle:capability:"


class CircleStatus(StrEnum):
    """How a member stands, as the seed has it: an agent that is paused, starts or is not well is offline for the circle."""

    AVAILABLE = "available"
    BUSY = "busy"
    OFFLINE = "offline"


class CallableBy(StrEnum):
    """Who may give a circle tasks."""

    FORMATION = "formation"
    CONTACTS = "contacts"
    ANYONE = "anyone"


def circle_id(formation: bytes, founder: bytes, nonce: bytes) -> bytes:
    """32 bytes that only that node can have made, for that formation."""
    return blake3(_DOMAIN + formation + founder + nonce).digest()


def announcement_key(circle: bytes) -> bytes:
    """Where the announcement of a circle is looked for: BLAKE3("abzu:agent-circle:announcement:" + id)."""
    return blake3(_ANNOUNCEMENT + circle).digest()


def capability_key(capability: str) -> bytes:
    """Where circles with a capability are looked for: BLAKE3("abzu:agent-circle:capability:" + capability)."""
    return blake3(_CAPABILITY + capability.encode()).digest()


def query_keys(capabilities: Iterable[str]) -> list[bytes]:
    """The keys of some capabilities, and of the queries for all of a kind (`inference:*`), which are looked for in the same way."""
    kinds = [f"{kind_of(capability)}:*" for capability in capabilities if ":" in capability]
    return [capability_key(text) for text in dict.fromkeys((*capabilities, *kinds))]


def status_of(status: Status, *, free: bool = True) -> CircleStatus:
    """What a circle says of an agent with that status; `free`: it would take a task now."""
    if status in WORKS:
        return CircleStatus.AVAILABLE if free else CircleStatus.BUSY
    return CircleStatus.BUSY if status in COMES_BACK else CircleStatus.OFFLINE


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """A member: `pubkey` is the agent's, `node` the one that says all this. `reputation` is what this node thinks of it, and never told."""

    id: str
    pubkey: bytes
    node: bytes = b""
    name: str = ""
    status: CircleStatus = CircleStatus.AVAILABLE
    capabilities: tuple[str, ...] = ()
    idempotent: tuple[str, ...] = ()  # of these, those that may be done twice
    reputation: float = 0.5

    def offers(self, query: str) -> bool:
        return any(matches(query, capability) for capability in self.capabilities)


@dataclass(frozen=True, slots=True)
class Charter:
    """What the founder says of a circle. `invited`: agents (ids) that may enter where it is not open; `revision` rises with each change."""

    name: str
    nonce: bytes
    description: str = ""
    open_membership: bool = False
    callable_by: CallableBy = CallableBy.FORMATION
    public: bool = False
    invited: tuple[str, ...] = ()
    revision: int = 1

    def lets_in(self, agent: str) -> bool:
        return self.open_membership or agent in self.invited

    def body(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "nonce": self.nonce,
            "description": self.description,
            "open": self.open_membership,
            "callable_by": self.callable_by.value,
            "public": self.public,
            "invited": list(self.invited),
            "revision": self.revision,
        }


@dataclass(frozen=True, slots=True)
class AgentCircle:
    """A circle as it stands: what its founder says, and who is in it. `epoch` rises with each change of its members."""

    id: bytes
    formation: bytes
    founder: bytes
    charter: Charter
    members: tuple[AgentProfile, ...] = ()
    epoch: int = 1

    @property
    def name(self) -> str:
        return self.charter.name

    @property
    def capabilities(self) -> tuple[str, ...]:
        return tuple(sorted({capability for member in self.members for capability in member.capabilities}))

    @property
    def idempotent(self) -> tuple[str, ...]:
        """What may be done twice, whichever member does it."""
        once = {capability for member in self.members for capability in member.capabilities if capability not in member.idempotent}
        return tuple(capability for capability in self.capabilities if capability not in once)

    @property
    def available_count(self) -> int:
        return sum(member.status is CircleStatus.AVAILABLE for member in self.members)

    @property
    def roll(self) -> bytes:
        """A digest of who is in it, by which two nodes see that they mean the same epoch."""
        return blake3(b"".join(sorted(member.id.encode() + b"\0" for member in self.members))).digest()


def next_epoch(roll: bytes, known: Iterable[tuple[int, bytes]]) -> int:
    """The epoch of a circle with that roll, where these (epoch, roll) were announced: the newest where it is of that roll, or the next."""
    epoch, newest = max(known, default=(0, b""))
    return epoch if epoch and newest == roll else min(epoch + 1, EPOCH_MAX)  # a member that says the last one stops nobody


# --- reading ----------------------------------------------------------------------------------------------------------------------


def check_name(name: str) -> str:
    """A circle's name. Raises UsageError that says what one looks like."""
    fine = 0 < len(name) <= NAME_CHARACTERS_MAX and all(c.isalnum() or c in "-_. " for c in name) and name == name.strip()
    if not fine or name[0] in "-.":
        raise UsageError(
            f"{name[:80]!r} is no name for a circle: 1 to {NAME_CHARACTERS_MAX} letters, digits, blanks, '-', '_' or '.' are wanted",
            hint="choose another name",
        )
    return name


def read_charter(statement: Statement) -> Charter:
    """The charter in a verified record. Raises ProtocolError with the field that is wrong."""
    body = statement.body
    charter = Charter(
        name=read_name(body),
        nonce=read_bytes(body, "nonce", NONCE_BYTES),
        description=read_text(body, "description", DESCRIPTION_CHARACTERS_MAX),
        open_membership=read_flag(body, "open"),
        callable_by=read_callable_by(body),
        public=read_flag(body, "public"),
        invited=tuple(read_texts(body, "invited", INVITED_MAX, 64)),
        revision=read_number(body, "revision", EPOCH_MAX),
    )
    check_id(statement, statement.author, charter.nonce)
    return charter


def check_id(statement: Statement, founder: bytes, nonce: bytes) -> None:
    """Raises ProtocolError where the record's name is not the id that its formation, founder and nonce make."""
    if statement.name != circle_id(statement.formation, founder, nonce).hex():
        raise ProtocolError("a circle's id does not follow from who speaks for it", code=Code.NOT_GRANTED)


def read_name(body: dict[str, Any]) -> str:
    try:
        return check_name(read_text(body, "name", NAME_CHARACTERS_MAX))
    except UsageError as error:
        raise wrong("name", error.message) from None


def read_callable_by(body: dict[str, Any]) -> CallableBy:
    value = body.get("callable_by")
    if value not in tuple(CallableBy):
        raise wrong("callable_by", f"one of {', '.join(CallableBy)} is wanted")
    return CallableBy(value)


def read_bytes(body: dict[str, Any], name: str, size: int) -> bytes:
    value = body.get(name)
    if not isinstance(value, bytes) or len(value) != size:
        raise wrong(name, f"{size} bytes are wanted")
    return value


def read_text(body: dict[str, Any], name: str, most: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or len(value) > most or not all(c.isprintable() or c == "\n" for c in value):
        raise wrong(name, f"text of up to {most} characters is wanted")
    return value


def read_texts(body: dict[str, Any], name: str, count: int, most: int) -> list[str]:
    value = body.get(name)
    if not isinstance(value, list) or len(value) > count or len(set(map(str, value))) != len(value):
        raise wrong(name, f"up to {count} different texts are wanted")
    if not all(isinstance(one, str) and 0 < len(one) <= most and one.isprintable() for one in value):
        raise wrong(name, f"texts of up to {most} characters are wanted")
    return value


def read_flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise wrong(name, "true or false is wanted")
    return value


def read_number(body: dict[str, Any], name: str, most: int) -> int:
    value = body.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise wrong(name, f"a number from 0 to {most} is wanted")
    return value


def wrong(name: str, wanted: str) -> ProtocolError:
    return ProtocolError(f"a circle's record with a wrong {name}: {wanted}")


def check_description(text: str) -> str:
    """A circle's description. Raises UsageError."""
    if len(text) > DESCRIPTION_CHARACTERS_MAX or not all(c.isprintable() or c == "\n" for c in text):
        raise UsageError("the description is too long, or not text", hint=f"write up to {DESCRIPTION_CHARACTERS_MAX} characters")
    return text


def read_entry(statement: Statement) -> list[bytes]:
    """The circles that an agent entered, as its node says. Raises ProtocolError."""
    circles = statement.body.get("circles")
    if not isinstance(circles, list) or len(circles) > ENTRIES_MAX or not all(isinstance(one, bytes) and len(one) == 32 for one in circles):
        raise wrong("circles", f"up to {ENTRIES_MAX} ids are wanted")
    return circles
