"""Raw bytes at the doors of a node that works: garbage, cut and oversized and slow frames, wrong versions, strangers. It serves on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skerry.channel.framing import CALL, FAIL, FRAME_BYTES_MAX, HELLO, PING, PONG, PROOF, REFUSE, REPLY, Frame, FrameReader, encode_frame
from skerry.channel.handshake import Closed, Handshake, Ours, Proved, Send
from skerry.identity.codec import pack
from skerry.identity.keys import KeyPair
from skerry.ports import Security
from tests.support import poll_until
from tests.support.nodes import Node

AGENTS = Path(__file__).with_name("agents.py")
HANDSHAKE_S = 5.0  # then a connection that has not proved who it is ends
CLOSED_S = HANDSHAKE_S + 3.0
DOORS = ("tls", "unix")
FORBIDDEN = (  # to strangers
    *("task.call", "task.run", "capability.list", "node.list", "node.invite", "node.revoke", "node.down", "agent.run"),
    *("agent.logs", "records.pull", "records.push", "formation.show", "formation.restore", "grant.renew"),
)
FLOODER = "127.0.0.9"  # an address of its own: what it may do is counted by address
SLOW_CONNECTIONS = 300  # more than a node lets wait in front of its door


@pytest.fixture(scope="module")
def alpha(mesh: list[Node]) -> Node:
    mesh[1].run("agent", "run", f"{AGENTS}:Who").ok()
    mesh[0].wait_offered("custom:who")
    return mesh[0]


@pytest.fixture(autouse=True)
def serves_on(alpha: Node) -> Iterator[None]:
    """Whatever a test does to it: afterwards the same process answers, over the link that it had."""
    pid = alpha.status().pid
    yield
    assert alpha.call("custom:who", timeout_s=5) == "who"
    status = alpha.status()
    assert status.pid == pid
    assert status.warnings == []
    assert {info.link for info in status.nodes} == {"self", "up"}


class Connection:
    """A socket to a door, and the frames that come out of it."""

    def __init__(self, node: Node, door: str, *, source: str = "127.0.0.1") -> None:
        raw = socket.socket(socket.AF_UNIX if door == "unix" else socket.AF_INET)
        raw.settimeout(CLOSED_S)
        if door == "tls":
            raw.bind((source, 0))
        raw.connect(node.ready["socket"] if door == "unix" else ("127.0.0.1", node.port))
        self.security = Security("uds", None, bytes(32), True)
        self.socket: socket.socket = raw
        if door == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            tls = context.wrap_socket(raw, server_hostname="skerry")
            certificate = tls.getpeercert(binary_form=True)
            assert certificate is not None
            self.security = Security("tcp", bytes.fromhex(node.id), hashlib.sha256(certificate).digest(), False)
            self.socket = tls
        self._reader = FrameReader()
        self._frames: list[Frame] = []

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send it; the node may have ended the connection already, which is its right."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def frame(self) -> Frame | None:
        """The next frame; None where the node has closed the connection."""
        while not self._frames:
            try:
                data = self.socket.recv(FRAME_BYTES_MAX)
            except TimeoutError:
                raise AssertionError(f"the node neither answered nor closed the connection within {CLOSED_S:g} s") from None
            except OSError:
                return None
            if not data:
                return None
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def wait_closed(self) -> list[Frame]:
        """Until the node closes it; what it said before."""
        frames = []
        while (frame := self.frame()) is not None:
            frames.append(frame)
        return frames

    def greet(self, key: KeyPair, **changes: object) -> Frame | None:
        """Prove who we are, as a node would. Returns a refusal, or None where the channel is open."""
        ours = Ours(key, os.urandom(32), int(time.time() * 1000), **changes)  # type: ignore[arg-type] # names of its fields
        handshake = Handshake(ours, self.security, dialler=True)
        effects = handshake.start()
        while True:
            for effect in effects:
                if isinstance(effect, Send):
                    self.send(encode_frame(effect.frame))
                if isinstance(effect, Proved):
                    return None
                assert not isinstance(effect, Closed), effect
            frame = self.frame()
            assert frame is not None, "the node closed the connection without a word"
            if frame[0] == REFUSE:
                return frame
            effects = handshake.receive(frame)

    def ask(self, number: int, verb: str, body: bytes = b"\xa0") -> Frame | None:
        self.send(encode_frame([CALL, number, verb, 5000, 0, body]))
        return self.frame()


def _hello(**changes: object) -> Frame:
    values = {"low": 1, "high": 1, "id": KeyPair.from_seed(bytes(32)).public, "nonce": bytes(32), "purpose": "call", "link": b"", "now": 0}
    return [HELLO, *(values | changes).values()]


# --- before anybody has proved anything -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "too_large", id="http"),
        pytest.param(b"\xff" * 4096, "too_large", id="oversized"),
        pytest.param((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "too_large", id="one-too-many"),
        pytest.param(bytes(4), "decode", id="empty"),
        pytest.param(b"\x00\x00\x00\x04\xff\xff\xff\xff", "decode", id="no-cbor"),
        pytest.param(b"\x00\x00\x00\x01\x80", "decode", id="no-fields"),
        pytest.param(b"\x00\x00\x00\x06" + b"\x9b" + b"\xff" * 5, "decode", id="cut-cbor"),
        pytest.param(encode_frame([HELLO, "1", 1]), "decode", id="wrong-shape"),
        pytest.param(encode_frame([999]), "decode", id="unknown-type"),
        pytest.param(encode_frame([PING, 1]), "decode", id="too-early"),
        pytest.param(encode_frame([CALL, 1, "node.down", 1000, 0, b"\xa0"]), "decode", id="call-too-early"),
        pytest.param(encode_frame(_hello(nonce=b"short")), "decode", id="short-nonce"),
        pytest.param(encode_frame(_hello(id=bytes(5))), "decode", id="short-id"),
        pytest.param(encode_frame(_hello(low=2, high=9)), "wrong_version", id="newer"),
        pytest.param(encode_frame(_hello(low=0, high=0)), "wrong_version", id="older"),
    ],
)
def test_what_is_no_greeting_is_refused_with_the_reason(alpha: Node, door: str, data: bytes, code: str) -> None:
    with Connection(alpha, door) as connection:
        connection.send(data)
        said = connection.wait_closed()
    if said:  # a stream that makes no sense may also just end
        (refusal,) = said
        assert refusal[0] == REFUSE
        assert refusal[1] == code
        assert refusal[2]
    else:
        assert code in ("too_large", "decode")


def test_a_version_that_nobody_speaks_is_refused_with_those_that_are(alpha: Node) -> None:
    with Connection(alpha, "tls") as connection:
        connection.send(encode_frame(_hello(low=7, high=9)))
        (refusal,) = connection.wait_closed()
    assert refusal[:2] == [REFUSE, "wrong_version"]
    assert "7 to 9" in refusal[2]
    assert "upgrade" in refusal[3]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("pieces", [b"", b"\x00", b"\x00\x00\x00\x20", encode_frame(_hello())[:-1]], ids=["nothing", "byte", "head", "cut"])
def test_a_connection_that_breaks_off_costs_nothing(alpha: Node, door: str, pieces: bytes) -> None:
    for _ in range(20):
        with Connection(alpha, door) as connection:
            connection.send(pieces)


def test_plain_text_at_the_tls_door_ends_its_connection(alpha: Node) -> None:
    for data in (b"GET / HTTP/1.0\r\n\r\n", b"\x00" * 100, os.urandom(4096)):
        with socket.create_connection(("127.0.0.1", alpha.port), timeout=CLOSED_S) as raw:
            raw.sendall(data)
            with contextlib.suppress(OSError):
                while raw.recv(4096):
                    pass


def test_slow_connections_are_cut_and_keep_nobody_out(alpha: Node) -> None:
    """Many that say nothing, one that drips; beside them a member is let in at once, and after the handshake's time all are gone."""
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor(16) as pool:
            opened = pool.map(lambda _: _silent(alpha), range(SLOW_CONNECTIONS))
            silent = [stack.enter_context(connection) for connection in opened if connection is not None]
        if not silent:
            pytest.skip(f"this machine has no address {FLOODER}")
        half = [stack.enter_context(Connection(alpha, door)) for door in DOORS]
        for connection in half:
            connection.send(encode_frame(_hello())[:10])
        began = time.monotonic()
        assert alpha.call("custom:who", timeout_s=5) == "who"
        with Connection(alpha, "tls") as honest:
            assert honest.greet(KeyPair.from_seed(os.urandom(32))) is None
            assert honest.ask(1, "ping") is not None
        assert time.monotonic() - began < HANDSHAKE_S, "nobody had to wait for the slow ones"

        drip = stack.enter_context(Connection(alpha, "tls"))
        hello = iter(encode_frame(_hello()) * 1000)
        drip.socket.settimeout(0.05)

        def dripped() -> bool:
            drip.send(bytes([next(hello)]))
            try:
                return drip.socket.recv(100) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        poll_until(dripped, CLOSED_S, what="the one that drips is cut")
        for connection in (*silent, *half):
            connection.wait_closed()


