"""The control channel's errors, with the seed's fields: whose it was, where, in which operation, and what the system itself said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skerry.channel.link import Link
from skerry.channel.messages import pack_message
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.identity.contacts import Contact
from skerry.wiring.proxy import (
    EXCHANGE_TIMEOUT_S,
    ControlChannelUnavailable,
    Decode,
    Encode,
    Local,
    LocalOrRemote,
    Rejected,
    RemoteEndpoint,
    RemoteError,
    RemoteProxy,
    UnsupportedTransport,
)
from skerry.wiring.verbs import InjectReply, InjectRequest, LookupReply, LookupRequest, WireCheckRequest, WireReply, WireRequest

ID = b"f" * 32
TCP = RemoteEndpoint.of("tcp://127.0.0.1:9001")
REQUEST = WireRequest("desk", "tcp://127.0.0.1:9000", "demo/role/desk", "00000000-0000-4000-8000-000000000001")


class OneLink:
    """A link that gives one answer; what it was asked is noted."""

    def __init__(self, answer: bytes | SkerryError) -> None:
        self.answer = answer
        self.asked: list[tuple[str, float]] = []

    async def call(self, verb: str, body: bytes, *, timeout_s: float) -> bytes:
        self.asked.append((verb, timeout_s))
        if isinstance(self.answer, SkerryError):
            raise self.answer
        return self.answer


def proxy(answer: bytes | SkerryError, *, dial: SkerryError | None = None) -> tuple[RemoteProxy, OneLink]:
    link: Any = OneLink(answer)

    async def give() -> Link:
        if dial is not None:
            raise dial
        made: Link = link
        return made

    return RemoteProxy("lab", TCP, give), link


VERBS: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "wire": (lambda side: side.wire(REQUEST), WireReply(b"half"), WireReply(b"half")),
    "unwire": (lambda side: side.unwire(REQUEST), WireReply(), None),
    "wire.check": (lambda side: side.check(WireCheckRequest(b"half")), WireReply(b"half"), WireReply(b"half")),
    "inject": (lambda side: side.inject("desk", {"a": 1}), InjectReply("s-1"), "s-1"),
    "lookup_member": (lambda side: side.lookup_member("desk"), LookupReply("p", "n/r/a"), LookupReply("p", "n/r/a")),
}


# --- endpoints, as the seed has them ---------------------------------------------------------------------------------------------------


def test_an_inproc_entry_has_no_proxy() -> None:
    assert RemoteProxy.from_entry(Contact("demo"), proxy(b"")[0]._link) is None


@pytest.mark.parametrize(
    ("address", "scheme", "raw"),
    [("tcp://127.0.0.1:9001", "tcp", "127.0.0.1:9001"), ("uds:///tmp/cross-node.sock", "uds", "/tmp/cross-node.sock")],
)
def test_an_entry_gives_an_endpoint_that_goes_round(address: str, scheme: str, raw: str) -> None:
    made = RemoteProxy.from_entry(Contact("remote", ID, addresses=(address,)), proxy(b"")[0]._link)
    assert made is not None
    assert made.mob_id == "remote"
    assert (made.endpoint.scheme, made.endpoint.raw, made.endpoint.comms_address) == (scheme, raw, address)
    assert RemoteEndpoint.of(made.endpoint.comms_address) == made.endpoint


def test_an_entry_without_an_address_is_reached_by_its_id_and_one_of_another_scheme_not_at_all() -> None:
    made = RemoteProxy.from_entry(Contact("remote", ID), proxy(b"")[0]._link)
    assert made is not None
    assert made.endpoint.comms_address == f"via:{ID.hex()}"
    assert RemoteEndpoint.of(made.endpoint.comms_address) == made.endpoint
    with pytest.raises(UnsupportedTransport) as refused:
        RemoteProxy.from_entry(Contact("remote", ID, addresses=("https://example.org/",)), proxy(b"")[0]._link)
    assert (refused.value.mob_id, refused.value.transport) == ("remote", "https")


@pytest.mark.parametrize("address", ["", "tcp", "tcp://", "ftp://host:1", "via:", "//x"])
def test_what_is_no_endpoint_is_said(address: str) -> None:
    with pytest.raises(UnsupportedTransport):
        RemoteEndpoint.of(address)


# --- verbs and errors ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(VERBS))
async def test_each_verb_asks_once_and_gives_its_reply(verb: str) -> None:
    ask, reply, wanted = VERBS[verb]
    side, link = proxy(pack_message(reply))
    either = LocalOrRemote(side)
    assert not either.is_local
    assert await ask(either) == wanted
    assert link.asked == [(verb, EXCHANGE_TIMEOUT_S)]


@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize(
    ("answer", "operation", "may_be_done"),
    [
        (Unreachable("the link broke", outcome_unknown=True), "read", True),
        (Unreachable("it never left"), "write", True),
        (Refused("no answer in time", code=Code.DEADLINE_EXCEEDED), "timeout", True),
        (Unreachable("no answer in time", code=Code.DEADLINE_EXCEEDED), "timeout", True),
    ],
)
async def test_a_channel_that_fails_says_whose_where_and_when(verb: str, answer: SkerryError, operation: str, may_be_done: bool) -> None:
    side, _ = proxy(answer)
    with pytest.raises(ControlChannelUnavailable) as failed:
        await VERBS[verb][0](side)
    error = failed.value
    assert (error.mob_id, error.endpoint, error.operation) == ("lab", "tcp://127.0.0.1:9001", operation)
    assert error.code == Code.UNREACHABLE
    assert error.outcome_unknown is may_be_done
    assert error.__cause__ is answer
    assert "lab" in error.message
    assert answer.message in error.message
    assert error.hint


async def test_a_way_that_can_not_be_opened_keeps_the_systems_own_error() -> None:
    system = ConnectionRefusedError(111, "Connection refused")
    dial = Unreachable("nobody listens")
    dial.__cause__ = system
    side, link = proxy(b"", dial=dial)
    with pytest.raises(ControlChannelUnavailable) as failed:
        await side.wire(REQUEST)
    assert failed.value.operation == "connect"
    assert not failed.value.outcome_unknown, "nothing was asked yet: asking again is safe"
    assert failed.value.__cause__ is dial
    assert dial.__cause__ is system
    assert link.asked == []


@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER, Code.NO_COMMS, Code.PEER_SPEC, Code.MOB_ERROR, Code.BUSY, "a_code_of_next_year"])
async def test_a_refusal_keeps_the_peers_code_also_one_that_is_not_known_here(code: str) -> None:
    side, _ = proxy(Refused("because", code=code, hint="ask them"))
    with pytest.raises(Rejected) as refused:
        await side.lookup_member("desk")
    error = refused.value
    assert (error.mob_id, error.endpoint, error.code, error.message, error.hint) == (
        "lab",
        "tcp://127.0.0.1:9001",
        code,
        "because",
        "ask them",
    )
    assert str(error) == f"remote node 'lab' control channel (tcp://127.0.0.1:9001) rejected request [{code}]: because"
    assert error.__cause__ is not None


def of_the_peer(error: SkerryError) -> SkerryError:
    error.from_peer = True
    return error


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Refused("it took too long here", code=Code.DEADLINE_EXCEEDED), Code.DEADLINE_EXCEEDED),
        (Unreachable("it ends", code=Code.SHUTTING_DOWN), Code.SHUTTING_DOWN),
        (Unreachable("no way to that node", code=Code.UNREACHABLE), Code.UNREACHABLE),
    ],
)
async def test_what_the_peer_itself_says_is_a_refusal_of_its_own_whatever_its_code(answer: SkerryError, code: str) -> None:
    """The channel works: somebody at its other end said so."""
    side, _ = proxy(of_the_peer(answer))
    with pytest.raises(Rejected) as refused:
        await side.wire(REQUEST)
    assert (refused.value.code, refused.value.message) == (code, answer.message)
    side, _ = proxy(of_the_peer(Unreachable("it was cut short", code=Code.CANCELLED, outcome_unknown=True)))
    with pytest.raises(ControlChannelUnavailable) as failed:
        await side.wire(REQUEST)
    assert failed.value.outcome_unknown


async def test_the_errors_have_the_fields_the_texts_and_the_advice_that_they_always_had() -> None:
    refused = Refused("because", code="x")
    unavailable = ControlChannelUnavailable("lab", "tcp://h:1", "connect", refused)
    errors: list[tuple[RemoteError, str, set[str]]] = [
        (UnsupportedTransport("lab", "https"), "remote node 'lab' uses unsupported transport: https", {"mob_id", "transport"}),
        (
            unavailable,
            "remote node 'lab' control channel (tcp://h:1): operation 'connect' failed: because",
            {"mob_id", "endpoint", "operation"},
        ),
        (
            Rejected("lab", "tcp://h:1", "busy", "later"),
            "remote node 'lab' control channel (tcp://h:1) rejected request [busy]: later",
            {"mob_id", "endpoint", "code", "message"},
        ),
        (Encode("tcp://h:1", "a set"), "control request encode failed for tcp://h:1: a set", {"endpoint", "message"}),
        (Decode("tcp://h:1", "no map"), "control response decode failed for tcp://h:1: no map", {"endpoint", "message"}),
    ]
    for error, text, fields in errors:
        assert isinstance(error, RemoteError)
        assert str(error) == text
        assert all(getattr(error, field) for field in fields)
    assert "confirm the peer node is running with a control listener bound on this endpoint" in unavailable.hint
    assert [error.message for error, _, fields in errors if "message" in fields] == ["later", "a set", "no map"]


def test_the_names_are_found_where_one_looks_for_them() -> None:
    import skerry

    assert (skerry.RemoteProxy, skerry.LocalOrRemote, skerry.RemoteEndpoint) == (RemoteProxy, LocalOrRemote, RemoteEndpoint)
    for name in ("UnsupportedTransport", "ControlChannelUnavailable", "Rejected", "Encode", "Decode"):
        assert issubclass(getattr(skerry, name), skerry.RemoteError)
    for either in (skerry.RemoteProxy, skerry.LocalOrRemote):
        assert all(callable(getattr(either, verb)) for verb in ("wire", "unwire", "inject", "lookup_member"))


@pytest.mark.parametrize("answer", [b"", b"\xff", b"\x01", b"\xa1\x61a\x01", b"\x81\x80", b"garbage"])
@pytest.mark.parametrize("verb", ["inject", "lookup_member"])
async def test_an_answer_that_is_none_is_said(verb: str, answer: bytes) -> None:
    side, _ = proxy(answer)
    with pytest.raises(Decode) as failed:
        await VERBS[verb][0](side)
    assert failed.value.endpoint == "tcp://127.0.0.1:9001"
    assert failed.value.code == Code.DECODE
    assert failed.value.__cause__ is not None
    side, _ = proxy(ProtocolError("no frame"))
    with pytest.raises(Decode):
        await VERBS[verb][0](side)


@pytest.mark.parametrize("content", [object(), {1: object()}, 2**80, lambda: None])
async def test_a_request_that_can_not_be_sent_is_said_before_anything_is_opened(content: object) -> None:
    side, link = proxy(b"", dial=Unreachable("must not be tried"))
    with pytest.raises(Encode) as failed:
        await side.inject("desk", content)
    assert failed.value.endpoint == "tcp://127.0.0.1:9001"
    assert failed.value.__cause__ is not None
    assert link.asked == []


# --- this process ----------------------------------------------------------------------------------------------------------------------


class Here:
    """Answers the verbs, and notes as whom it was asked."""

    identity = b"n" * 32

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    def serve_lookup(self, request: LookupRequest) -> LookupReply:
        self.asked.append(("lookup_member", b""))
        return LookupReply("p", "n/r/a")

    def serve_wire(self, request: WireRequest, *, caller: bytes) -> WireReply:
        self.asked.append(("wire", caller))
        return WireReply(b"half")

    def serve_unwire(self, request: WireRequest, *, caller: bytes) -> WireReply:
        self.asked.append(("unwire", caller))
        return WireReply()

    def serve_check(self, request: WireCheckRequest, *, caller: bytes) -> WireReply:
        self.asked.append(("wire.check", caller))
        return WireReply(b"half")

    async def serve_inject(self, request: InjectRequest, *, caller: bytes) -> InjectReply:
        self.asked.append(("inject", caller))
        return InjectReply("s-1")


@pytest.mark.parametrize("verb", sorted(VERBS))
async def test_this_process_answers_for_itself_with_the_same_words(verb: str) -> None:
    ask, _, wanted = VERBS[verb]
    here = Here()
    side = LocalOrRemote(Local(here))
    assert side.is_local
    assert await ask(side) == wanted
    assert here.asked == [(verb, b"" if verb == "lookup_member" else Here.identity)]
