"""Length-prefixed CBOR frames: 4 bytes big-endian length, then a CBOR array `[type, id, ...]` of at most 64 KiB.

Every type has a fixed shape, given in `SHAPES`; a frame of another shape is refused before anyone looks at it. The reader takes bytes
in whatever pieces they come.

The rule: at most one frame's bytes are ever held for a frame that is not complete, and whoever feeds it says how many it takes at once.
"""

from __future__ import annotations

from typing import Any

import cbor2

from skerry.errors import Code, ProtocolError
from skerry.identity.codec import unpack

FRAME_BYTES_MAX = 64 * 1024
HEAD_BYTES = 4
CHUNK_BYTES = 60 * 1024  # of a value that goes over the bulk connection: one frame with its head
INLINE_BYTES_MAX = 48 * 1024  # a body up to this size travels inside its call frame

Frame = list[Any]

# Calls, both ways. The caller numbers its calls 1, 2, 3 ...; the type tells whose numbers a frame means.
CALL = 1  # caller: [1, id, verb, timeout_ms, credit, body | transfer]   credit 0: one reply; more: so many parts may be sent
REPLY = 2  # callee: [2, id, body | transfer]   the end of a call or stream
FAIL = 3  # callee: [3, id, code, message, hint, outcome_unknown]
CANCEL = 4  # caller: [4, id]
PART = 5  # callee: [5, id, body | transfer]
CREDIT = 6  # caller: [6, id, parts]
PING = 7  # [7, n]
PONG = 8  # [8, n]
AWAY = 9  # [9, reason]   no new calls here, please
WANT_BULK = 10  # [10]   from the side that was dialled: open a bulk connection
READY = 11  # [11]   from a node that was called to a pipe: from now on its bytes are the other end's
# Values too large for a frame, on the bulk connection. The sender numbers its transfers.
OFFER = 16  # sender: [16, transfer, size]
GRANT = 17  # receiver: [17, transfer, bytes]   so many more may be sent
CHUNK = 18  # sender: [18, transfer, bytes]
DONE = 19  # sender: [19, transfer, BLAKE3]
LANDED = 20  # receiver: [20, transfer]   whole and checked; a call may now name it
ABORT = 21  # receiver: [21, transfer, code, message]   it will not take it, or it came damaged
WITHDRAW = 22  # sender: [22, transfer]   nobody waits for it any more, landed or not
# The handshake, before anything else.
HELLO = 32  # dialler: [32, version_min, version_max, dialler, nonce, purpose, link, now_ms]
ANSWER = 33  # listener: [33, version, listener, nonce, proof, now_ms]
PROOF = 34  # dialler: [34, proof, grant, revocations]
WELCOME = 35  # listener: [35, grant, revocations, link]
REFUSE = 36  # either: [36, code, message, hint]

# The types of each frame's fields, exactly. A body is bytes, or the number of a transfer that has landed.
SHAPES: dict[int, tuple[tuple[type, ...], ...]] = {
    CALL: ((int, int, str, int, int, bytes), (int, int, str, int, int, int)),
    REPLY: ((int, int, bytes), (int, int, int)),
    FAIL: ((int, int, str, str, str, bool),),
    CANCEL: ((int, int),),
    PART: ((int, int, bytes), (int, int, int)),
    CREDIT: ((int, int, int),),
    PING: ((int, int),),
    PONG: ((int, int),),
    AWAY: ((int, str),),
    WANT_BULK: ((int,),),
    READY: ((int,),),
    OFFER: ((int, int, int),),
    GRANT: ((int, int, int),),
    CHUNK: ((int, int, bytes),),
    DONE: ((int, int, bytes),),
    LANDED: ((int, int),),
    ABORT: ((int, int, str, str),),
    WITHDRAW: ((int, int),),
    HELLO: ((int, int, int, bytes, bytes, str, bytes, int),),
    ANSWER: ((int, int, bytes, bytes, bytes, int),),
    PROOF: ((int, bytes, bytes, bytes),),
    WELCOME: ((int, bytes, bytes, bytes),),
    REFUSE: ((int, str, str, str),),
}
_SHAPES: dict[int, frozenset[tuple[type, ...]]] = {kind: frozenset(shapes) for kind, shapes in SHAPES.items()}
NUMBER_MAX = 2**63


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame. Raises ProtocolError(too_large) where it is no frame any more."""
    body = cbor2.dumps(frame)
    if len(body) > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {len(body)} bytes, at most {FRAME_BYTES_MAX} are allowed", code=Code.TOO_LARGE)
    return len(body).to_bytes(HEAD_BYTES, "big") + body


class FrameReader:
    """Turns bytes, in any pieces, into frames. After an error it is dead: the connection must end."""

    def __init__(self) -> None:
        self._held = b""
        self._has_more = False

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    @property
    def has_more(self) -> bool:
        """Whether a whole frame may be here already, left over by `most`; the next `feed` takes it."""
        return self._has_more

    def feed(self, data: bytes, *, most: int | None = None) -> list[Frame]:
        """The frames that `data` completes, no more than `most`. Raises ProtocolError at the first one that is wrong."""
        if self._held:
            data = self._held + data
        frames: list[Frame] = []
        start, size = 0, len(data)
        self._has_more = False
        while size - start >= HEAD_BYTES:
            if len(frames) == most:
                self._has_more = True
                break
            length = int.from_bytes(data[start : start + HEAD_BYTES], "big")
            if length > FRAME_BYTES_MAX or not length:
                raise ProtocolError(
                    f"a frame announces {length} bytes, 1 to {FRAME_BYTES_MAX} are allowed",
                    code=Code.TOO_LARGE if length else Code.DECODE,
                    hint="is the other side a Skerry node at all?",
                )
            end = start + HEAD_BYTES + length
            if end > size:
                break
            frames.append(decode_frame(data[start + HEAD_BYTES : end]))
            start = end
        self._held = data[start:]
        return frames


def decode_frame(body: bytes) -> Frame:
    """One frame from its CBOR. Raises ProtocolError where it has no known shape."""
    frame = unpack(body)
    if type(frame) is list and frame:
        shapes = _SHAPES.get(frame[0]) if type(frame[0]) is int else None
        if shapes is not None and tuple(map(type, frame)) in shapes:
            _check_numbers(frame)
            return frame
        if shapes is None:
            raise ProtocolError(f"a frame of the unknown type {str(frame[0])[:20]}", hint="is the other side newer than this one?")
    raise ProtocolError("a frame whose fields are not those of its type")


def _check_numbers(frame: Frame) -> None:
    for value in frame:
        if type(value) is int and not 0 <= value < NUMBER_MAX:
            raise ProtocolError(f"a frame with the number {value}, which is out of bounds")