def _silent(node: Node) -> Connection | None:
    """A connection that says nothing; None where the node has no place for one more, which is its right."""
    try:
        return Connection(node, "tls", source=FLOODER)
    except OSError:
        return None


# --- strangers, proved --------------------------------------------------------------------------------------------------------------


def test_a_stranger_may_ping_and_nothing_else(alpha: Node, mesh: list[Node]) -> None:
    with Connection(alpha, "tls") as connection:
        assert connection.greet(KeyPair.from_seed(os.urandom(32))) is None
        pong = connection.ask(1, "ping")
        assert pong is not None
        assert pong[0] == REPLY
        for number, verb in enumerate(FORBIDDEN, 2):
            answer = connection.ask(number, verb)
            assert answer is not None
            assert answer[0] == FAIL, verb
            assert answer[2] == "not_granted", verb
            assert verb in answer[3]
            assert "right" in answer[3]
        unknown = connection.ask(100, "no.such.verb")
        assert unknown is not None
        assert unknown[2] == "unknown_verb"
    assert len(alpha.sees()) == len(mesh)


def test_a_member_has_no_operators_rights(alpha: Node, mesh: list[Node]) -> None:
    gamma = mesh[2]
    key = KeyPair.from_seed(bytes.fromhex((gamma.home / "node.key").read_text()))
    gamma.end()
    with Connection(alpha, "tls") as connection:
        assert connection.greet(key) is None
        for number, (verb, right) in enumerate(
            [
                ("node.invite", "admin"),
                ("node.revoke", "admin"),
                ("node.down", "own"),
                ("agent.stop", "operate"),
                ("formation.restore", "own"),
            ],
            1,
        ):
            answer = connection.ask(number, verb)
            while answer is not None and answer[0] not in (FAIL, REPLY):  # the node asks us as well: for our records
                answer = connection.frame()
            assert answer is not None
            assert answer[:3] == [FAIL, number, "not_granted"], verb
            assert repr(right) in answer[3]
    gamma.again().wait_linked(alpha)
    alpha.wait_linked(gamma)


