"""Inputs that a decoder once did not take as it has to: found by `make fuzz`, each kept for ever. Append only."""

from __future__ import annotations

import json
import struct

import pytest

from tests.fuzz.__main__ import every_decoder
from tests.fuzz.campaign import judge

_DEEP_JSON = b'{"a":' * 3000
_DEEP_TOML = b"a = " + b"[" * 3000

_ENDLESS_WALLET = json.dumps(
    {"kind": "skerry client", "version": 1, "key": "51" * 32, "grant": "", "records": [], "refreshed_ms": float("inf")}
).encode()


def _gguf_with_a_list_as_file_type() -> bytes:
    name = b"general.file_type"
    field = struct.pack("<Q", len(name)) + name + struct.pack("<IIQ", 9, 8, 1) + struct.pack("<Q", 1) + b"a"
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + field


# decoder, input, what it raised
FOUND: list[tuple[str, bytes, str]] = [
    ("config.toml", _DEEP_TOML, "RecursionError"),
    ("script", b"# /// script\n# " + _DEEP_TOML + b"\n# ///\n", "RecursionError"),
    ("ready.json", _DEEP_JSON, "RecursionError"),
    ("backup", _DEEP_JSON, "RecursionError"),
    ("wallet", _DEEP_JSON, "RecursionError"),
    ("log line", _DEEP_JSON, "RecursionError"),
    ("a key", b"\xff" * 64, "UnicodeDecodeError"),
    ("answer", b"\x82\xa1gchoices\x81\xa1edelta\x07\xa1gchoices\x80", "a delta that is a number: AttributeError"),
    (
        "answer",
        b"\x81\xa1gchoices\x81\xa1edelta\xa1jtool_calls\x81\xa1eindex\x1a\x7f\xff\xff\xff",
        "memory: two thousand million tool calls",
    ),
    ("config.toml", b"a = " + b"9" * 5000, "ValueError: more digits than a number may have"),
    ("script", b"# /// script\n# a = " + b"9" * 5000 + b"\n# ///\n", "ValueError: more digits than a number may have"),
    ("server's stream", b'data: {"choices": 255}\n\n', "TypeError: the choices of a chunk are a number"),
    ("saved state", b"\x18\x20", "TypeError: a state that is a number"),
    ("invitation", b"\x18\x20", "TypeError: an invitation that is a number"),
    ("invitation", b"\x86\x40\x61x\x01\x01\x80\x80", "ValueError: an unknown role"),
    ("gguf", _gguf_with_a_list_as_file_type(), "TypeError: a list as its file type"),
    ("script", b'# /// script\n# requires-python = ">=' + b"9" * 5000 + b'"\n# ///\n', "ValueError: more digits than a number may have"),
    ("wallet", _ENDLESS_WALLET, "OverflowError: refreshed at infinity"),
]


@pytest.mark.parametrize(("name", "data", "was"), FOUND)
def test_what_was_found_is_mended(name: str, data: bytes, was: str) -> None:
    _, finding = judge(name, every_decoder()[name], data)
    assert finding is None, f"{was} again: {finding.details}"
