"""The handshake's table, row by row, and every way to cheat that we could think of."""

from __future__ import annotations

import itertools

import pytest

from skerry.channel.framing import ANSWER, HELLO, PROOF, REFUSE, SHAPES, WELCOME, Frame, decode_frame, encode_frame
from skerry.channel.handshake import GRANT_BYTES_MAX, TABLE, Closed, Handshake, Proved, Purpose, Send, State
from skerry.errors import Code, ProtocolError, Refused, SkerryError
from skerry.identity.keys import KeyPair
from tests.support.formation import STRANGER
from tests.support.handshakes import (
    BINDING,
    DIALLER,
    LINK,
    LISTENER,
    SEEN_BY_DIALLER,
    SEEN_BY_LISTENER,
    UNIX,
    dialler,
    end,
    frames,
    listener,
    peer,
    talk,
    through,
)

FILLER = {int: 1, str: "x", bytes: b"x", bool: False}
SAMPLES: dict[int, Frame] = {kind: [kind, *(FILLER[field] for field in shapes[0][1:])] for kind, shapes in SHAPES.items()}


def in_state(state: State) -> Handshake:
    """A handshake that came to that state in the proper way."""
    near, far = dialler(), listener()
    if state is State.START:
        return near
    (hello,) = frames(near.start())
    if state is State.HELLO_SENT:
        return near
    far.start()
    if state is State.LISTENING:
        return far
    (answer,) = frames(far.receive(hello))
    if state is State.ANSWERED:
        return far
    (proof,) = frames(near.receive(answer))
    if state is State.PROOF_SENT:
        return near
    far.receive(proof)
    if state is State.JUDGING:
        return far
    far.welcome(link=LINK)
    if state is State.OPEN:
        return far
    far.refuse(Refused("no"))
    return far


@pytest.mark.parametrize("state", State)
def test_each_state_can_be_reached(state: State) -> None:
    assert in_state(state).state is state


OUTSIDE = [(state, kind) for state, kind in itertools.product(State, SHAPES) if (state, kind) not in TABLE and state is not State.DEAD]


@pytest.mark.parametrize(("state", "kind"), OUTSIDE)
def test_what_is_not_in_the_table_ends_it(state: State, kind: int) -> None:
    handshake = in_state(state)
    effects = handshake.receive(SAMPLES[kind])
    assert [type(effect) for effect in effects] == [Send, Closed]
    assert frames(effects)[0][0] == REFUSE
    assert isinstance(end(effects), ProtocolError)
    assert handshake.state is State.DEAD
    assert handshake.receive(SAMPLES[kind]) == [], "the dead say nothing"


@pytest.mark.parametrize(("state", "kind"), TABLE)
def test_what_is_in_the_table_but_nonsense_ends_it_too(state: State, kind: int) -> None:
    handshake = in_state(state)
    effects = handshake.receive(SAMPLES[kind])
    assert end(effects) is not None
    assert handshake.state is State.DEAD


def test_the_table_is_what_the_docstring_draws() -> None:
    assert sorted((state.value, kind) for state, kind in TABLE) == [
        ("answered", PROOF),
        ("answered", REFUSE),
        ("hello_sent", ANSWER),
        ("hello_sent", REFUSE),
        ("listening", HELLO),
        ("proof_sent", WELCOME),
        ("proof_sent", REFUSE),
    ]


@pytest.mark.parametrize("purpose", Purpose)
def test_two_honest_sides_come_to_trust_each_other(purpose: Purpose) -> None:
    near, far = talk(dialler(purpose=purpose), listener())
    seen_far, seen_near = peer(near), peer(far)
    assert seen_far is not None
    assert seen_near is not None
    assert (seen_far.id, seen_near.id) == (LISTENER.public, DIALLER.public)
    assert (seen_far.link, seen_near.link) == (LINK, LINK if purpose is Purpose.BULK else b"")
    assert seen_far.purpose == seen_near.purpose == purpose
    assert seen_near.grant == b"grant of " + DIALLER.public[:4]
    assert (seen_near.clock_ahead_ms, seen_far.clock_ahead_ms) == (-1, 1)
    assert [frame[0] for frame in frames(near)] == [HELLO, PROOF]
    assert [frame[0] for frame in frames(far)] == [ANSWER, WELCOME]
    for frame in (*frames(near), *frames(far)):
        assert decode_frame(encode_frame(frame)[4:]) == frame


def test_the_listener_shows_its_grant_only_to_the_proved() -> None:
    handshake = in_state(State.LISTENING)
    (answer,) = frames(handshake.receive(frames(dialler().start())[0]))
    assert handshake.ours.grant not in answer


