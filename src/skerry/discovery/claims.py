"""What is said about who is there: three words, each signed by whoever says it.

    alive     I am here, in this incarnation                     said by a node of itself
    away      I go, and it is no crash                           said by a node of itself
    suspect   I can't reach that node in that incarnation        said by a witness of another one

There is no word for "gone": that each node concludes by itself. So nobody can declare another one dead, or come back in its name, or let
it seem older than it is; a liar is one witness, and is refuted.

A claim is 137 bytes: word, subject, incarnation, witness, signature. It is no record: it is kept by nobody beyond its use.

The rule: who says something of itself outbids what was said before with a higher incarnation, and nobody else can.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from skerry.identity.keys import KEY_BYTES, SIGNATURE_BYTES, KeyPair, verify

INCARNATION_BYTES = 8
INCARNATION_MAX = 2**63 - 1
CLAIM_BYTES = 1 + KEY_BYTES + INCARNATION_BYTES + KEY_BYTES + SIGNATURE_BYTES
_DOMAIN = b"skerry/presence/1"
_SUBJECT = 1
_INCARNATION = _SUBJECT + KEY_BYTES
_WITNESS = _INCARNATION + INCARNATION_BYTES
_SIGNATURE = _WITNESS + KEY_BYTES


class Word(IntEnum):
    ALIVE = 1
    AWAY = 2
    SUSPECT = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """`witness` is who says it, `data` the bytes that travel. `read` has looked at its form, `is_signed` at its signature."""

    word: Word
    subject: bytes
    incarnation: int
    witness: bytes
    data: bytes

    def is_signed(self, formation: bytes) -> bool:
        """Whether the witness really said it, in this formation."""
        return verify(self.witness, _DOMAIN + formation + self.data[:_SIGNATURE], self.data[_SIGNATURE:])


def say(key: KeyPair, formation: bytes, word: Word, *, subject: bytes, incarnation: int) -> Claim:
    """A claim in the name of `key`."""
    body = bytes([word]) + subject + incarnation.to_bytes(INCARNATION_BYTES, "big") + key.public
    return Claim(word, subject, incarnation, key.public, body + key.sign(_DOMAIN + formation + body))


def read(data: bytes) -> Claim | None:
    """The claim in some bytes, not yet believed; None where they are none."""
    if len(data) != CLAIM_BYTES or data[0] not in tuple(Word):
        return None
    word, subject, witness = Word(data[0]), data[_SUBJECT:_INCARNATION], data[_WITNESS:_SIGNATURE]
    incarnation = int.from_bytes(data[_INCARNATION:_WITNESS], "big")
    if incarnation > INCARNATION_MAX or (word is Word.SUSPECT) is (subject == witness):
        return None
    return Claim(word, subject, incarnation, witness, data)
