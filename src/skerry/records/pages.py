"""Pages of what a node gives to others over HTTP: the answer of `GET /federation/pull`, as JSON and as CBOR, and how one is read.

    {agents, peers, records, cursor, timestamp, more}

`records` are the signed records (in JSON base64url), and all that a receiver believes; `agents` are the cards in them, decoded for whoever
only wants to look (in CBOR their ids: the cards are in the records). `cursor` goes into the next request's `since`; `more` says that the
next page is there now.

The rule: a page that is not exactly so is refused with the field that is wrong, and nothing of it is taken. A cursor names a place in the
sender's order of arrival, never a time, so that no clock can hide a record.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from blake3 import blake3

from skerry.errors import Code, ProtocolError, SkerryError, UsageError
from skerry.identity.codec import SIGNED_BYTES_MAX, pack, unpack
from skerry.identity.statement import TIME_MS_MAX, parse_unverified
from skerry.records.card import AgentCard, card_in, card_to_json

JSON = "application/json"
CBOR = "application/cbor"
LIMIT = 200  # records in a page, and the most that may be asked for
PAGE_BYTES_MAX = 2 * 1024 * 1024  # of one answer: 200 records of agents are 256 KiB, and as JSON with their cards three times that
RECORDS_MAX = 1000  # in one page, grants and revocations counted
PEERS_MAX = 64  # in one page
PEER_CHARACTERS_MAX = 300
CURSOR_CHARACTERS_MAX = 200
TIMESTAMP_MAX = TIME_MS_MAX // 1000  # as far as any time of ours goes; a whole number of JSON's may have thousands of digits
START = ("", "0")  # how one asks for everything
_FIELDS = ("peers", "records", "cursor", "timestamp")


@dataclass(frozen=True, slots=True)
class FederationUpdate:
    """One page. `timestamp`: the sender's clock, Unix seconds, for people alone. Its fields may be read as items, too."""

    agents: list[AgentCard] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    cursor: str = ""
    timestamp: float = 0.0
    more: bool = False

    def __getitem__(self, name: str) -> Any:
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)


def update_of(records: list[bytes], *, peers: Iterable[str], cursor: str, more: bool, now_ms: int) -> FederationUpdate:
    """A page of these records, with the cards in them. `cursor` as the replica has it."""
    agents = [card for signed in records if (card := _card_of(signed)) is not None]
    return FederationUpdate(agents, list(peers)[:PEERS_MAX], records, write_cursor(cursor), now_ms / 1000, more)


def to_json(update: FederationUpdate) -> bytes:
    value = {
        "agents": [card_to_json(card) for card in update.agents],
        "peers": update.peers,
        "records": [base64.urlsafe_b64encode(signed).decode().rstrip("=") for signed in update.records],
        "cursor": update.cursor,
        "timestamp": update.timestamp,
        "more": update.more,
    }
    return msgspec.json.encode(value)


def to_cbor(update: FederationUpdate) -> bytes:
    return pack(
        {
            "agents": [card.id for card in update.agents],
            "peers": update.peers,
            "records": update.records,
            "cursor": update.cursor,
            "timestamp": update.timestamp,
            "more": update.more,
        }
    )


def entity_tag(update: FederationUpdate, form: str) -> str:
    """The ETag: another one where anything but the time is another."""
    hasher = blake3(form.encode())
    for part in (update.cursor.encode(), *(peer.encode() for peer in update.peers), *update.records):
        hasher.update(len(part).to_bytes(4, "big") + part)
    return f'"{hasher.hexdigest()[:32]}"'


# --- reading ----------------------------------------------------------------------------------------------------------------------


