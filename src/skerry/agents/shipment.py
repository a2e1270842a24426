"""What an agent is made of, on its way to another node: its files inside the request that runs it there.

The rule: a shipment is unpacked into a fresh folder, and nothing in it can name a place outside of that.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from skerry.agents.runtimes import recognise, tokenizer_beside
from skerry.agents.spec import TOKENIZER
from skerry.agents.verbs import AgentRunRequest
from skerry.errors import Code, UsageError

FILES_MAX = 10_000
BYTES_MAX = 240 * 1024 * 1024  # with the rest of the request below what one value on the channel may have


def ship(request: AgentRunRequest) -> AgentRunRequest:
    """The request with its files inside, for another node; paths in it become relative to the shipment. Raises UsageError."""
    runtime = recognise(request.target)
    if request.options.get("api_key_file"):
        raise UsageError("a key file is not sent to another node", hint="run it on that node, where the key file lies")
    if runtime == "remote":
        return request
    file, entry = request.target, ""
    if runtime == "python":
        file, _, entry = request.target.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"{path} does not exist", code=Code.NOT_FOUND, hint="give the path of a file on this machine")
    shipped: dict[str, bytes] = {}
    options = dict(request.options)
    if request.folder:
        folder = Path(request.folder)
        for found in sorted(folder.rglob("*")):
            if found.is_file() and not found.is_symlink() and "__pycache__" not in found.parts:
                _add(shipped, f"code/{found.relative_to(folder).as_posix()}", found)
        target = f"code/{path.resolve().relative_to(folder.resolve()).as_posix()}"
    else:
        target = f"code/{path.name}"
        _add(shipped, target, path)
    tokenizer = Path(options[TOKENIZER]) if options.get(TOKENIZER) else (tokenizer_beside(path) if runtime == "onnx" else None)
    if tokenizer is not None:
        _add(shipped, "tokenizer/tokenizer.json", tokenizer)
        options[TOKENIZER] = "tokenizer/tokenizer.json"
    return replace(
        request, target=f"{target}:{entry}" if entry else target, folder="code" if request.folder else "", options=options, shipped=shipped
    )


@contextlib.contextmanager
def unpacked(request: AgentRunRequest) -> Iterator[AgentRunRequest]:
    """The request with the paths of a folder that holds its files, for as long as it is being copied in."""
    if not request.shipped:
        yield request
        return
    if len(request.shipped) > FILES_MAX:
        raise UsageError(f"a shipment of {len(request.shipped)} files, {FILES_MAX} are allowed", code=Code.TOO_LARGE)
    with tempfile.TemporaryDirectory(prefix="skerry-shipment-") as scratch:
        root = Path(scratch)
        for name, data in request.shipped.items():
            place = root / _safe(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        options = dict(request.options)
        if options.get(TOKENIZER):
            options[TOKENIZER] = str(root / _safe(str(options[TOKENIZER])))
        file, colon, entry = request.target.rpartition(":")
        if not (colon and file.endswith(".py")):
            file, entry = request.target, ""
        target = str(root / _safe(file)) + (f":{entry}" if entry else "")
        folder = str(root / _safe(request.folder)) if request.folder else ""
        yield replace(request, target=target, folder=folder, options=options, shipped={})


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise UsageError(f"a shipment may not name the path {name!r}", hint="send files below one folder")
    return path


def _add(shipped: dict[str, bytes], name: str, path: Path) -> None:
    shipped[name] = path.read_bytes()
    if len(shipped) > FILES_MAX or sum(map(len, shipped.values())) > BYTES_MAX:
        raise UsageError(
            f"what the agent is made of is too much to send: at most {FILES_MAX} files and {BYTES_MAX // 2**20} MiB",
            code=Code.TOO_LARGE,
            hint="copy the model to that machine and run it there",
        )
