"""The short form of `make fuzz`: a hundred thousand inputs, the same every time, for all decoders together."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import ProtocolError
from skerry.identity.codec import encode, unpack
from tests.fuzz import campaign
from tests.fuzz.__main__ import every_decoder, shares
from tests.fuzz.campaign import feed, judge
from tests.fuzz.decoders import Decoder
from tests.fuzz.inputs import BYTES, CBOR

DECODERS = every_decoder()
EXAMPLES = 60  # that a property test has; each is a seed of so many inputs:
INPUTS = {name: count // EXAMPLES + 1 for name, count in shares(DECODERS, 100_000).items()}


@pytest.mark.parametrize("name", DECODERS)
def test_valid_inputs_are_read(name: str) -> None:
    for data in DECODERS[name].seeds:
        refused, finding = judge(name, DECODERS[name], data)
        assert finding is None, finding.details
        assert not refused


@pytest.mark.parametrize("name", DECODERS)
@given(seed=st.integers(0, 2**32))
def test_almost_right_inputs_are_read_or_refused(name: str, seed: int) -> None:
    outcome = feed(name, DECODERS[name], INPUTS[name], random.Random(seed))
    assert not outcome.findings, f"{outcome.findings[0].why}: {outcome.findings[0].data.hex()}\n{outcome.findings[0].details}"


# --- what no decoder may do is seen -------------------------------------------------------------------------------------------------


def _raises(data: bytes) -> None:
    if b"\xff" in data[:1]:
        raise KeyError("not a refusal")


def _loops(data: bytes) -> None:
    if data[:1] == b"\x00":
        began = time.process_time()
        while time.process_time() - began < campaign.INPUT_S * 1.5:
            pass


def _loose(data: bytes) -> bytes:
    unpack(data)
    return data[:-1]


@pytest.mark.parametrize(
    ("decoder", "why"),
    [
        (Decoder(_raises, [b"\x01"], BYTES), "KeyError"),
        (Decoder(_loops, [b"\x01"], BYTES), "too long"),
        (Decoder(_loose, [encode([1, 2])], CBOR, write=bytes), "another form"),
    ],
)
def test_what_no_decoder_may_do_is_found(decoder: Decoder, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "INPUT_S", 0.01)
    outcome = feed("planted", decoder, 600, random.Random(1))
    assert any(why in finding.why for finding in outcome.findings)
    again = feed("planted", decoder, 600, random.Random(1))
    assert [finding.data for finding in again.findings] == [finding.data for finding in outcome.findings]


def test_a_refusal_is_no_finding() -> None:
    assert judge("decode", DECODERS["decode"], b"\xff") == (True, None)
    with pytest.raises(ProtocolError):
        DECODERS["decode"].read(b"\xff")


def test_the_inputs_are_shared_out() -> None:
    counts = shares(DECODERS, 1_000_000)
    assert sum(counts.values()) >= 1_000_000
    assert set(counts) == set(DECODERS)