def read_page(body: bytes, content_type: str) -> FederationUpdate:
    """The page in an answer; its `agents` are left out, since nothing is believed but the records. Raises ProtocolError."""
    form = content_type.partition(";")[0].strip().lower()
    if len(body) > PAGE_BYTES_MAX:
        raise ProtocolError(f"a page of {len(body)} bytes, where at most {PAGE_BYTES_MAX} are taken", code=Code.TOO_LARGE)
    if form == CBOR:
        value = unpack(body)
    elif form == JSON:
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"a page that is no JSON: {error}") from None
    else:
        raise ProtocolError(f"a page of the type {form[:60]!r} (content-type), where {JSON} or {CBOR} is wanted")
    if not isinstance(value, dict):
        raise ProtocolError("a page is an object")
    for name in _FIELDS:
        if name not in value:
            raise _wrong(name, "it is missing")
    more, timestamp = value.get("more", False), value["timestamp"]
    if not isinstance(more, bool):
        raise _wrong("more", "true or false is wanted")
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float) or not 0 <= timestamp <= TIMESTAMP_MAX:
        raise _wrong("timestamp", "Unix seconds are wanted")
    return FederationUpdate([], _peers(value["peers"]), _records(value["records"], form), _cursor(value["cursor"]), float(timestamp), more)


def _peers(value: Any) -> list[str]:
    """Texts, as many as we look at; whether they are places is judged one by one, later."""
    if not isinstance(value, list) or not all(isinstance(peer, str) for peer in value):
        raise _wrong("peers", "a list of texts is wanted")
    return [peer for peer in value[:PEERS_MAX] if len(peer) <= PEER_CHARACTERS_MAX]


def _records(value: Any, form: str) -> list[bytes]:
    if not isinstance(value, list) or len(value) > RECORDS_MAX:
        raise _wrong("records", f"a list of up to {RECORDS_MAX} is wanted")
    found = []
    for number, item in enumerate(value):
        signed = item if form == CBOR else _from_base64url(item)
        if not isinstance(signed, bytes) or not 0 < len(signed) <= SIGNED_BYTES_MAX:
            raise _wrong(f"records[{number}]", "a signed record in base64url is wanted" if form == JSON else "bytes are wanted")
        found.append(signed)
    return found


def _cursor(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("cursor", "text is wanted")
    try:
        read_cursor(value, where="cursor")
    except UsageError as error:
        raise ProtocolError(f"a page with a wrong {error.message}") from None
    return value


def write_cursor(inner: str) -> str:
    """A replica's cursor as it stands in a URL."""
    return base64.urlsafe_b64encode(inner.encode()).decode().rstrip("=")


def read_cursor(text: str, *, where: str = "since") -> str:
    """The replica's cursor in a URL's; "" for the start. Raises UsageError that names the field."""
    if not isinstance(text, str):
        raise UsageError(f"{where}: {text!r:.60} is no cursor", hint=_CURSOR)
    if text in START:
        return ""
    decoded = _from_base64url(text) if len(text) <= CURSOR_CHARACTERS_MAX else None
    inner = decoded.decode("ascii", "replace") if decoded is not None else ""
    if not inner.isprintable() or "." not in inner or "\ufffd" in inner:
        raise UsageError(f"{where}: {text[:60]!r} is no cursor", hint=_CURSOR)
    return inner


_CURSOR = "send the `cursor` of the last page as it came, or leave it out"


def read_limit(text: str) -> int:
    """How many records are asked for; more than a page holds is a whole page. Raises UsageError that names the field."""
    if not text:
        return LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) == 0:
        raise UsageError(f"limit: {text[:40]!r} is no number of records", hint=f"send 1 to {LIMIT}")
    return min(int(text), LIMIT)


def _from_base64url(value: Any) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _card_of(signed: bytes) -> AgentCard | None:
    try:
        statement = parse_unverified(signed)[0]
        return card_in(statement) if statement.kind == "agent" else None
    except SkerryError:
        return None  # ours, taken in before and judged then; here it is only shown


def _wrong(name: str, wanted: str) -> ProtocolError:
    return ProtocolError(f"a page with a wrong {name}: {wanted}")
