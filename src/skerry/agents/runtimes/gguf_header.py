"""What a GGUF file says of itself: architecture, window, quantisation.

The header stands at the front, the large vocabulary after it, so a few kilobytes tell whether a file is a model at all, before the
real loader allocates anything for it (format: ggml's docs/gguf.md).

The rule: every length is checked before it is believed; reads nothing but the stream that it is handed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # 1 was never in wide use
KEYS_MAX = 10_000  # real files have some 50
TEXT_BYTES_MAX = 1024 * 1024  # a chat template is some kilobytes
LIST_ITEMS_MAX = 4096  # of the lists that come before the vocabulary; real ones name a few tags

_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9

# llama.cpp's llama_ftype (include/llama.h): what most tensors of a file are.
QUANTIZATIONS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
    14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


class NoGguf(ValueError):
    """The file is none; the text says why."""


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """Empty or 0 where the file does not say."""

    architecture: str
    name: str
    quantization: str
    context_length: int


def read_facts(file: BinaryIO) -> GgufFacts:
    """Reads up to the vocabulary. Raises NoGguf."""
    if _take(file, 4) != MAGIC:
        raise NoGguf("it does not begin like a GGUF file")
    version, _tensors, keys = struct.unpack("<IQQ", _take(file, 20))
    if version not in VERSIONS:
        raise NoGguf(f"its GGUF version is {version}; this knows {' and '.join(map(str, VERSIONS))}")
    if keys > KEYS_MAX:
        raise NoGguf(f"it claims to have {keys} header fields")
    found: dict[str, Any] = {}
    for _ in range(keys):
        name = _text(file)
        if name.startswith("tokenizer."):
            break  # the vocabulary: megabytes, and nothing for us
        found[name] = _value(file, _number(file, "I"))
    architecture = str(found.get("general.architecture", ""))
    window = found.get(f"{architecture}.context_length", 0)
    file_type = found.get("general.file_type")
    return GgufFacts(
        architecture=architecture,
        name=str(found.get("general.name", "")),
        quantization=QUANTIZATIONS.get(file_type, "") if isinstance(file_type, int) else "",
        context_length=window if isinstance(window, int) and window > 0 else 0,
    )


def _take(file: BinaryIO, size_bytes: int) -> bytes:
    data = file.read(size_bytes)
    if len(data) != size_bytes:
        raise NoGguf("it ends in the middle of its header")
    return data


def _number(file: BinaryIO, code: str) -> Any:
    return struct.unpack(f"<{code}", _take(file, struct.calcsize(f"<{code}")))[0]


def _text(file: BinaryIO) -> str:
    size_bytes = _number(file, "Q")
    if size_bytes > TEXT_BYTES_MAX:
        raise NoGguf(f"a text in its header claims to have {size_bytes} bytes")
    return _take(file, size_bytes).decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind in _FIXED:
        return _number(file, _FIXED[kind])
    if kind == _TEXT:
        return _text(file)
    if kind != _LIST:
        raise NoGguf(f"a field of its header has the unknown type {kind}")
    inner, count = _number(file, "I"), _number(file, "Q")
    if count > LIST_ITEMS_MAX or inner == _LIST:
        raise NoGguf(f"a list in its header claims to have {count} items")
    return [_value(file, inner) for _ in range(count)]
