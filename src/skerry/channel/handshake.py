"""Mutual proof of identity, as a table: who may say what when, and what follows.

    dialler                                     listener
    HELLO  versions, id, nonce, purpose    -->
                                           <--  ANSWER  version, id, nonce, proof
    PROOF  proof, grant, revocations       -->
                                           <--  WELCOME grant, revocations, link
    (either side)                          <->  REFUSE  code, message, hint

A proof is a COSE_Sign1 over version, transport, both ids, both nonces, the purpose and the transport's binding, with
`skerry/handshake/1/<role>` as external data: it can't be used on another connection, in another direction, or by somebody in between.
On TLS the listener's certificate is checked against the pin before the dialler says who it is. A listener shows its grant only to
somebody who has proved an identity.

The rule: nothing but these frames, in this order, leads to an open channel; randomness and time are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.channel.framing import ANSWER, HELLO, PROOF, REFUSE, WELCOME, Frame
from skerry.errors import Code, ProtocolError, Refused, SkerryError
from skerry.identity.codec import decode, encode
from skerry.identity.keys import KEY_BYTES, KeyPair, short
from skerry.identity.sealed import read, seal, verified
from skerry.ports import Security

VERSION = 1
VERSION_MIN = 1
NONCE_BYTES = 32
RUN_BYTES = 16  # of a nonce: the same for as long as a process runs; the rest is fresh every time
LINK_BYTES = 16
GRANT_BYTES_MAX = 8 * 1024  # a member's grant with its chain takes 0.8 KiB
TIMEOUT_S = 5.0


class Purpose(StrEnum):
    CALL = "call"  # the one link between two nodes, or a client's
    BULK = "bulk"  # large values of a link that is up
    PROBE = "probe"  # somebody looks whether we answer: it is never taken for the link


@dataclass(frozen=True, slots=True)
class Ours:
    """What this side brings. `grant` and `revocations` (a digest) may be empty; `link` names the call connection that a bulk
    connection belongs to (dialler) or that this connection will be (listener of a call)."""

    key: KeyPair
    nonce: bytes
    now_ms: int
    grant: bytes = b""
    revocations: bytes = b""
    purpose: Purpose = Purpose.CALL
    link: bytes = b""
    versions: tuple[int, int] = (VERSION_MIN, VERSION)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is there, proved. What it may do is decided elsewhere, from `grant` (unread bytes) and `same_owner`."""

    id: bytes
    version: int
    grant: bytes
    revocations: bytes
    purpose: Purpose
    link: bytes
    same_owner: bool
    clock_ahead_ms: int  # the peer's wall clock less ours
    run: bytes = b""  # names the peer's process: two at once with one key are a copied home

    @property
    def is_owner(self) -> bool:
        """Whether it is a program of the user that the node runs as. A node of the same user, which shows its own grant, is a node."""
        return self.same_owner and not self.grant


@dataclass(frozen=True, slots=True)
class Send:
    frame: Frame


