"""Every decoder of bytes that come over the network, with valid inputs for it: from the vectors, and an example of every message.

A decoder returns a value or raises a SkerryError. Where a value has one form only, `write` gives the bytes again, and they must be those
that were read. Machines (sessions, transfers, handshakes) are fed whole conversations. What is read from files and from HTTP stands in
`files.py`.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cbor2
import msgspec
from blake3 import blake3

from skerry.agents import verbs as agent_verbs
from skerry.agents.letters import HearReply, HearRequest, KeepRequest, Letter, Outgoing, session_of
from skerry.agents.mailbox import Mailbox
from skerry.agents.spec import Spec
from skerry.channel.framing import AWAY, CALL, CANCEL, CREDIT, FAIL, PART, PING, PONG, REPLY, WANT_BULK, FrameReader, decode_frame
from skerry.channel.messages import convert, pack_message, unpack_message, unpack_struct
from skerry.channel.session import Session
from skerry.channel.transfer import Transfers
from skerry.errors import SkerryError
from skerry.identity.codec import decode, encode, pack, unpack
from skerry.identity.grants import Roster, read_departure, read_grant, read_revocation
from skerry.identity.keys import KeyPair, agent_id
from skerry.identity.pieces import has_few_items, joined, unpack_array, unpack_body
from skerry.identity.sealed import Sealed, read, seal
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement, parse, parse_unverified, state
from skerry.identity.ticket import CHECKSUM_BYTES, PREFIX, Ticket, hash_secret, parse_ticket
from skerry.node.addressees import address_of, target_of
from skerry.node.operations import VERBS
from skerry.records.card import read_card
from skerry.routing.announcement import judge, read_announcement
from skerry.routing.circle import read_charter, read_entry
from skerry.routing.task import Request, Task, TaskResult, error_from
from skerry.wiring.outbox import Target
from skerry.wiring.verbs import DeliverRequest
from skerry.wiring.wires import KIND, End, half_body, read_descriptor, read_half, wire_name
from tests.fuzz.examples import example
from tests.fuzz.inputs import BYTES, CANONICAL, CBOR, Shape
from tests.support.formation import FORMATION, MEMBER, NOW_MS, OPERATOR
from tests.support.handshakes import dialler, listener
from tests.vectors import cases

ITEMS_MAX = 100
LARGE = 3  # the place of a task's payload


@dataclass(frozen=True, slots=True)
class Decoder:
    """`seeds`: valid inputs. `slow`: signs or checks signatures, or opens files, and so is tried less often."""

    read: Callable[[bytes], Any]
    seeds: list[bytes]
    shape: Shape = CBOR
    write: Callable[[Any], bytes] | None = None
    slow: bool = False
    refusals: tuple[type[Exception], ...] = field(default=(SkerryError,))


# --- shapes -----------------------------------------------------------------------------------------------------------------------


def text(function: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A reader of text, as one of bytes."""
    return lambda data: function(data.decode("utf-8", "replace"))


def signed(key: KeyPair, aad: bytes) -> Shape:
    """What is inside a signature is changed, and signed again."""
    return Shape(lambda data: decode(read(data).payload), lambda value: seal(CANONICAL.wrap(value), key, aad=aad))


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def _conversation(frames: Any) -> bytes:
    return b"".join(_framed(cbor2.dumps(frame)) for frame in frames)


def _ticket(value: Any) -> bytes:
    body: bytes = CANONICAL.wrap(value)
    return (PREFIX + base64.b32encode(body + _sum(body)).decode().rstrip("=").lower()).encode()


def _sum(body: bytes) -> bytes:
    return blake3(PREFIX.encode() + body).digest()[:CHECKSUM_BYTES]


def _inside_ticket(data: bytes) -> Any:
    body = data.decode()[len(PREFIX) :].upper()
    return cbor2.loads(base64.b32decode(body + "=" * (-len(body) % 8))[:-CHECKSUM_BYTES])


def _published(signed: bytes) -> bytes:
    return encode([signed, [cases.records()["grant of an operator"].signed]])


