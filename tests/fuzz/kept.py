"""Decoders of what a node keeps in its database, and of what other formations say of themselves, with valid inputs for each."""

from __future__ import annotations

import functools
import json
from typing import Any

from skerry.agents.letters import Letter, session_of
from skerry.agents.mailbox import Cursor
from skerry.agents.target import read_target
from skerry.channel.messages import pack_message, unpack_message
from skerry.channel.reachable import read_networks
from skerry.channel.weburl import read_place, read_public
from skerry.client.values import read_value
from skerry.discovery import claims
from skerry.discovery.claims import Word, say
from skerry.discovery.reach import newly_found, read_kept, why_missed
from skerry.discovery.verbs import DialBackReply
from skerry.errors import SkerryError
from skerry.identity.codec import encode, pack
from skerry.identity.contacts import parse_contact, parse_contacts
from skerry.identity.keys import parse_public_key
from skerry.identity.statement import parse
from skerry.node.advertise import read_agent
from skerry.node.whereabouts import STRAIGHT_MAX, said_addresses
from skerry.records import pages
from skerry.routing.receipt import AAD, read_receipt, sign_receipt
from skerry.routing.reputation import Reputation
from skerry.routing.strategies import read_strategy
from skerry.wiring.aside import read_aside
from skerry.wiring.outbox import read_entry
from tests.fuzz.decoders import RECORD, Decoder, signed, text
from tests.fuzz.inputs import BYTES, CANONICAL, CBOR, JSON, TEXT
from tests.support.formation import FORMATION, MEMBER, NOW_MS, OPERATOR
from tests.vectors import cases


def _outbox(data: bytes) -> Any:
    entry = read_entry(data)
    assert entry.letter.is_sound
    return entry


def _aside(data: bytes) -> Any:
    kept = read_aside(data)
    assert kept.letter.is_sound
    return kept


def _score(data: bytes) -> float:
    """What is no score that was kept is passed over; what is one gives a score."""
    kept = Reputation()
    kept.restore("agent", data)
    score = kept.score("agent", now_ms=NOW_MS)
    assert 0 <= score <= 1
    return score


def _dialled(data: bytes) -> str:
    """What a member says of where it found us."""
    reply = unpack_message(DialBackReply, data)
    found = newly_found(reply.answered, known=(), host=reply.host, ports=[7420])
    assert all(len(place) < 300 and place.isprintable() for place in found)
    said = why_missed(reply.failed)
    assert said.isprintable()
    return said


def _node(data: bytes) -> tuple[str, ...]:
    """Where a node's record says that it is."""
    found = said_addresses(parse(data).body)
    assert len(found) <= 2 * STRAIGHT_MAX
    return found


def _agent(data: bytes) -> Any:
    return read_agent(parse(data))


def _contacts(data: bytes) -> Any:
    found = parse_contacts(data.decode("utf-8", "replace"))
    for contact in found.contacts.values():
        contact.dialled()
        contact.urls()
    return found


def _contact(data: bytes) -> Any:
    return parse_contact("lab", json.loads(data))


_CONTACTS = f"""[contacts]
here = "inproc"
[contacts.lab]
formation = "{FORMATION.hex()}"
addresses = ["tcp://{MEMBER.public.hex()}@127.0.0.1:7420", "https://127.0.0.1/x"]
allow = ["federate", "relay", "inject:desk", "call:custom:*", "rate:5", "concurrency:2"]
""".encode()


def kept() -> dict[str, Decoder]:
    """Name -> decoder."""
    letter = Letter(session_of(b"desk", "book"), 1, "beta/left", "", pack({"n": 1}))
    entry = pack([["ab" * 16, bytes(32), b""], [letter.session, 1, letter.sender, "", letter.content]])
    aside = pack([[letter.session, 1, letter.sender, "", b"x"], "no_comms", "why", ["ab" * 16, bytes(32), b""], NOW_MS, True, b"v" * 96])
    records = cases.records()
    update = pages.update_of([records["agent"].signed], peers=["127.0.0.1:7421"], cursor="sim.7", more=True, now_ms=NOW_MS)
    claim = say(OPERATOR, FORMATION, Word.SUSPECT, subject=MEMBER.public, incarnation=3)
    reply = DialBackReply(["tcp://router:7420"], [["tcp://other:1", "nobody listens"]], "router")
    receipt = sign_receipt(cases.TASK, cases.DONE, cases.AGENT)
    return {
        "mail cursor": Decoder(Cursor.from_bytes, [Cursor(1, 2).to_bytes()], BYTES, write=Cursor.to_bytes),
        "outbox": Decoder(_outbox, [entry]),
        "aside": Decoder(_aside, [aside, pack([[letter.session, 1, letter.sender, "", b"x"], "no_comms", "it takes no letters"])]),
        "reach": Decoder(read_kept, [encode(["outbound", [bytes(32)], ["tcp://router:7420"]])], CANONICAL),
        "reputation": Decoder(_score, [pack([1.5, 0.5, 3, NOW_MS, {"custom:greet": 0.1}])]),
        "dial-back": Decoder(_dialled, [pack_message(reply)]),
        "node record": Decoder(_node, [records["node"].signed, records["named nodes"].signed], RECORD, slow=True),
        "agent record": Decoder(
            lambda data: read_agent(parse(data)), [records["agent"].signed, records["tombstone"].signed], RECORD, slow=True
        ),
        "claim": Decoder(claims.read, [claim.data], BYTES),
        "receipt": Decoder(read_receipt, [receipt], signed(cases.AGENT, AAD), slow=True),
        "page": Decoder(functools.partial(pages.read_page, content_type=pages.JSON), [pages.to_json(update)], JSON),
        "page, packed": Decoder(functools.partial(pages.read_page, content_type=pages.CBOR), [pages.to_cbor(update)], CBOR),
        "page's cursor": Decoder(text(pages.read_cursor), [pages.write_cursor("sim.7").encode(), b""], TEXT),
        "page's limit": Decoder(text(pages.read_limit), [b"5", b""], TEXT),
        "contacts.toml": Decoder(_contacts, [_CONTACTS], TEXT),
        "contact": Decoder(_contact, [json.dumps({"node": MEMBER.public.hex(), "allow": ["relay"]}).encode()], JSON, refusals=_NO_JSON),
        "place": Decoder(text(read_place), [b"https://127.0.0.1:7423", f"{MEMBER.public.hex()}@127.0.0.1:7423".encode()], TEXT),
        "public address": Decoder(text(read_public), [b"127.0.0.1:7423"], TEXT),
        "networks": Decoder(text(read_networks), [b"127.0.0.0/8, ::1/128"], TEXT),
        "typed value": Decoder(text(read_value), [b'{"a": [1, 2.5, null]}', b"text"], TEXT),
        "key as text": Decoder(text(parse_public_key), [MEMBER.public.hex().encode()], TEXT),
        "target": Decoder(text(read_target), [b"openai+http://127.0.0.1:1/v1"], TEXT),
        "strategy": Decoder(text(read_strategy), [b"random"], TEXT),
    }


_NO_JSON = (SkerryError, ValueError, RecursionError)
