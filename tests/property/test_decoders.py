"""Every decoder, fed noise and almost right input: a value comes out, or a SkerryError, and nothing else ever does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skerry.channel.address import parse_address, parse_host_port
from skerry.channel.framing import SHAPES, FrameReader, decode_frame, encode_frame
from skerry.channel.messages import pack_message, unpack_message
from skerry.channel.reachable import read_networks
from skerry.channel.signed_request import check_request, signed_headers
from skerry.channel.weburl import read_place, read_public
from skerry.client.values import from_json, parse_payload, to_json
from skerry.errors import SkerryError
from skerry.identity.codec import decode, encode, pack, unpack
from skerry.identity.contacts import check_address, parse_allowance, parse_contacts
from skerry.identity.grants import Role, Roster, read_grant
from skerry.identity.keys import agent_id, parse_id
from skerry.identity.keytext import did_key, read_public_key
from skerry.identity.pieces import joined
from skerry.identity.sealed import read, seal
from skerry.identity.statement import parse, state
from skerry.identity.ticket import Ticket, parse_ticket
from skerry.node.settings import check_name
from skerry.node.verbs import InviteRequest, JoinReply, JoinRequest, NodeInfo
from skerry.records import pages
from skerry.records.card import AgentCard, CardOffer, card_from_json, card_to_json, read_card, sign_card
from skerry.records.verbs import PullReply, PullRequest
from skerry.routing.task import Task, TaskResult, error_from
from tests.support.formation import FORMATION, MEMBER, NOW_MS, OPERATOR, member_grant, operator_grant, revocation
from tests.support.plain import MAPS, PLAIN, TEXT, damaged, outcome

STAMP = NOW_MS << 16
A_THIRD = settings(max_examples=settings().max_examples // 3)  # of the profile's: there are many decoders


def _card() -> bytes:
    offers = (CardOffer("custom:greet", description="says hello", payload={"type": "string"}, example="Ada"),)
    card = AgentCard(agent_id(MEMBER.public), "greeter", MEMBER.public, offers=offers, tags=("python",), created_at=NOW_MS)
    return sign_card(card, MEMBER)[1]


def _statement() -> bytes:
    body = {"name": "alpha", "addresses": ["tcp://127.0.0.1:7420"]}
    return state(
        OPERATOR, kind="node", name="node", formation=FORMATION, audience="formation", stamp=STAMP, expires=NOW_MS * 2, body=body
    ).signed


def parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _roster(data: bytes) -> Any:
    roster = Roster(FORMATION)
    roster.learn(parse(data))
    return roster.standing(MEMBER.public, now_ms=NOW_MS)


TASK = Task(b"t" * 32, "custom:greet", "a" * 32, pack("Ada"), MEMBER.public, NOW_MS)
RESULT = TaskResult(b"t" * 32, False, None, ["busy", "no", "wait", False], "a" * 32, OPERATOR.public, NOW_MS, 1.5)
INFO = NodeInfo(OPERATOR.public.hex(), "alpha", "operator", "valid", "self", True, ["tcp://127.0.0.1:1"], inventory={"cores": 2})
FRAME = [1, 7, "task.run", 60_000, 32, b"payload"]

PAGE = pages.update_of([operator_grant().signed], peers=["https://a.example"], cursor="abc.7", more=True, now_ms=NOW_MS)

# name -> (decoder, a valid input)
BYTES: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "decode": (decode, encode({"a": [1, 2.5, None, True, "text", b"bytes"], "b": {}})),
    "unpack": (unpack, pack({"a": [1, 2.5, None, True, "text", b"bytes"], "b": {}})),
    "frame": (decode_frame, encode_frame(FRAME)[4:]),
    "frames": (lambda data: FrameReader().feed(data), encode_frame(FRAME) * 3),
    "sealed": (read, seal(b"payload", MEMBER, aad=b"x")),
    "statement": (parse, _statement()),
    "operator grant": (lambda data: read_grant(parse(data)), operator_grant().signed),
    "member grant": (_roster, member_grant().signed),
    "revocation": (_roster, revocation(MEMBER).signed),
    "card": (read_card, _card()),
    "task": (Task.from_bytes, joined(TASK.to_bytes())),
    "result": (TaskResult.from_bytes, joined(RESULT.to_bytes())),
    "pull": (lambda data: unpack_message(PullRequest, data), pack_message(PullRequest("sim.7"))),
    "pulled": (lambda data: unpack_message(PullReply, data), pack_message(PullReply([b"x" * 9], "sim.7", False))),
    "join": (lambda data: unpack_message(JoinRequest, data), pack_message(JoinRequest(b"s" * 16, "beta"))),
    "joined": (lambda data: unpack_message(JoinReply, data), pack_message(JoinReply(b"g" * 16, [b"r"]))),
    "invite": (lambda data: unpack_message(InviteRequest, data), pack_message(InviteRequest())),
    "node": (lambda data: unpack_message(NodeInfo, data), pack_message(INFO)),
    "page": (lambda data: pages.read_page(data, pages.CBOR), pages.to_cbor(PAGE)),
    "page in JSON": (lambda data: pages.read_page(data, pages.JSON), pages.to_json(PAGE)),
}
SIGNED = signed_headers(MEMBER, method="GET", target="/x", server=OPERATOR.public, now_s=1000, nonce=b"n" * 16, grant=b"grant")


def _signed(**changed: str) -> Any:
    """A request with one header as it comes."""
    headers = {name: changed.get(name.replace("-", "_"), value) for name, value in SIGNED.items()}
    return check_request(headers, method="GET", target="/x", server=OPERATOR.public, now_s=1000)


TICKET = str(Ticket(FORMATION, OPERATOR.public, ("tcp://127.0.0.1:7420", "tcp://[::1]:7420"), b"s" * 16))
TEXTS: dict[str, tuple[Callable[[str], Any], str]] = {
    "ticket": (parse_ticket, TICKET),
    "address": (parse_address, "tcp://127.0.0.1:7420"),
    "host and port": (lambda text: parse_host_port(text, default_port=7420), "[::1]:7420"),
    "id": (parse_id, FORMATION.hex()),
    "name": (check_name, "alpha-1"),
    "contacts": (parse_contacts, f'[contacts]\nhere = "inproc"\nbob = "tcp://{OPERATOR.public.hex()}@127.0.0.1:1"\n'),
    "rights": (lambda text: parse_allowance([text]), "call:inference:*"),
    "address of a contact": (check_address, "https://a.example:7422/mesh"),
    "place": (read_place, f"{OPERATOR.public.hex()}@a.example:7422"),
    "public listener": (read_public, "https://[::1]:7422"),
    "networks": (read_networks, "127.0.0.0/8, ::1/128"),
    "cursor": (pages.read_cursor, PAGE.cursor),
    "limit": (pages.read_limit, "200"),
    "card in JSON": (lambda text: card_from_json(parse_json(text)), json.dumps(card_to_json(read_card(_card())))),
    "key": (read_public_key, did_key(OPERATOR.public)),
    "signature": (lambda text: _signed(signature=text), SIGNED["signature"]),
    "signature's input": (lambda text: _signed(signature_input=text), SIGNED["signature-input"]),
    "grant of a request": (lambda text: _signed(skerry_grant=text), SIGNED["skerry-grant"]),
    "payload": (parse_payload, '{"name": "Ada", "data": {"$bytes": "AAEC"}, "n": [1, 2.5, null, true]}'),
}


@pytest.mark.parametrize("name", BYTES)
def test_what_is_valid_is_read(name: str) -> None:
    decoder, valid = BYTES[name]
    assert not isinstance(outcome(decoder, valid), SkerryError)


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_valid_text_is_read(name: str) -> None:
    decoder, valid = TEXTS[name]
    assert not isinstance(outcome(decoder, valid), SkerryError)


@pytest.mark.parametrize("name", BYTES)
@A_THIRD
@given(data=st.data())
def test_damaged_bytes_give_a_value_or_a_refusal(name: str, data: st.DataObject) -> None:
    decoder, valid = BYTES[name]
    outcome(decoder, data.draw(damaged(st.just(valid))))


@pytest.mark.parametrize("name", BYTES)
@A_THIRD
@given(noise=st.binary(max_size=200))
def test_noise_gives_a_value_or_a_refusal(name: str, noise: bytes) -> None:
    outcome(BYTES[name][0], noise)


@pytest.mark.parametrize("name", BYTES)
@A_THIRD
@given(value=PLAIN)
def test_any_other_value_gives_a_value_or_a_refusal(name: str, value: Any) -> None:
    outcome(BYTES[name][0], encode(value))


@pytest.mark.parametrize("name", TEXTS)
@A_THIRD
@given(data=st.data())
def test_damaged_text_gives_a_value_or_a_refusal(name: str, data: st.DataObject) -> None:
    decoder, valid = TEXTS[name]
    text = data.draw(damaged(st.just(valid.encode()))).decode("utf-8", "replace")
    outcome(decoder, text)


@pytest.mark.parametrize("name", TEXTS)
@given(text=st.text(max_size=60))
@example("9" * 5000)
@example("a:" + "9" * 5000)
@example("tcp://a:" + "9" * 5000)
@example("[" * 5000)
@example('{"$bytes": 3}')
@example("\x00")
@example("tcp://\x00:1")
def test_any_text_gives_a_value_or_a_refusal(name: str, text: str) -> None:
    outcome(TEXTS[name][0], text)


# --- one level deeper: the signature is right, what was signed is not ---------------------------------------------------------------


@given(value=PLAIN)
def test_signed_nonsense_is_no_statement_and_no_card(value: Any) -> None:
    for aad, decoder in ((b"skerry/record/1", parse), (b"skerry/card/1", read_card)):
        assert isinstance(outcome(decoder, seal(encode(value), MEMBER, aad=aad)), SkerryError)


FIELDS = ["v", "kind", "name", "author", "formation", "audience", "stamp", "expires", "body"]


@given(field=st.sampled_from(FIELDS), value=PLAIN)
def test_a_statement_with_one_odd_field_is_refused_or_read_as_signed(field: str, value: Any) -> None:
    whole = decode(read(_statement()).payload)
    whole[field] = value
    read_back = outcome(parse, seal(encode(whole), OPERATOR, aad=b"skerry/record/1"))
    if not isinstance(read_back, SkerryError):
        assert type(value) in (int, str, dict, list)
        said = getattr(read_back, field, 1)
        assert said == (tuple(value) if isinstance(value, list) else value)


@given(body=MAPS, kind=st.sampled_from(["grant", "revocation"]))
def test_an_odd_grant_or_revocation_is_refused(body: dict[str, Any], kind: str) -> None:
    said = state(
        OPERATOR, kind=kind, name=MEMBER.public.hex(), formation=FORMATION, audience="formation", stamp=STAMP, expires=NOW_MS, body=body
    )
    assert isinstance(outcome(_roster, said.signed), SkerryError)


@given(
    role=st.sampled_from([*Role, "king", ""]) | PLAIN,
    subject=st.just(MEMBER.public) | PLAIN,
    chain=st.lists(st.just(operator_grant().signed) | st.just(member_grant().signed) | st.binary(max_size=10), max_size=3) | PLAIN,
)
def test_a_grant_with_odd_values_is_refused_or_is_a_grant(role: Any, subject: Any, chain: Any) -> None:
    body = {"role": str(role) if isinstance(role, Role) else role, "subject": subject, "chain": chain}
    said = state(
        OPERATOR,
        kind="grant",
        name=MEMBER.public.hex(),
        formation=FORMATION,
        audience="formation",
        stamp=STAMP,
        expires=NOW_MS,
        body=body,
    )
    grant = outcome(read_grant, said)
    if not isinstance(grant, SkerryError):
        assert grant.role in (Role.MEMBER, Role.CLIENT)
        assert chain == [operator_grant().signed]


@given(changes=st.dictionaries(st.sampled_from([*AgentCard.__dataclass_fields__, "more"]), PLAIN, max_size=3))
def test_a_card_with_odd_fields_is_refused_or_typed(changes: dict[str, Any]) -> None:
    value = {**decode(read(_card()).payload), **changes}
    card = outcome(read_card, seal(encode(value), MEMBER, aad=b"skerry/card/1"))
    if isinstance(card, AgentCard):
        assert card.id == agent_id(card.public_key)
        assert all(isinstance(tag, str) for tag in card.tags)
        assert isinstance(card.created_at, int)


# --- values that only travel ----------------------------------------------------------------------------------------------------------


@given(fields=st.lists(PLAIN, max_size=12))
def test_any_array_as_a_task_or_result(fields: list[Any]) -> None:
    for kind in (Task, TaskResult):
        outcome(kind.from_bytes, pack(fields))


@given(fields=PLAIN)
def test_any_error_fields_become_an_error(fields: Any) -> None:
    error = error_from(fields)
    assert isinstance(error, SkerryError)
    assert isinstance(error.code, str)


@given(value=PLAIN | st.just(cbor2.undefined) | st.just(cbor2.CBORSimpleValue(99)))
def test_what_was_unpacked_can_be_shown_as_json(value: Any) -> None:
    received = outcome(unpack, cbor2.dumps(value))
    if not isinstance(received, SkerryError):
        shown = outcome(to_json, received)
        if not isinstance(shown, SkerryError):
            json.dumps(shown)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10) | st.just("$bytes"), inner, max_size=4),
    max_leaves=10,
)


@given(value=JSON)
def test_any_json_is_a_payload_or_refused(value: Any) -> None:
    payload = outcome(parse_payload, json.dumps(value))
    if not isinstance(payload, SkerryError):
        outcome(pack, payload)  # a number may be too large, a text may hold half a character
        outcome(from_json, value)


@given(kind=st.sampled_from(sorted(SHAPES)), fields=st.lists(PLAIN, max_size=8))
def test_frames_of_any_type_with_any_fields(kind: int, fields: list[Any]) -> None:
    frame = outcome(decode_frame, cbor2.dumps([kind, *fields]))
    if isinstance(frame, list):
        assert tuple(type(value) for value in frame) in SHAPES[kind]
        assert all(0 <= value < 2**63 for value in frame if type(value) is int)


@given(text=TEXT)
def test_text_in_a_ticket_is_checked(text: str) -> None:
    assert isinstance(outcome(parse_ticket, text), SkerryError)
