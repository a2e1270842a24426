"""The runtimes by name, loaded when they are used: a node that runs no models never sees their libraries."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from skerry.agents.runtimes.contract import Runtime
from skerry.errors import UsageError

RUNTIMES = {
    "python": "PythonRuntime",
    "onnx": "OnnxRuntime",
    "gguf": "GgufRuntime",
    "remote": "RemoteRuntime",
}
TOKENIZER_FILE = "tokenizer.json"  # the name that the `tokenizers` library and the hubs give it
REMOTE_PREFIX = "openai+"


def load(name: str) -> type[Runtime]:
    """The class of a runtime; each agent has an instance of its own. Raises UsageError for a name that we don't know."""
    if name not in RUNTIMES:
        raise UsageError(f"there is no runtime {name!r}", hint=f"use one of {', '.join(RUNTIMES)}")
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("type[Runtime]", getattr(module, RUNTIMES[name]))


def recognise(target: str) -> str:
    """Which runtime `agent run TARGET` means, by its form alone; the file need not be there."""
    if target.startswith((f"{REMOTE_PREFIX}http://", f"{REMOTE_PREFIX}https://")):
        return "remote"
    if "://" in target:
        raise UsageError(
            f"{target!r} is no server that can be brought in",
            hint="for an OpenAI-compatible server write openai+http://HOST:PORT/v1",
        )
    file, colon, entry = target.rpartition(":")
    if colon and Path(file).suffix == ".py" and entry.isidentifier():
        return "python"
    suffix = Path(target).suffix.lower()
    if suffix in (".onnx", ".gguf"):
        return suffix[1:]
    if suffix == ".py" or Path(file).suffix == ".py":
        raise UsageError(f"{target!r} does not say which class to run", hint=f"write {file or target}:ClassName")
    raise UsageError(
        f"{target!r} is nothing that can be run",
        hint="give FILE.py:Class, MODEL.onnx, MODEL.gguf or openai+http://HOST:PORT/v1",
    )


def tokenizer_beside(model: Path) -> Path | None:
    """The tokenizer that lies beside a model file (or in a model's folder), where there is one."""
    folder = model if model.is_dir() else model.parent
    tokenizer = folder / TOKENIZER_FILE
    return tokenizer if tokenizer.is_file() else None
