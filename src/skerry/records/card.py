"""AgentCard: what an agent says about itself, signed with the agent's own key.

The card travels inside the `agent` record of the node that hosts the agent: the node vouches for where the agent is, the agent's key
for what it is. `manifest_signature` is the card's COSE signature, so a card can't be changed by the node that carries it.

The rule: a card whose signature is missing or wrong, or whose key does not give its id, is no card, whatever route it came by.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from skerry.channel.messages import convert
from skerry.errors import ProtocolError
from skerry.identity.codec import decode, encode
from skerry.identity.keys import KeyPair, agent_id
from skerry.identity.sealed import read, seal, verified

AAD = b"skerry/card/1"
PROTOCOL = "skerry/1"


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
    """The card. Times are Unix milliseconds; `public_key` and `manifest_signature` are raw bytes (base64 in JSON)."""

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


def sign_card(card: AgentCard, key: KeyPair) -> tuple[AgentCard, bytes]:
    """The card with its signature, and the sealed bytes that travel."""
    if card.public_key != key.public or card.id != agent_id(key.public):
        raise ProtocolError("a card can only be signed with the key that it names")
    body = asdict(card)
    del body["manifest_signature"]
    sealed = seal(encode(_plain(body)), key, aad=AAD)
    return replace(card, manifest_signature=read(sealed).signature), sealed


def read_card(data: bytes) -> AgentCard:
    """The card in sealed bytes. Raises ProtocolError that says what is wrong with it."""
    sealed = read(data)
    value = decode(sealed.payload)
    if not isinstance(value, dict):
        raise ProtocolError("a card is a map")
    card = convert({**value, "manifest_signature": sealed.signature}, AgentCard)
    if agent_id(card.public_key) != card.id:
        raise ProtocolError(f"the card of {card.name!r} has a key that does not give its id")
    if not verified(sealed, card.public_key, aad=AAD):
        raise ProtocolError(f"the signature of the card of {card.name!r} is not its key's", code="bad_signature")
    return card


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
