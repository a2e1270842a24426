"""What a liar can write: records that are signed wrongly, in other people's names, for other formations, from the future, and grants by
those who may not grant.

The rule: every one of `forgeries` has to be refused by every node, and everything in `noise` may be kept, but must mean nothing.
"""

from __future__ import annotations

from random import Random
from typing import Any

from skerry.identity.codec import encode
from skerry.identity.grants import DAY_MS, NEVER_MS
from skerry.identity.keys import KeyPair
from skerry.identity.sealed import seal
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import AAD, VERSION, parse_unverified, state

FUTURE_MS = 100 * 365 * DAY_MS  # beyond any clock that is wrong
PAST_MS = 400 * DAY_MS


def statement(key: KeyPair, author: bytes, **fields: Any) -> bytes:
    """A statement in anybody's name, signed by `key`; `fields` replace what an honest one would say."""
    now_ms = fields.pop("now_ms")
    value = {
        "v": VERSION,
        "kind": "agent",
        "name": "00" * 16,
        "author": author,
        "formation": b"",
        "audience": "formation",
        "stamp": stamp_at(now_ms),
        "expires": now_ms + DAY_MS,
        "body": {"card": b"", "status": "healthy"},
    }
    return seal(encode(value | fields), key, aad=AAD)


def forgeries(
    random: Random, liar: KeyPair, *, formation: bytes, grant: bytes, victims: list[bytes], real: list[bytes], now_ms: int
) -> list[bytes]:
    """`liar` has the member's grant `grant`, or none; `real` are records that were overheard."""
    victim = random.choice(victims)
    friend = KeyPair.from_seed(random.randbytes(32))
    chain = [grant] if grant else []

    def says(author: bytes, **fields: Any) -> bytes:
        return statement(liar, author, **({"formation": formation, "now_ms": now_ms} | fields))

    def grants(author: bytes, role: str, chain: list[bytes], *, key: KeyPair = liar) -> bytes:
        body = {"subject": friend.public, "role": role, "chain": chain}
        return statement(key, author, kind="grant", name=friend.public.hex(), formation=formation, body=body, now_ms=now_ms)

    forged = [
        says(victim),
        says(victim, kind="node", name="node", body={"name": "victim", "addresses": ["tcp://mallory:7420"]}),
        says(victim, body={}),
        says(
            formation, kind="revocation", name=victim.hex(), expires=NEVER_MS, body={"subject": victim, "time": now_ms, "reason": "forged"}
        ),
        says(liar.public, formation=friend.public),
        says(liar.public, stamp=stamp_at(now_ms + FUTURE_MS), expires=now_ms + FUTURE_MS + DAY_MS),
        says(liar.public, stamp=stamp_at(now_ms - PAST_MS), expires=now_ms - PAST_MS + DAY_MS),
        says(liar.public, kind="poem"),
        says(liar.public, v=2),
        says(liar.public, name="x" * 201),
        says(liar.public, kind="node", name="node", body={"name": bytes(20_000)}),
        grants(liar.public, "member", chain),
        grants(liar.public, "operator", []),
        grants(formation, "operator", []),
        grants(friend.public, "operator", [], key=friend),
        says(liar.public, kind="grant", name=liar.public.hex(), body={"subject": liar.public, "role": "operator", "chain": chain}),
        says(liar.public, kind="grant", name=liar.public.hex(), body={}),
        random.randbytes(random.randrange(1, 300)),
    ]
    if real:
        honest = random.choice(real)
        at = random.randrange(len(honest))
        forged.append(honest[:at] + bytes([honest[at] ^ (1 << random.randrange(8))]) + honest[at + 1 :])
        forged.append(honest[: random.randrange(len(honest))])
        forged.append(seal(parse_unverified(honest)[1].payload, friend, aad=AAD))
    random.shuffle(forged)
    return forged


def noise(random: Random, liar: KeyPair, *, formation: bytes, victims: list[bytes], now_ms: int) -> list[bytes]:
    """What a member may say about itself, and what it says about others and nobody believes. Two versions of one moment are among it."""
    victim = random.choice(victims)
    twice = f"{random.getrandbits(128):032x}"

    def says(kind: str, name: str, body: dict[str, Any], expires: int = now_ms + DAY_MS) -> bytes:
        return state(
            liar, kind=kind, name=name, formation=formation, audience="formation", stamp=stamp_at(now_ms), expires=expires, body=body
        ).signed

    return [
        says("agent", twice, {"card": b"one"}),
        says("agent", twice, {"card": b"two"}),
        says("revocation", victim.hex(), {"subject": victim, "time": now_ms, "reason": "I say so"}, NEVER_MS),
        says("departure", victim.hex(), {"subject": victim, "reason": "I say so"}, now_ms + 400 * DAY_MS),
    ]