# --- the pin --------------------------------------------------------------------------------------------------------------------------


def test_the_pin_is_checked_before_the_dialler_says_anything() -> None:
    handshake = dialler(expected=STRANGER)
    effects = handshake.start()
    assert frames(effects) == []
    error = end(effects)
    assert isinstance(error, Refused)
    assert error.code == Code.WRONG_IDENTITY
    assert STRANGER.public.hex()[:10] in error.message
    assert LISTENER.public.hex()[:10] in error.message
    assert error.hint


def test_without_a_certificate_the_answer_is_held_to_the_pin() -> None:
    near, _ = talk(dialler(expected=STRANGER, security=UNIX), listener(security=UNIX))
    error = end(near)
    assert error is not None
    assert error.code == Code.WRONG_IDENTITY


def test_without_a_pin_the_answer_is_held_to_the_certificate() -> None:
    near, _ = talk(dialler(expected=None), listener())
    assert peer(near) is not None
    near, _ = talk(dialler(expected=None), listener(STRANGER))
    assert getattr(end(near), "code", "") == Code.WRONG_IDENTITY
    assert len(frames(near)) == 2, "HELLO and REFUSE, no proof"


# --- proofs ---------------------------------------------------------------------------------------------------------------------------

WRONG = [
    ("another binding for the listener", dialler(), listener(security=through(SEEN_BY_LISTENER, binding=bytes(32)))),
    ("another binding for the dialler", dialler(security=through(SEEN_BY_DIALLER, binding=BINDING[::-1])), listener()),
    ("another transport", dialler(), listener(security=through(SEEN_BY_LISTENER, transport="uds"))),
]


@pytest.mark.parametrize(("what", "near", "far"), WRONG)
def test_a_proof_holds_for_its_transport_alone(what: str, near: Handshake, far: Handshake) -> None:
    """Somebody between the two would have a certificate, and so a binding, of its own."""
    said, heard = talk(near, far)
    assert peer(said) is None, what
    assert peer(heard) is None, what
    assert getattr(end(said), "code", "") == Code.WRONG_IDENTITY
    assert getattr(end(heard), "code", "") == Code.WRONG_IDENTITY, "the peer is told"


def _answered(key: KeyPair = DIALLER, *, nonce: int = 1) -> tuple[Handshake, Handshake, Frame]:
    """A dialler that has sent its HELLO, the listener, and its ANSWER."""
    near, far = dialler(key, nonce=nonce), listener(nonce=nonce + 10)
    far.start()
    (answer,) = frames(far.receive(frames(near.start())[0]))
    return near, far, answer


def _is_refused(handshake: Handshake, frame: Frame, code: str = Code.WRONG_IDENTITY) -> None:
    effects = handshake.receive(frame)
    assert getattr(end(effects), "code", "") == code
    assert peer(effects) is None
    assert handshake.state is State.DEAD


def test_a_proof_is_worth_nothing_on_another_connection() -> None:
    old_near, _, old_answer = _answered()
    near, far, answer = _answered(nonce=50)
    (old_proof,) = frames(old_near.receive(old_answer))
    _is_refused(near, [*answer[:4], old_answer[4], answer[5]])
    _is_refused(far, old_proof)


def test_a_whole_answer_replayed_is_refused() -> None:
    _, _, old_answer = _answered()
    near, _, _ = _answered(nonce=50)
    _is_refused(near, old_answer)


def test_a_proof_of_the_other_role_is_refused() -> None:
    near, far, answer = _answered()
    _is_refused(far, [PROOF, answer[4], b"", b""])
    (proof,) = frames(near.receive(answer))
    other, _, again = _answered()
    _is_refused(other, [*again[:4], proof[1], again[5]])


def test_a_listener_is_not_impressed_by_its_own_reflection() -> None:
    far = listener()
    far.start()
    hello = frames(dialler(LISTENER, expected=None, nonce=9).start())[0]
    _is_refused(far, hello)


def test_the_owner_of_the_machine_may_bear_the_nodes_key() -> None:
    near, far = talk(dialler(LISTENER, security=UNIX), listener(security=UNIX))
    seen = peer(far)
    assert peer(near) is not None
    assert seen is not None
    assert seen.same_owner


def test_a_proof_by_another_key_is_refused() -> None:
    near, far, answer = _answered()
    impostor, _, other_answer = _answered(STRANGER)
    (proof,) = frames(impostor.receive(other_answer))
    _is_refused(far, proof)
    _is_refused(near, [ANSWER, 1, STRANGER.public, *answer[3:]])


