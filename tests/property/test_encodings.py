"""What is signed has one form; what travels comes back as it was; a ticket is whole or nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from skerry.channel.address import Address, parse_address
from skerry.channel.messages import pack_message, unpack_message
from skerry.client.values import from_json, to_json
from skerry.errors import Code, SkerryError, UsageError
from skerry.identity.codec import decode, encode, pack, unpack
from skerry.identity.sealed import read, seal, verified
from skerry.identity.stamps import next_stamp, stamp_at, stamp_ms
from skerry.identity.statement import AUDIENCE_NODES_MAX, Audience, parse, state
from skerry.identity.ticket import ADDRESSES_MAX, Ticket, parse_ticket
from skerry.node.names import display_names
from skerry.node.verbs import NodeInfo
from skerry.routing.task import Request, Task, TaskResult, request_body
from tests.support.formation import FORMATION, MEMBER, OPERATOR
from tests.support.plain import MAPS, PLAIN, TEXT, damaged, outcome

BYTES_32 = st.binary(min_size=32, max_size=32)
TIMES = st.integers(0, 2**53)


# --- what is signed ---------------------------------------------------------------------------------------------------------------


@given(value=PLAIN)
def test_one_value_has_one_form_and_comes_back(value: Any) -> None:
    form = encode(value)
    assert encode(decode(form)) == form
    assert repr(decode(form)) == repr(decode(encode(decode(form))))


@given(value=PLAIN, data=st.data())
def test_no_other_bytes_mean_the_same(value: Any, data: st.DataObject) -> None:
    form = encode(value)
    other = data.draw(damaged(st.just(form)))
    read_back = outcome(decode, other)
    if other != form and not isinstance(read_back, SkerryError):
        assert encode(read_back) == other


@given(value=PLAIN)
def test_what_is_read_is_what_sorting_and_shortening_would_not_change(value: Any) -> None:
    """The reader looks at the order of keys first, and sorts nothing where that is right."""
    form = pack(value)
    assert isinstance(outcome(decode, form), SkerryError) == (encode(value) != form)


@given(value=MAPS)
def test_the_order_in_which_a_map_was_made_does_not_show(value: dict[str, Any]) -> None:
    assert encode(dict(reversed(value.items()))) == encode(value)


@given(payload=st.binary(max_size=400), aad=st.binary(max_size=20))
def test_a_seal_holds_for_its_payload_its_key_and_its_purpose_alone(payload: bytes, aad: bytes) -> None:
    sealed = read(seal(payload, MEMBER, aad=aad))
    assert sealed.payload == payload
    assert verified(sealed, MEMBER.public, aad=aad)
    assert not verified(sealed, OPERATOR.public, aad=aad)
    assert not verified(sealed, MEMBER.public, aad=aad + b"x")
    assert not verified(sealed._replace(payload=payload + b"x"), MEMBER.public, aad=aad)


@given(payload=st.binary(max_size=100), data=st.data())
def test_no_altered_seal_holds(payload: bytes, data: st.DataObject) -> None:
    whole = seal(payload, MEMBER, aad=b"x")
    other = data.draw(damaged(st.just(whole)))
    sealed = outcome(read, other)
    assert other == whole or isinstance(sealed, SkerryError) or not verified(sealed, MEMBER.public, aad=b"x")


AUDIENCES: st.SearchStrategy[Audience] = st.sampled_from(["formation", "contacts", "public"]) | st.lists(
    BYTES_32, min_size=1, max_size=AUDIENCE_NODES_MAX
).map(tuple)


@given(
    kind=st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=32),
    name=st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=50),
    audience=AUDIENCES,
    stamp=st.integers(0, 2**64 - 1),
    expires=TIMES,
    body=st.dictionaries(TEXT, PLAIN, max_size=3),
)
def test_a_statement_says_what_was_said(kind: str, name: str, audience: Audience, stamp: int, expires: int, body: dict[str, Any]) -> None:
    said = state(OPERATOR, kind=kind, name=name, formation=FORMATION, audience=audience, stamp=stamp, expires=expires, body=body)
    heard = parse(said.signed)
    assert heard == said
    assert (heard.kind, heard.name, heard.audience, heard.stamp, heard.expires) == (kind, name, audience, stamp, expires)
    assert heard.author == OPERATOR.public
    assert heard.tombstone == (not body)


@given(times=st.lists(st.integers(0, 2**47), min_size=2, max_size=30), seen=st.integers(0, 2**62))
def test_stamps_only_rise(times: list[int], seen: int) -> None:
    last = seen
    for now_ms in times:
        stamp = next_stamp(last, now_ms=now_ms)
        assert stamp > last
        assert stamp == stamp_at(now_ms) or stamp == last + 1
        assert stamp_ms(stamp_at(now_ms)) == now_ms
        last = stamp


# --- what only travels --------------------------------------------------------------------------------------------------------------


@given(value=PLAIN)
def test_a_message_comes_back(value: Any) -> None:
    assert unpack(pack(value)) == value


LIKE_BYTES = st.recursive(PLAIN, lambda inner: st.dictionaries(st.sampled_from(["$bytes", "$$bytes", "bytes"]), inner, max_size=2))


@given(value=LIKE_BYTES)
def test_json_and_back_is_the_same_value(value: Any) -> None:
    assert from_json(to_json(value)) == value


@given(
    texts=st.lists(TEXT, min_size=4, max_size=4),
    payload=st.binary(max_size=60),
    created_at=TIMES,
    priority=st.integers(0, 10),
    idempotent=st.booleans(),
    chain=st.lists(TEXT, max_size=2),
    receipt=st.booleans(),
    load=st.integers(0, 3),
    later=st.lists(PLAIN, max_size=2),
)
def test_a_task_comes_back_and_what_a_newer_peer_appends_is_passed_over(
    texts: list[str],
    payload: bytes,
    created_at: int,
    priority: int,
    idempotent: bool,
    chain: list[str],
    receipt: bool,
    load: int,
    later: list[Any],
) -> None:
    task = Task(b"i" * 32, texts[0], texts[1], payload, MEMBER.public, created_at, priority, 0, texts[2], idempotent, chain, receipt)
    assert Task.from_bytes(task.to_bytes()) == task
    assert Task.from_bytes(pack([*astuple(task), *later])) == task
    result = TaskResult(b"i" * 32, True, payload, None, texts[3], OPERATOR.public, created_at, 0.5, load, 1, payload if receipt else None)
    assert TaskResult.from_bytes(result.to_bytes()) == result
    assert TaskResult.from_bytes(pack([*astuple(result), *later])) == result
    request = Request(texts[0], payload, texts[1], priority, hedge=idempotent, where={"of": texts[2]}, receipt=receipt)
    assert Request.from_bytes(pack([*astuple(request), *later])) == request
    assert Request.from_bytes(request_body(texts[0], payload, texts[1], {})) == Request(texts[0], payload, texts[1])


@given(
    addresses=st.lists(TEXT, max_size=3),
    flag=st.booleans(),
    inventory=st.dictionaries(TEXT, PLAIN, max_size=3),
    number=st.integers(0, 2**62),
    unknown=st.dictionaries(st.text(st.characters(codec="ascii", categories=["Lu"]), min_size=1), PLAIN, max_size=2),
)
def test_a_message_comes_back_and_unknown_fields_are_passed_over(
    addresses: list[str], flag: bool, inventory: dict[str, Any], number: int, unknown: dict[str, Any]
) -> None:
    info = NodeInfo("i", "n", "r", "s", "l", flag, addresses, inventory=inventory, agents=number)
    body = pack_message(info)
    assert unpack_message(NodeInfo, body) == info
    assert unpack_message(NodeInfo, pack({**unpack(body), **unknown})) == info


# --- text -----------------------------------------------------------------------------------------------------------------------------

ADDRESS_TEXTS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), min_size=1, max_size=ADDRESSES_MAX)


@given(inviter=BYTES_32, addresses=ADDRESS_TEXTS, secret=st.binary(min_size=16, max_size=16))
def test_a_ticket_comes_back(inviter: bytes, addresses: list[str], secret: bytes) -> None:
    ticket = Ticket(FORMATION, inviter, tuple(addresses), secret)
    text = str(ticket)
    assert text.startswith("skerry1")
    assert text.isalnum()
    assert text == text.lower()
    for same in (text, text.upper(), f"  {text[:40]}\n{text[40:]} "):
        assert parse_ticket(same) == ticket
    assert secret.hex() not in repr(ticket)


TICKET = str(Ticket(FORMATION, OPERATOR.public, ("tcp://127.0.0.1:7420",), b"0123456789abcdef"))
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789=+-_.\u0131\u017f\u212a"  # the last three become i, s, k in another case


def _refused(text: str) -> None:
    said = outcome(parse_ticket, text)
    assert isinstance(said, UsageError), text
    assert said.code == Code.BAD_TICKET
    assert said.hint


@settings(max_examples=settings().max_examples // 20)  # each looks at every place
@given(character=st.sampled_from(CHARACTERS))
def test_a_ticket_altered_in_any_character_is_refused(character: str) -> None:
    for at, old in enumerate(TICKET):
        if old != character:
            _refused(TICKET[:at] + character + TICKET[at + 1 :])
        _refused(TICKET[:at] + character + TICKET[at:])


def test_a_ticket_that_lost_or_swapped_a_character_is_refused() -> None:
    for at in range(len(TICKET)):
        _refused(TICKET[:at] + TICKET[at + 1 :])
        _refused(TICKET[:at])
        if at and TICKET[at] != TICKET[at - 1]:
            _refused(TICKET[: at - 1] + TICKET[at] + TICKET[at - 1] + TICKET[at + 1 :])


@given(text=st.text(st.characters(exclude_characters="/ "), max_size=20), port=st.integers(0, 65535))
def test_an_address_that_is_read_is_written_as_it_was_meant(text: str, port: int) -> None:
    for written in (f"tcp://{text}:{port}", f"[{text}]:{port}", text):
        address = outcome(parse_address, written)
        if isinstance(address, Address):
            assert parse_address(str(address)) == address


ALIKE = st.binary(min_size=1, max_size=2).map(lambda tail: bytes(30) + tail.rjust(2, b"\0")) | BYTES_32  # ids that begin alike


@given(claims=st.lists(st.tuples(ALIKE, st.sampled_from(["alpha", "beta", "alpha~0000", "alpha~aaaa"]), st.integers(0, 3)), max_size=8))
def test_names_are_the_same_everywhere_and_the_oldest_keeps_its_own(claims: list[tuple[bytes, str, int]]) -> None:
    claims = list({identity: (identity, name, at) for identity, name, at in claims}.values())
    shown = display_names(claims)
    assert shown == display_names(reversed(claims))
    assert set(shown) == {identity for identity, _, _ in claims}
    assert len(set(shown.values())) == len(claims), "two nodes show one name"
    for identity, name, at in claims:
        first = all((at, identity) <= (other_at, other) for other, other_name, other_at in claims if other_name == name)
        assert shown[identity] == name or shown[identity].startswith(f"{name}~")
        assert first or shown[identity] != name
        assert not first or "~" in name or shown[identity] == name