def test_a_proof_that_was_altered_is_refused(alpha: Node) -> None:
    """Somebody who says another's id, and can't sign for it."""
    victim = KeyPair.from_seed(os.urandom(32))
    with Connection(alpha, "tls") as connection:
        connection.send(encode_frame(_hello(id=victim.public, now=int(time.time() * 1000))))
        answer = connection.frame()
        assert answer is not None
        connection.send(encode_frame([PROOF, os.urandom(100), b"", b""]))
        refusal = connection.frame()
        assert refusal is not None
        assert refusal[0] == REFUSE
        assert refusal[1] in ("wrong_identity", "decode", "bad_signature")
        assert connection.wait_closed() == []


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 100_000, id="garbage"),
        pytest.param(encode_frame([REPLY, 7, b""]), id="answer-to-nothing"),
        pytest.param(encode_frame(_hello()), id="hello-again"),
        pytest.param(encode_frame([CALL, 2**62, "ping", 1, 0, b"\xa0"]) * 2, id="number-twice"),
        pytest.param(encode_frame([CALL, 1, "v" * 5000, 1, 0, b""]), id="endless-verb"),
        pytest.param(encode_frame([PONG, 1])[:-1] + b"\xf7", id="wrong-field"),
    ],
)
def test_garbage_on_an_open_channel_ends_that_channel_alone(alpha: Node, door: str, data: bytes) -> None:
    with Connection(alpha, door) as other, Connection(alpha, door) as connection:
        assert other.greet(KeyPair.from_seed(os.urandom(32))) is None
        assert connection.greet(KeyPair.from_seed(os.urandom(32))) is None
        connection.send(data)
        connection.wait_closed()
        pong = other.ask(1, "ping")
        assert pong is not None
        assert pong[0] == REPLY


@pytest.mark.parametrize(
    "body", [b"", b"\xff", pack({"capability": 3}), pack([]), pack(["custom:who"]), pack([["deep"]] * 5), b"\x81" * 500]
)
def test_a_verb_with_a_body_that_does_not_fit_is_refused_and_the_channel_stays(alpha: Node, body: bytes) -> None:
    with Connection(alpha, "unix") as connection:
        assert connection.greet(KeyPair.from_seed(os.urandom(32))) is None
        for number, verb in enumerate(("task.call", "node.show", "agent.run", "records.push", "task.run"), 1):
            answer = connection.ask(number, verb, body)
            assert answer is not None
            assert answer[0] == FAIL, (verb, answer)
            assert answer[2] in ("decode", "bad_input", "bad_payload", "not_found", "unknown_agent", "not_granted"), (verb, answer)
        pong = connection.ask(99, "ping")
        assert pong is not None
        assert pong[0] == REPLY
