"""What `agent run TARGET` means: which runtime, which file, which name and capability where none are given.

The rule: everything that can be known to be wrong from the text and the disk is said before anything is copied.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from skerry.agents import runtimes
from skerry.agents.capability import check_capability
from skerry.errors import Code, UsageError


@dataclass(frozen=True, slots=True)
class Target:
    """`path` is what to store (None for a remote server), `entry` what to load from it."""

    runtime: str
    path: Path | None
    entry: str
    default_name: str
    default_capabilities: tuple[str, ...]


def read_target(text: str, *, folder: str = "") -> Target:
    """Raises UsageError where there is no such file, or the text names nothing that can be run.

    folder: store all of it, because the file needs what lies beside it; the file must be inside
    """
    runtime = runtimes.recognise(text)
    if runtime == "remote":
        url = text.removeprefix(runtimes.REMOTE_PREFIX)
        host = url.split("://", 1)[1].split("/", 1)[0].split("@")[-1]
        return Target(runtime, None, url, _name("remote-" + host), ())
    if runtime == "python":
        file, _, entry = text.rpartition(":")
        path = _existing(file)
        if folder:
            whole, inside = _inside(path, Path(folder))
            return Target(runtime, whole, f"{inside}:{entry}", _name(entry), ())
        return Target(runtime, path, f"{path.name}:{entry}", _name(entry), ())
    path = _existing(text)
    name = _name(path.stem)
    kind = "inference" if runtime == "gguf" else "custom"
    return Target(runtime, path, "", name, (check_capability(f"{kind}:{path.stem}"),))


def _existing(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"{path} {what}", code=Code.NOT_FOUND, hint="give the path of a file that this node can read")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} can't be read by the node", code=Code.NOT_FOUND, hint="check the file's rights")
    return path.resolve()


def _inside(path: Path, folder: Path) -> tuple[Path, str]:
    whole = folder.expanduser().resolve()
    if not whole.is_dir() or not path.is_relative_to(whole):
        raise UsageError(
            f"{path} does not lie in the folder {folder}", code=Code.NOT_FOUND, hint="name the folder that holds it with --folder"
        )
    return whole, path.relative_to(whole).as_posix()


def _name(text: str) -> str:
    """A name in lower case of what an agent may be called."""
    cleaned = "".join(c if c.isalnum() or c in "-_." else "-" for c in text.lower())
    return cleaned.strip("-.")[:64] or "agent"