def _inside_published(data: bytes) -> Any:
    return decode(read(decode(data)[0]).payload)


FRAMES = Shape(lambda data: FrameReader().feed(data), _conversation)
RECORD = signed(OPERATOR, b"skerry/record/1")
TICKET = Shape(_inside_ticket, _ticket)
PUBLISHED = Shape(_inside_published, lambda value: _published(RECORD.wrap(value)))  # an announcement, and the grant of who says it


# --- reading ----------------------------------------------------------------------------------------------------------------------


def _in_pieces(data: bytes) -> list[Any]:
    """Frames out of bytes that come in two pieces, a few frames at a time, are those out of the whole."""
    whole = FrameReader().feed(data)
    reader, frames = FrameReader(), []
    for piece in (data[: len(data) // 3], data[len(data) // 3 :]):
        frames += reader.feed(piece, most=2)
        while reader.has_more:
            frames += reader.feed(b"", most=2)
    assert repr(frames) == repr(whole)
    return whole


def _array(data: bytes) -> Any:
    """A large value found where it lies is what the ordinary reader finds."""
    value, view = unpack_array(data, large=LARGE)
    has_few_items(data, most=ITEMS_MAX)
    assert repr(unpack_body(data)) == repr(unpack(data))
    if view is not None:
        assert unpack(data)[LARGE] == view
    return value


def _session(data: bytes) -> Session:
    """A peer speaks; we answer what it asks for, and give it credit."""
    session = Session()
    session.call("task.call", b"", timeout_ms=1000)
    session.call("task.call", b"", timeout_ms=1000, credit=2)
    for frame in FrameReader().feed(data):
        session.receive(frame)
        for number in list(session._served)[:1]:
            if session.credit_of(number):
                session.part(number, b"part")
            session.reply(number, b"")
    assert session.served_calls <= len(data)
    return session


def _transfers(data: bytes) -> Transfers:
    transfers = Transfers()
    transfers.offer(bytes(100))
    transfers.offer(bytes(70_000))
    for frame in FrameReader().feed(data):
        transfers.receive(frame)
        while transfers.next_chunk(1) is not None or transfers.next_chunk(2) is not None:
            pass
        assert transfers.held_bytes >= 0
    return transfers


def _greeted(machine: Callable[[], Any], data: bytes) -> Any:
    """A handshake that is told something. It refuses by effects, and never raises."""
    handshake = machine()
    effects = handshake.start()
    for frame in FrameReader().feed(data):
        effects = handshake.receive(frame)
    return effects


def _message(kinds: list[type], data: bytes) -> Any:
    """The first byte says which message it is."""
    return unpack_message(kinds[data[0] % len(kinds)], data[1:]) if data else None


def _messages() -> Decoder:
    kinds = [kind for operation in VERBS.values() for kind in (operation.request, operation.reply) if not hasattr(kind, "from_bytes")]
    kinds += [agent_verbs.ActivateRequest, agent_verbs.ActivateReply, agent_verbs.HealthReply, agent_verbs.MeshCallRequest, Spec]
    kinds = list(dict.fromkeys(kinds))
    seeds = [bytes([number]) + pack_message(example(kind)) for number, kind in enumerate(kinds)]
    number: list[bytes] = [b"\x00"]

    def inside(data: bytes) -> Any:
        number[0] = data[:1]
        return cbor2.loads(data[1:])

    return Decoder(functools.partial(_message, kinds), seeds, Shape(inside, lambda value: number[0] + cbor2.dumps(value)))


def _judged(data: bytes) -> Any:
    """What is said about trust, as a node that hears it reads it."""
    said = parse(data)
    for reader in (read_grant, read_revocation, read_departure):
        try:
            reader(said)
        except SkerryError:
            continue
    roster = Roster(FORMATION)
    roster.learn(said)
    return roster.standing(MEMBER.public, now_ms=NOW_MS)


def _circles(data: bytes) -> Any:
    """What is said about circles, as a node that hears it reads it."""
    said = parse(data)
    if said.kind == "circle":
        return read_announcement(said)
    return read_entry(said) if said.kind == "entry" else read_charter(said)


def _error(data: bytes) -> SkerryError:
    error = error_from(unpack(data))
    assert isinstance(error, SkerryError)
    return error


def _sealed_again(sealed: Sealed) -> bytes:
    return b"\x84\x43\xa1\x01\x27\xa0" + encode(sealed.payload) + encode(sealed.signature)


def _kept(kind: str) -> list[bytes]:
    return list(cases.everything()[kind].values())


def _records(*names: str) -> list[bytes]:
    return [statement.signed for name, statement in cases.records().items() if not names or any(word in name for word in names)]


def _letters() -> dict[str, Decoder]:
    """What is said of letters and wires."""
    session = session_of(b"desk", "book")
    letters = [Letter(session, number, "beta/left", "ab" * 16 + "@" + "cd" * 32, pack({"n": number})) for number in (1, 2)]
    hear = msgspec.to_builtins(HearRequest(3, letters), builtin_types=(bytes,))
    heard = HearReply(1, b"state", [Outgoing("ab" * 16 + "@" + "cd" * 32, b"content", urgent=True)], "no", 1)
    own, peer = (
        End(agent_id(agent.public), node.public, FORMATION, name, agent.public)
        for agent, node, name in ((cases.AGENT, OPERATOR, "alpha/Desk/left"), (MEMBER, MEMBER, "beta/Book/right"))
    )
    half = state(
        OPERATOR,
        kind=KIND,
        name=wire_name(own.agent, peer.agent),
        formation=FORMATION,
        audience=(OPERATOR.public, MEMBER.public),
        stamp=stamp_at(NOW_MS),
        expires=NOW_MS + 1000,
        body=half_body(own, peer),
    )
    return {
        "letters": Decoder(_delivered, [pack_message(DeliverRequest("ab" * 16, letters, b"v" * 96, b"c" * 32))]),
        "hear": Decoder(lambda data: convert(unpack_body(data), HearRequest), [pack(hear)]),
        "kept": Decoder(lambda data: unpack_struct(KeepRequest, data, large="state"), [joined(KeepRequest(b"state", []).to_bytes())]),
        "heard": Decoder(lambda data: convert(unpack_body(data), HearReply), [pack(msgspec.to_builtins(heard, builtin_types=(bytes,)))]),
        "address": Decoder(_address, [letters[0].reply_to.encode(), f"{letters[0].reply_to}@{'ef' * 32}".encode()], BYTES),
        "shown descriptor": Decoder(lambda data: read_descriptor(data, now_ms=NOW_MS), [half.signed], RECORD, slow=True),
        "descriptor": Decoder(lambda data: read_half(parse_unverified(data)[0]), [half.signed], RECORD, slow=True),
    }


def _delivered(data: bytes) -> DeliverRequest:
    """What is sound is within its bounds, and has a place on the disk."""
    request = unpack_message(DeliverRequest, data)
    box = Mailbox("desk", [])
    for letter in request.letters:
        if letter.is_sound:
            box.take([letter])
            box.handled(box.next(1), now_ms=0)
            assert box.after([letter], now_ms=0)
            assert len(letter.id) < 100
    return request


def _address(data: bytes) -> Target:
    target = target_of(data.decode("utf-8", "replace"))
    assert target_of(address_of(target)) == target
    return target


def network() -> dict[str, Decoder]:
    """Name -> decoder."""
    records, frames = _records(), _kept("frames")
    values = [pack([1, {"a": [1, 2.5, None, True, "text", b"bytes"]}]), *(read(one).payload for one in records)]
    task, done, failed = (joined(one.to_bytes()) for one in (cases.TASK, cases.DONE, cases.FAILED))
    calls = [b"".join(frames[at : at + 5]) for at in range(0, len(frames), 3)]
    announced = _published(cases.records()["circle"].signed)
    handshake = cases.handshakes()
    said = {side: [_conversation([handshake[f"tcp {step}"] for step in steps])] for side, steps in _STEPS.items()}
    return {
        "decode": Decoder(decode, [encode(cbor2.loads(value)) for value in values], CANONICAL, write=encode),
        "unpack": Decoder(unpack, values),
        "unpack_array": Decoder(_array, [task, pack([1, 2, 3, bytes(65_000), 5])]),
        "frame": Decoder(decode_frame, [frame[4:] for frame in frames]),
        "frames": Decoder(_in_pieces, calls, FRAMES),
        "encoded frame": Decoder(decode_frame, [frame[4:] for frame in frames], CANONICAL),
        "session": Decoder(_session, [_conversation(_A_SESSION)], FRAMES),
        "transfer": Decoder(_transfers, [_conversation(_A_TRANSFER)], FRAMES),
        "handshake, dialler": Decoder(functools.partial(_greeted, dialler), said["dialler"], FRAMES, slow=True),
        "handshake, listener": Decoder(functools.partial(_greeted, listener), said["listener"], FRAMES, slow=True),
        "sealed": Decoder(read, records, BYTES, write=_sealed_again),
        "statement": Decoder(parse_unverified, records, RECORD, write=_signed, slow=True),
        "trust": Decoder(_judged, _records("grant", "revocation", "departure"), RECORD, slow=True),
        "circles": Decoder(_circles, _records("charter", "entry", "circle"), RECORD, slow=True),
        "announcement": Decoder(functools.partial(judge, now_ms=NOW_MS), [announced], PUBLISHED, slow=True),
        "card": Decoder(read_card, [cases.card()[1]], signed(cases.AGENT, b"skerry/card/1"), slow=True),
        "messages": _messages(),
        "task": Decoder(Task.from_bytes, [task]),
        "request": Decoder(Request.from_bytes, [pack(["custom:greet", b"payload", "", 5, 0, "formation"])]),
        "result": Decoder(TaskResult.from_bytes, [done, failed]),
        "work": Decoder(_work, [joined(example(agent_verbs.RunRequest).to_bytes())]),
        "error": Decoder(_error, [pack(["busy", "no", "wait", True])]),
        **_letters(),
        "ticket": Decoder(_ticket_text, [str(cases.TICKET).encode()], TICKET, slow=True),
    }


_STEPS = {"dialler": ("answer", "welcome"), "listener": ("hello", "proof")}
_A_SESSION: list[list[Any]] = [
    [CALL, 1, "task.call", 60_000, 0, b"payload"],
    [CALL, 2, "task.call", 60_000, 32, b"payload"],
    [CREDIT, 2, 8],
    [CALL, 3, "ping", 1000, 0, 1],
    [CANCEL, 3],
    [PART, 2, b"part"],
    [PART, 2, 1],
    [REPLY, 2, b""],
    [FAIL, 1, "busy", "no", "wait", False],
    [PING, 7],
    [PONG, 7],
    [AWAY, "update"],
    [WANT_BULK],
]
_A_TRANSFER: list[list[Any]] = [
    [16, 1, 4],
    [18, 1, b"abcd"],
    [19, 1, blake3(b"abcd").digest()],
    [17, 1, 1000],
    [17, 2, 200_000],
    [20, 1],
    [21, 2, "busy", "no"],
]


def _signed(parsed: tuple[Statement, Sealed]) -> bytes:
    """What was read, written again: the payload from the fields, the signature as it came."""
    statement, sealed = parsed
    audience = list(statement.audience) if isinstance(statement.audience, tuple) else statement.audience
    names = ("kind", "name", "author", "formation", "stamp", "expires", "body")
    payload = encode({"v": 1, "audience": audience, **{name: getattr(statement, name) for name in names}})
    return _sealed_again(Sealed(payload, sealed.signature))


def _work(data: bytes) -> Any:
    return unpack_struct(agent_verbs.RunRequest, data, large="payload")


def _ticket_text(data: bytes) -> Ticket:
    ticket = parse_ticket(data.decode("utf-8", "replace"))
    hash_secret(ticket.secret)
    assert parse_ticket(str(ticket)) == ticket
    return ticket
