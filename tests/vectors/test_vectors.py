"""Golden bytes: what one release wrote, the next ones read, and write alike.

The files are append-only. An entry that does not fit any more means that nodes of two releases won't understand each other, or that records
on disks lose their signature: then the version goes up, and the old entry stays. A new entry is added by hand, from what the test says.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.channel.framing import SHAPES, FrameReader, encode_frame
from skerry.channel.handshake import Proved, Send
from skerry.identity.grants import Role, Roster, State
from skerry.identity.statement import parse
from skerry.identity.ticket import parse_ticket
from skerry.records.card import read_card
from skerry.records.record import KINDS
from skerry.routing.announcement import read_announcement
from skerry.routing.circle import read_charter, read_entry
from skerry.routing.task import Task, TaskResult
from skerry.wiring.wires import read_half
from tests.support.formation import CLIENT, FORMATION, MEMBER, NOW_MS, OPERATOR
from tests.support.handshakes import LINK, dialler, listener
from tests.vectors import cases

FOLDER = Path(__file__).parent
FILES = ("records", "frames", "handshakes", "others")


def golden(file: str) -> dict[str, bytes]:
    whole: dict[str, str] = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    return {name: bytes.fromhex(text) for name, text in whole.items()}


@pytest.mark.parametrize("file", FILES)
def test_what_we_write_today_is_what_was_written_then(file: str) -> None:
    written = cases.everything()[file]
    kept = golden(file)
    missing = {name: data.hex() for name, data in written.items() if name not in kept}
    assert not missing, f"add to {file}.json: {json.dumps(missing, ensure_ascii=False)}"
    for name, data in written.items():
        assert data.hex() == kept[name].hex(), f"{file}: {name}"


@pytest.mark.parametrize("file", FILES)
def test_no_vector_is_left_without_a_test(file: str) -> None:
    assert list(golden(file)) == list(cases.everything()[file])


def test_every_kind_of_record_and_every_frame_has_one() -> None:
    assert {parse(data).kind for data in golden("records").values()} >= set(KINDS)
    assert {FrameReader().feed(data)[0][0] for data in golden("frames").values()} == set(SHAPES)


@pytest.mark.parametrize("name", cases.records())
def test_records_are_read_as_they_were_meant(name: str) -> None:
    read = parse(golden("records")[name])
    assert read == cases.records()[name]
    assert read.tombstone == (name == "tombstone")


def test_what_the_records_say_about_trust() -> None:
    roster = Roster(FORMATION)
    said = {name: parse(data) for name, data in golden("records").items()}
    for name in ("grant of an operator", "grant of a member", "grant of a client"):
        roster.learn(said[name])
    stands = {who: roster.standing(who.public, now_ms=NOW_MS) for who in (OPERATOR, MEMBER, CLIENT)}
    assert [(one.state, one.role) for one in stands.values()] == [(State.VALID, role) for role in Role]
    roster.learn(said["departure"])
    assert roster.standing(MEMBER.public, now_ms=NOW_MS).state is State.DEPARTED
    roster.learn(said["revocation"])
    assert roster.standing(MEMBER.public, now_ms=NOW_MS).reason == "stolen"


def test_what_the_records_say_about_circles() -> None:
    said = {name: parse(data) for name, data in golden("records").items()}
    assert read_charter(said["charter"]) == cases.circle().charter
    assert read_entry(said["entry"]) == [cases.circle().id]
    read = read_announcement(said["circle"])
    assert replace(read, signature=b"", signed=b"") == cases.announcement()
    assert read.idempotent == ("inference:llama3:8b",), "what only one of its two members lets be done twice is not"


def test_what_the_records_say_about_wires() -> None:
    half = read_half(parse(golden("records")["wire"]))
    assert (half.own, half.peer) == cases.ends()


@pytest.mark.parametrize("name", cases.every_frame())
def test_frames_are_read_as_they_were_meant(name: str) -> None:
    (frame,) = FrameReader().feed(golden("frames")[name])
    assert frame == cases.every_frame()[name]
    assert list(map(type, frame)) == list(map(type, cases.every_frame()[name]))


def test_a_handshake_of_then_holds_today() -> None:
    """Each side, with the keys and nonces of then, is shown what the other one said then."""
    said = {name: FrameReader().feed(data)[0] for name, data in golden("handshakes").items()}
    near, far = dialler(), listener()
    assert near.start() == [Send(said["tcp hello"])]
    far.start()
    assert far.receive(said["tcp hello"]) == [Send(said["tcp answer"])]
    assert near.receive(said["tcp answer"]) == [Send(said["tcp proof"])]
    assert isinstance(far.receive(said["tcp proof"])[0], Proved)
    assert far.welcome(link=LINK) == [Send(said["tcp welcome"])]
    assert isinstance(near.receive(said["tcp welcome"])[0], Proved)
    assert encode_frame(said["tcp hello"]) == golden("handshakes")["tcp hello"]


def test_the_others_are_read_as_they_were_meant() -> None:
    kept = golden("others")
    assert parse_ticket(kept["ticket"].decode()) == cases.TICKET
    assert read_card(kept["card"]) == cases.card()[0]
    assert Task.from_bytes(kept["task"]) == cases.TASK
    assert TaskResult.from_bytes(kept["result"]) == cases.DONE
    assert TaskResult.from_bytes(kept["failure"]) == cases.FAILED
