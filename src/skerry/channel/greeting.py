"""Runs one handshake over one connection, within its time.

The rule: until the peer has proved who it is, the connection leads nowhere and costs little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skerry.channel.framing import Frame
from skerry.channel.handshake import TIMEOUT_S, Closed, Effect, Handshake, Peer, Proved, Send
from skerry.channel.stream import FrameStream
from skerry.errors import Code, SkerryError, Unreachable

OnProved = Callable[["Greeting", Peer], None]
OnFailed = Callable[["Greeting", SkerryError], None]


class Greeting:
    """One side of a handshake under way. Calls `on_proved` or `on_failed`, exactly one of them, once."""

    def __init__(self, stream: FrameStream, handshake: Handshake, *, on_proved: OnProved, on_failed: OnFailed) -> None:
        self.stream = stream
        self._handshake = handshake
        self._on_proved = on_proved
        self._on_failed = on_failed
        self._over = False
        self._timer = asyncio.get_running_loop().call_later(TIMEOUT_S, self._too_slow)
        stream.attach(self._on_frame, self._failed)

    def start(self) -> None:
        self._perform(self._handshake.start())

    def welcome(self, *, link: bytes) -> None:
        """Listener: let the peer in. The connection is the caller's from now on."""
        self._perform(self._handshake.welcome(link=link))

    def refuse(self, error: SkerryError) -> None:
        """Listener: the peer is who it says, and not wanted."""
        self._perform(self._handshake.refuse(error))

    def _on_frame(self, frame: Frame) -> None:
        self._perform(self._handshake.receive(frame))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame):
                    self.stream.send(frame)
                case Proved(peer):
                    self._end()
                    self.stream.hold()
                    self._on_proved(self, peer)
                case Closed(error):
                    self.stream.close(error)
                    self._failed(error)

    def _failed(self, error: SkerryError) -> None:
        if not self._over:
            self._end()
            self._on_failed(self, error)

    def _too_slow(self) -> None:
        error = Unreachable(f"the handshake was not finished within {TIMEOUT_S:g} s", code=Code.UNREACHABLE, hint="is that a Skerry node?")
        self._failed(error)
        self.stream.abort(error)

    def _end(self) -> None:
        self._over = True
        self._timer.cancel()
