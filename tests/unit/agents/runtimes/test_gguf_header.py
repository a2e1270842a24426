"""GGUF headers: the real one is understood, and no file, cut or altered, does more than be refused."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.agents.runtimes.gguf_header import GgufFacts, NoGguf, read_facts
from tests.support import models


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _header(*fields: bytes, version: int = 3, keys: int | None = None) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 1, len(fields) if keys is None else keys) + b"".join(fields)


ARCHITECTURE = _text("general.architecture") + struct.pack("<I", 8) + _text("llama")
WINDOW = _text("llama.context_length") + struct.pack("<II", 4, 2048)
KIND = _text("general.file_type") + struct.pack("<II", 4, 15)
TAGS = _text("general.tags") + struct.pack("<IIQ", 9, 8, 2) + _text("a") + _text("b")
VOCABULARY = _text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2**40)
SMALL = _header(ARCHITECTURE, TAGS, WINDOW, KIND, VOCABULARY)


def test_the_real_model_says_what_it_is() -> None:
    with models.smollm().open("rb") as file:
        facts = read_facts(file)
        read_bytes = file.tell()
    assert (facts.architecture, facts.quantization, facts.context_length) == ("llama", "Q4_1", 8192)
    assert read_bytes < 10_000, "the vocabulary is not ours to read"


def test_fields_before_the_vocabulary_are_read() -> None:
    assert read_facts(io.BytesIO(SMALL)) == GgufFacts("llama", "", "Q4_K_M", 2048)


def test_what_a_file_does_not_say_stays_empty() -> None:
    assert read_facts(io.BytesIO(_header())) == GgufFacts("", "", "", 0)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends in the middle"),
        (b"GGML" + bytes(20), "does not begin like"),
        (_header(version=1), "version is 1"),
        (_header(keys=2**40), "claims to have"),
        (_header(struct.pack("<Q", 2**60)), "a text in its header claims"),
        (_header(_text("x") + struct.pack("<I", 99)), "unknown type 99"),
        (_header(_text("x") + struct.pack("<IIQ", 9, 4, 2**40)), "a list in its header claims"),
        (_header(_text("x") + struct.pack("<IIQ", 9, 9, 1)), "a list in its header claims"),
    ],
)
def test_other_files_are_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(NoGguf, match=says):
        read_facts(io.BytesIO(data))


@pytest.mark.parametrize("length", range(len(SMALL) - len(VOCABULARY) + 8))
def test_a_header_that_is_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(NoGguf):
        read_facts(io.BytesIO(SMALL[:length]))


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_one_wrong_byte_does_no_harm(index: int, byte: int) -> None:
    data = bytearray(SMALL)
    data[index] = byte
    try:
        facts = read_facts(io.BytesIO(bytes(data)))
    except NoGguf:
        return
    assert facts.context_length >= 0
