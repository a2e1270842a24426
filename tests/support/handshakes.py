"""Handshakes between fixed keys, without a network."""

from __future__ import annotations

from dataclasses import replace

from skerry.channel.framing import Frame
from skerry.channel.handshake import Closed, Effect, Handshake, Ours, Peer, Proved, Purpose, Send
from skerry.errors import SkerryError
from skerry.identity.keys import KeyPair
from skerry.ports import Security
from tests.support.formation import MEMBER, NOW_MS, OPERATOR

BINDING = bytes(range(32))
LINK = b"l" * 16
DIALLER, LISTENER = MEMBER, OPERATOR
SEEN_BY_DIALLER = Security("tcp", LISTENER.public, BINDING, False)
SEEN_BY_LISTENER = Security("tcp", None, BINDING, False)
UNIX = Security("uds", None, bytes(32), True)


def ours(key: KeyPair, nonce: int, *, purpose: Purpose = Purpose.CALL, versions: tuple[int, int] = (1, 1), link: bytes = b"") -> Ours:
    return Ours(
        key,
        bytes([nonce]) * 32,
        NOW_MS + nonce,
        grant=b"grant of " + key.public[:4],
        purpose=purpose,
        versions=versions,
        link=link,
    )


def dialler(
    key: KeyPair = DIALLER,
    *,
    security: Security = SEEN_BY_DIALLER,
    expected: KeyPair | None = LISTENER,
    nonce: int = 1,
    purpose: Purpose = Purpose.CALL,
    versions: tuple[int, int] = (1, 1),
) -> Handshake:
    return Handshake(
        ours(key, nonce, purpose=purpose, versions=versions, link=LINK if purpose is Purpose.BULK else b""),
        security,
        dialler=True,
        expected=expected.public if expected else None,
    )


def listener(
    key: KeyPair = LISTENER, *, security: Security = SEEN_BY_LISTENER, nonce: int = 2, versions: tuple[int, int] = (1, 1)
) -> Handshake:
    return Handshake(ours(key, nonce, versions=versions), security, dialler=False)


def through(security: Security, **changes: object) -> Security:
    return replace(security, **changes)  # type: ignore[arg-type] # names of its fields


def frames(effects: list[Effect]) -> list[Frame]:
    return [effect.frame for effect in effects if isinstance(effect, Send)]


def peer(effects: list[Effect]) -> Peer | None:
    return next((effect.peer for effect in effects if isinstance(effect, Proved)), None)


def end(effects: list[Effect]) -> SkerryError | None:
    return next((effect.error for effect in effects if isinstance(effect, Closed)), None)


def talk(first: Handshake, second: Handshake) -> tuple[list[Effect], list[Effect]]:
    """Let them speak until nobody has more to say, the listener welcoming whoever is proved; all effects of each."""
    done: tuple[list[Effect], list[Effect]] = ([], [])
    due = (first.start(), second.start())
    while due[0] or due[1]:
        fresh: tuple[list[Effect], list[Effect]] = ([], [])
        for side, effects in enumerate(due):
            done[side].extend(effects)
            for effect in effects:
                if isinstance(effect, Send):
                    fresh[1 - side].extend((second, first)[side].receive(effect.frame))
                elif isinstance(effect, Proved) and side == 1:
                    fresh[1].extend(second.welcome(link=LINK))
        due = fresh
    return done
