"""Keys and the ids that are made of them."""

from __future__ import annotations

import pytest

from skerry.errors import UsageError
from skerry.identity.keys import KeyPair, agent_id, parse_id, short, verify
from tests.support.formation import MEMBER, OPERATOR


def test_the_pair_of_rfc_8032() -> None:
    """Section 7.1, tests 1 and 2."""
    first = KeyPair.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert first.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert first.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    second = KeyPair.from_seed(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert second.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")
    assert verify(second.public, b"\x72", second.sign(b"\x72"))


def test_a_seed_comes_back_and_never_shows() -> None:
    pair = KeyPair.from_seed(b"s" * 32)
    assert pair.seed == b"s" * 32
    assert (b"s" * 8).hex() not in repr(pair)
    assert "sssssss" not in repr(pair)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), bytes(64)])
def test_a_seed_of_another_size_is_none(seed: bytes) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        KeyPair.from_seed(seed)


def test_a_signature_is_for_its_key_and_its_message() -> None:
    signature = MEMBER.sign(b"message")
    assert verify(MEMBER.public, b"message", signature)
    assert not verify(OPERATOR.public, b"message", signature)
    assert not verify(MEMBER.public, b"messagf", signature)
    assert not verify(MEMBER.public, b"", signature)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_an_odd_key_verifies_nothing(public: bytes) -> None:
    """Also the points of small order, for which some signatures would hold for every message."""
    for signature in (MEMBER.sign(b"x"), bytes(64), b"\x01" + bytes(63), b"\xff" * 64):
        assert not verify(public, b"x", signature)


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65), b"\xff" * 64])
def test_an_odd_signature_is_simply_false(signature: bytes) -> None:
    assert not verify(MEMBER.public, b"x", signature)


def test_a_signature_can_not_be_bent() -> None:
    """S + L is S to a careless verifier: another signature for the same message."""
    order = 2**252 + 27742317777372353535851937790883648493
    good = MEMBER.sign(b"x")
    bent = good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little")
    assert not verify(MEMBER.public, b"x", bent)


def test_agent_ids_are_32_hex_characters_of_the_key() -> None:
    assert len(agent_id(MEMBER.public)) == 32
    assert agent_id(MEMBER.public) == agent_id(MEMBER.public) != agent_id(OPERATOR.public)
    assert bytes.fromhex(agent_id(MEMBER.public)) not in MEMBER.public


def test_ids_as_text() -> None:
    assert parse_id(MEMBER.public.hex()) == parse_id(MEMBER.public.hex().upper()) == MEMBER.public
    assert short(MEMBER.public) == short(MEMBER.public.hex()) == MEMBER.public.hex()[:10]


@pytest.mark.parametrize(
    "text", ["", "x", "00" * 32, "ab" * 31, "ab" * 33, " " + "ab" * 32, "ab " * 32, "zz" * 32, "ab" * 31 + "\u0661\u0661", "0x" + "ab" * 31]
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(UsageError):
        parse_id(text)
