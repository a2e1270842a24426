"""AgentCard: what an agent says about itself, signed with the agent's own key.

The card travels inside the `agent` record of the node that hosts the agent: the node vouches for where the agent is, the agent's key
for what it is. `manifest_signature` is the card's COSE signature and covers every other field, so a card can't be changed by the node
that carries it, and its `endpoint` names that node, so another node can't carry a copy of it as its own.

The rule: a card whose signature is missing or wrong, or whose key does not give its id, is no card, whatever route it came by; a refusal
names the field.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from skerry.channel.messages import convert
from skerry.errors import Code, ProtocolError, SkerryError
from skerry.identity.codec import decode, encode
from skerry.identity.keys import AGENT_ID_BYTES, KEY_BYTES, SIGNATURE_BYTES, KeyPair, agent_id
from skerry.identity.keytext import did_key, read_public_key
from skerry.identity.sealed import assembled, read, seal, verified
from skerry.identity.statement import TIME_MS_MAX, Statement

AAD = b"skerry/card/1"
PROTOCOL = "skerry/1"
ENDPOINT = "skerry://"  # then the id of the hosting node, a slash, the agent's name
WORD_CHARACTERS_MAX = 200  # of a name, a version, one skill, tag, capability or model
TEXT_CHARACTERS_MAX = 4000  # of a description
LIST_ITEMS_MAX = 1000  # as many models as the largest servers list; all of a card has to fit its record's 48 KiB
_BYTES = "$bytes"
_WORDS = ("name", "version", "protocol")
_LISTS = ("skills", "tags", "capabilities", "models")


@dataclass(frozen=True, slots=True)
class CardOffer:
    """One capability on a card: enough to call it without asking.

    payload, result   JSON Schema, None where any value goes; example: a payload that works, None where none is known
    """

    capability: str
    idempotent: bool = False
    streams: bool = False
    description: str = ""
    payload: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    example: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentCard:
    """The card. Times are Unix milliseconds; `public_key` and `manifest_signature` are raw bytes (a DID and base64 in JSON)."""

    id: str
    name: str
    public_key: bytes
    version: str = "1"
    endpoint: str = ""
    description: str = ""
    protocol: str = PROTOCOL
    skills: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    offers: tuple[CardOffer, ...] = ()
    created_at: int = 0
    updated_at: int = 0
    manifest_signature: bytes = b""

    @property
    def node(self) -> str:
        """The id of the node that its endpoint names; "" where it names none."""
        return self.endpoint.removeprefix(ENDPOINT).partition("/")[0] if self.endpoint.startswith(ENDPOINT) else ""


def sign_card(card: AgentCard, key: KeyPair) -> tuple[AgentCard, bytes]:
    """The card with its signature, and the sealed bytes that travel."""
    if card.public_key != key.public or card.id != agent_id(key.public):
        raise ProtocolError("a card can only be signed with the key that it names")
    _check(card)
    sealed = seal(_payload(card), key, aad=AAD)
    return replace(card, manifest_signature=read(sealed).signature), sealed


def read_card(data: bytes) -> AgentCard:
    """The card in sealed bytes. Raises ProtocolError that says what is wrong with it."""
    sealed = read(data)
    value = decode(sealed.payload)
    if not isinstance(value, dict):
        raise ProtocolError("a card is a map")
    card = convert({**value, "manifest_signature": sealed.signature}, AgentCard)
    _check(card)
    if agent_id(card.public_key) != card.id:
        raise ProtocolError(f"the card of {card.name!r} has a key (public_key) that does not give its id")
    if not verified(sealed, card.public_key, aad=AAD):
        raise ProtocolError(f"the signature (manifest_signature) of the card of {card.name!r} is not its key's", code="bad_signature")
    return card


def sealed_form(card: AgentCard) -> bytes:
    """The sealed bytes of a card that came in parts, checked: as good as those that travel. Raises ProtocolError.

    A card of a later release, with fields that this one does not know, can't be put together again: its record has the bytes.
    """
    _check(_typed(card))
    if len(card.manifest_signature) != SIGNATURE_BYTES:
        raise ProtocolError(f"the card of {card.name[:50]!r} has no signature (manifest_signature)", code="bad_signature")
    try:
        payload = _payload(card)
        decode(payload)
    except ProtocolError as error:
        if error.code == Code.TOO_LARGE:
            raise
        raise _wrong("offers", f"plain values are wanted ({error.message})") from None  # all else was looked at
    sealed = assembled(payload, card.manifest_signature)
    read_card(sealed)
    return sealed


def card_in(statement: Statement) -> AgentCard | None:
    """The card in an agent record; None for a tombstone. Raises ProtocolError where the record carries none, or another agent's, or one
    that says that its agent is elsewhere."""
    if statement.tombstone:
        return None
    sealed = statement.body.get("card")
    if not isinstance(sealed, bytes):
        raise ProtocolError("an agent record has a card")
    card = read_card(sealed)
    if card.id != statement.name:
        raise ProtocolError(f"the record {statement.name!r} carries the card of {card.id!r} (id)")
    if card.node != statement.author.hex():
        raise ProtocolError(f"the card of {card.name!r} names another node (endpoint) than the one that says it")
    return card


# --- JSON -------------------------------------------------------------------------------------------------------------------------


def card_to_json(card: AgentCard) -> dict[str, Any]:
    """The card as HTTP and people see it."""
    shown: dict[str, Any] = _plain(asdict(card))
    shown["offers"] = _with_bytes(shown["offers"])
    shown["public_key"] = did_key(card.public_key)
    shown["manifest_signature"] = base64.b64encode(card.manifest_signature).decode()
    return shown


def card_from_json(value: Any) -> AgentCard:
    """A card from its JSON, its signature checked. Raises ProtocolError that names the field."""
    if not isinstance(value, dict):
        raise ProtocolError("a card is an object")
    known = {one.name for one in fields(AgentCard)}
    given = {key: item for key, item in value.items() if key in known}
    for name in ("id", "name", "public_key"):
        if not isinstance(given.get(name), str):
            raise ProtocolError(f"a card with a wrong {name}: text is wanted")
    try:
        given["public_key"] = read_public_key(given["public_key"])
        given["manifest_signature"] = base64.b64decode(given.get("manifest_signature") or "", validate=True)
    except SkerryError as error:
        raise ProtocolError(f"a card with a wrong public_key: {error.message}") from None
    except (ValueError, TypeError):
        raise ProtocolError("a card with a wrong manifest_signature: base64 is wanted") from None
    try:
        offers = _without_bytes(given.get("offers", ()))
    except RecursionError:
        raise _wrong("offers", "values are nested too deep") from None
    card = convert({**given, "offers": offers}, AgentCard)
    sealed_form(card)
    return card


# --- inside -----------------------------------------------------------------------------------------------------------------------


def _typed(card: AgentCard) -> AgentCard:
    """The card of somebody who may have put anything into it. Raises ProtocolError that names the field whose type is another."""
    if not isinstance(card, AgentCard):
        raise ProtocolError(f"a card, or its sealed bytes, is wanted, and not {type(card).__name__}")
    try:
        return convert(_plain(asdict(card)), AgentCard)
    except RecursionError:
        raise _wrong("offers", "values are nested too deep") from None
    except UnicodeError:
        raise ProtocolError(f"a card with a wrong {', '.join(_unsayable(card))}: text that UTF-8 can say is wanted") from None


def _unsayable(card: AgentCard) -> list[str]:
    """Fields with half a character in them, which JSON can write."""
    return [one.name for one in fields(card) if "\\ud" in ascii(getattr(card, one.name))]


def _payload(card: AgentCard) -> bytes:
    body = asdict(card)
    del body["manifest_signature"]
    return encode(_plain(body))


def _check(card: AgentCard) -> None:
    """The forms and bounds of a card's fields. Raises ProtocolError that names the field."""
    if len(card.public_key) != KEY_BYTES:
        raise _wrong("public_key", f"{KEY_BYTES} bytes are wanted")
    if len(card.id) != 2 * AGENT_ID_BYTES or not _is_hex(card.id):
        raise _wrong("id", f"{AGENT_ID_BYTES} bytes in hex are wanted")
    for name in _WORDS:
        if not _is_word(getattr(card, name)):
            raise _wrong(name, _WORD)
    for name in _LISTS:
        items = getattr(card, name)
        if len(items) > LIST_ITEMS_MAX or not all(map(_is_word, items)):
            raise _wrong(name, f"up to {LIST_ITEMS_MAX} texts are wanted, each of {_WORD}")
    if not all(_is_word(offer.capability) for offer in card.offers):
        raise _wrong("offers", f"a capability has {_WORD}")
    if card.endpoint and not (_is_word(card.endpoint) and len(card.node) == 2 * KEY_BYTES and _is_hex(card.node)):
        raise _wrong("endpoint", "skerry://<node id>/<name> is wanted")
    if len(card.description) > TEXT_CHARACTERS_MAX or not all(c.isprintable() or c in "\n\t" for c in card.description):
        raise _wrong("description", f"up to {TEXT_CHARACTERS_MAX} printable characters are wanted")
    for name in ("created_at", "updated_at"):
        if not 0 <= getattr(card, name) <= TIME_MS_MAX:
            raise _wrong(name, "Unix milliseconds are wanted")


_WORD = f"1 to {WORD_CHARACTERS_MAX} printable characters"


def _is_word(text: str) -> bool:
    return 0 < len(text) <= WORD_CHARACTERS_MAX and text.isprintable()


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def _wrong(name: str, wanted: str) -> ProtocolError:
    return ProtocolError(f"a card with a wrong {name}: {wanted}")


def _with_bytes(value: Any) -> Any:
    """Bytes as JSON has them at all doors: `{"$bytes": base64}`."""
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _with_bytes(item) for key, item in value.items()}
    return [_with_bytes(item) for item in value] if isinstance(value, list) else value


def _without_bytes(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_without_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_BYTES}:
        try:
            return base64.b64decode(value[_BYTES], validate=True)
        except (ValueError, TypeError):
            raise _wrong("offers", 'base64 is wanted in {"$bytes": ...}') from None
    return {key: _without_bytes(item) for key, item in value.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