@dataclass(frozen=True, slots=True)
class Proved:
    """The peer is who it says. A listener now decides, and answers with `welcome()` or `refuse()`; for a dialler the channel is open."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Closed:
    """It ends here; `error` says why. Send what came before it, then close."""

    error: SkerryError


Effect = Send | Proved | Closed


class State(StrEnum):
    START = "start"
    HELLO_SENT = "hello_sent"
    PROOF_SENT = "proof_sent"
    LISTENING = "listening"
    ANSWERED = "answered"
    JUDGING = "judging"
    OPEN = "open"
    DEAD = "dead"


@dataclass(slots=True)
class Handshake:
    """One side of one handshake.

    expected   dialler: the id that must answer (None: whoever the transport's certificate shows)
    """

    ours: Ours
    security: Security
    dialler: bool
    expected: bytes | None = None
    state: State = State.START
    _peer_id: bytes = b""
    _peer_nonce: bytes = b""
    _version: int = 0
    _purpose: Purpose = Purpose.CALL
    _link: bytes = b""
    _ahead_ms: int = 0
    _proved: Peer | None = field(default=None)

    def start(self) -> list[Effect]:
        """The first move. The dialler's is to check the pin, and only then to say who it is."""
        if not self.dialler:
            self.state = State.LISTENING
            return []
        shown = self.security.listener
        if self.expected is not None and shown is not None and shown != self.expected:
            self.state = State.DEAD
            return [Closed(_wrong_identity(self.expected, shown))]
        self.state = State.HELLO_SENT
        ours = self.ours
        low, high = ours.versions
        return [Send([HELLO, low, high, ours.key.public, ours.nonce, ours.purpose.value, ours.link, ours.now_ms])]

    def receive(self, frame: Frame) -> list[Effect]:
        """What a frame leads to. Any frame that has no place in the table ends it."""
        if self.state is State.DEAD:
            return []
        step = TABLE.get((self.state, frame[0]))
        try:
            if step is None:
                raise ProtocolError(f"a frame of type {frame[0]} has no place in the handshake's state {self.state!r}")
            return step(self, frame)
        except SkerryError as error:
            return self._die(error)

    def welcome(self, *, link: bytes) -> list[Effect]:
        """Listener: the peer may stay; `link` names this connection."""
        assert self.state is State.JUDGING
        self.state = State.OPEN
        return [Send([WELCOME, self.ours.grant, self.ours.revocations, link])]

    def refuse(self, error: SkerryError) -> list[Effect]:
        """Listener: the peer is who it says, and is not wanted."""
        return self._die(error)

    def _die(self, error: SkerryError) -> list[Effect]:
        self.state = State.DEAD
        return [Send([REFUSE, str(error.code), error.message[:500], error.hint[:500]]), Closed(error)]

    # --- the steps of the table -----------------------------------------------------------------------------------------------

    def _on_hello(self, frame: Frame) -> list[Effect]:
        _, low, high, peer_id, nonce, purpose, link, now_ms = frame
        ours = self.ours
        version = min(high, ours.versions[1])
        if version < max(low, ours.versions[0]):
            raise ProtocolError(
                f"the dialler speaks the versions {low} to {high} of the channel, this node {ours.versions[0]} to {ours.versions[1]}",
                code=Code.WRONG_VERSION,
                hint="upgrade the older of the two",
            )
        _check_sizes(peer_id, nonce, link)
        if peer_id == ours.key.public and not self.security.same_owner:
            raise ProtocolError("a node dialled itself, or somebody uses its key", code=Code.WRONG_IDENTITY)
        if purpose not in tuple(Purpose):
            raise ProtocolError(f"a connection for the unknown purpose {purpose[:20]!r}")
        self._version, self._peer_id, self._peer_nonce = version, peer_id, nonce
        self._purpose, self._link, self._ahead_ms = Purpose(purpose), link, now_ms - ours.now_ms
        self.state = State.ANSWERED
        return [Send([ANSWER, version, ours.key.public, ours.nonce, self._prove(), ours.now_ms])]

    def _on_answer(self, frame: Frame) -> list[Effect]:
        _, version, peer_id, nonce, proof, now_ms = frame
        low, high = self.ours.versions
        if not low <= version <= high:
            raise ProtocolError(f"the listener chose version {version}, which was not offered", code=Code.WRONG_VERSION)
        _check_sizes(peer_id, nonce, b"")
        wanted = self.expected or self.security.listener
        if wanted is not None and peer_id != wanted:
            raise _wrong_identity(wanted, peer_id)
        self._version, self._peer_id, self._peer_nonce, self._ahead_ms = version, peer_id, nonce, now_ms - self.ours.now_ms
        self._purpose = self.ours.purpose
        self._check(proof)
        self.state = State.PROOF_SENT
        return [Send([PROOF, self._prove(), self.ours.grant, self.ours.revocations])]

    def _on_proof(self, frame: Frame) -> list[Effect]:
        self._check(frame[1])
        self.state = State.JUDGING
        return [Proved(self._peer(grant=frame[2], revocations=frame[3], link=self._link))]

    def _on_welcome(self, frame: Frame) -> list[Effect]:
        self.state = State.OPEN
        return [Proved(self._peer(grant=frame[1], revocations=frame[2], link=frame[3]))]

    def _on_refuse(self, frame: Frame) -> list[Effect]:
        self.state = State.DEAD
        return [Closed(Refused(frame[2][:500], code=frame[1], hint=frame[3][:500]))]

    # --- proofs ---------------------------------------------------------------------------------------------------------------

    def _peer(self, *, grant: bytes, revocations: bytes, link: bytes) -> Peer:
        if len(grant) > GRANT_BYTES_MAX or len(revocations) not in (0, KEY_BYTES) or len(link) not in (0, LINK_BYTES):
            raise ProtocolError("the handshake's last frame has fields of a wrong size")
        run = self._peer_nonce[:RUN_BYTES]
        return Peer(self._peer_id, self._version, grant, revocations, self._purpose, link, self.security.same_owner, self._ahead_ms, run)

    def _prove(self) -> bytes:
        return seal(self._transcript(), self.ours.key, aad=_aad(self.dialler))

    def _check(self, proof: bytes) -> None:
        sealed = read(proof, size_bytes_max=1024)
        decode(sealed.payload)
        if sealed.payload != self._transcript() or not verified(sealed, self._peer_id, aad=_aad(not self.dialler)):
            raise ProtocolError(
                f"the proof of {short(self._peer_id)} is not valid for this connection",
                code=Code.WRONG_IDENTITY,
                hint="somebody may sit between the two nodes",
            )

    def _transcript(self) -> bytes:
        mine, theirs = (self.ours.key.public, self.ours.nonce), (self._peer_id, self._peer_nonce)
        (dialler, nonce_dialler), (listener, nonce_listener) = (mine, theirs) if self.dialler else (theirs, mine)
        return encode(
            {
                "version": self._version,
                "transport": self.security.transport,
                "dialler": dialler,
                "listener": listener,
                "nonce_dialler": nonce_dialler,
                "nonce_listener": nonce_listener,
                "purpose": self._purpose.value,
                "binding": self.security.binding,
            }
        )


Step = Callable[[Handshake, Frame], list[Effect]]

TABLE: dict[tuple[State, int], Step] = {
    (State.HELLO_SENT, ANSWER): Handshake._on_answer,
    (State.HELLO_SENT, REFUSE): Handshake._on_refuse,
    (State.PROOF_SENT, WELCOME): Handshake._on_welcome,
    (State.PROOF_SENT, REFUSE): Handshake._on_refuse,
    (State.LISTENING, HELLO): Handshake._on_hello,
    (State.ANSWERED, PROOF): Handshake._on_proof,
    (State.ANSWERED, REFUSE): Handshake._on_refuse,
}


def _aad(dialler: bool) -> bytes:
    return b"skerry/handshake/1/" + (b"dialler" if dialler else b"listener")


def _check_sizes(peer_id: bytes, nonce: bytes, link: bytes) -> None:
    if len(peer_id) != KEY_BYTES or not any(peer_id) or len(nonce) != NONCE_BYTES or len(link) not in (0, LINK_BYTES):
        raise ProtocolError("an id, nonce or link of a wrong size in the handshake")


def _wrong_identity(expected: bytes, shown: bytes) -> SkerryError:
    return Refused(
        f"at that address answers the node {short(shown)}, not {short(expected)}",
        code=Code.WRONG_IDENTITY,
        hint="check the address; if the node was set up anew, ask for a new ticket",
    )