def test_a_proof_for_another_purpose_is_refused() -> None:
    near, far = dialler(purpose=Purpose.CALL), listener()
    far.start()
    hello = frames(near.start())[0]
    hello[5] = Purpose.BULK.value
    (answer,) = frames(far.receive(hello))
    _is_refused(near, answer)


@pytest.mark.parametrize("at", [0, 3, 20, -70, -64, -1])
def test_a_proof_with_one_bit_turned_is_refused(at: int) -> None:
    near, _, answer = _answered()
    proof = bytearray(answer[4])
    proof[at] ^= 1
    effects = near.receive([*answer[:4], bytes(proof), answer[5]])
    assert isinstance(end(effects), ProtocolError)
    assert peer(effects) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [(3, b"short"), (3, bytes(32)), (3, bytes(33)), (4, b""), (4, bytes(31)), (5, "party"), (5, ""), (6, b"x"), (6, bytes(17))],
)
def test_a_hello_with_a_field_of_a_wrong_size_is_refused(field: int, value: object) -> None:
    far = listener()
    far.start()
    hello = frames(dialler().start())[0]
    hello[field] = value
    assert isinstance(end(far.receive(hello)), ProtocolError)


def test_the_last_frames_have_limits() -> None:
    for grant, revocations, link in ((bytes(GRANT_BYTES_MAX + 1), b"", LINK), (b"", b"short", LINK), (b"", b"", b"short")):
        near = in_state(State.PROOF_SENT)
        effects = near.receive([WELCOME, grant, revocations, link])
        assert peer(effects) is None
        assert near.state is State.DEAD


# --- versions -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dials", "listens", "chosen"),
    [((1, 1), (1, 1), 1), ((1, 3), (1, 2), 2), ((1, 2), (1, 3), 2), ((2, 3), (1, 2), 2), ((1, 5), (3, 4), 4)],
)
def test_the_newest_version_that_both_know_is_spoken(dials: tuple[int, int], listens: tuple[int, int], chosen: int) -> None:
    near, far = talk(dialler(versions=dials), listener(versions=listens))
    assert [getattr(peer(side), "version", None) for side in (near, far)] == [chosen, chosen]


@pytest.mark.parametrize(("dials", "listens"), [((2, 3), (1, 1)), ((1, 1), (2, 3)), ((3, 1), (1, 3)), ((0, 0), (1, 1))])
def test_without_a_common_version_both_hear_why(dials: tuple[int, int], listens: tuple[int, int]) -> None:
    near, far = talk(dialler(versions=dials), listener(versions=listens))
    for effects in (near, far):
        error = end(effects)
        assert error is not None
        assert error.code == Code.WRONG_VERSION
        assert error.hint == "upgrade the older of the two"
        assert peer(effects) is None


@pytest.mark.parametrize("version", [0, 2, 9])
def test_a_version_that_was_not_offered_is_refused(version: int) -> None:
    near, _, answer = _answered()
    _is_refused(near, [ANSWER, version, *answer[2:]], Code.WRONG_VERSION)


def test_a_version_can_not_be_talked_down() -> None:
    """The version is part of what is signed: whoever lowers the offer on its way is noticed."""
    near, far = dialler(versions=(1, 2)), listener(versions=(1, 2))
    far.start()
    hello = frames(near.start())[0]
    hello[2] = 1
    (answer,) = frames(far.receive(hello))
    answer[1] = 2
    _is_refused(near, answer)


# --- refusals -------------------------------------------------------------------------------------------------------------------------


def test_a_refusal_keeps_its_code_and_its_words() -> None:
    near, far = in_state(State.PROOF_SENT), in_state(State.JUDGING)
    effects = far.refuse(Refused("you were revoked", code="a_new_code", hint="join anew"))
    error = end(near.receive(frames(effects)[0]))
    assert isinstance(error, Refused)
    assert (error.code, error.message, error.hint) == ("a_new_code", "you were revoked", "join anew")
    assert near.state is State.DEAD


def test_a_refusal_is_no_place_for_novels() -> None:
    error: SkerryError | None = end(in_state(State.HELLO_SENT).receive([REFUSE, "busy", "x" * 50_000, "y" * 10_000]))
    assert error is not None
    assert len(error.message) <= 500
    assert len(error.hint) <= 500


def test_who_is_not_welcome_hears_nothing_of_ours() -> None:
    far = in_state(State.JUDGING)
    effects = far.refuse(Refused("no"))
    assert [frame[0] for frame in frames(effects)] == [REFUSE]
    assert not any(isinstance(effect, Proved) for effect in effects)
