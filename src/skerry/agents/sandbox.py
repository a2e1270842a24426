"""Bubblewrap around a worker, where the machine has it: the agent sees the system read-only, its own files, and none of the node's.

The node's home and the user's own folder are empty in there, but for what the worker needs: the interpreter, the agent's code or model, and
a folder to work in. Other processes can't be seen or signalled. The network stays open, because agents call services.

The rule: whether a sandbox is used is found out by trying it once, and said; an agent never runs half inside one.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TRY_TIMEOUT_S = 5.0
_WORLD = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp")
_APART = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session")


@functools.cache
def bubblewrap() -> str | None:
    """The path of a bubblewrap that works here, None where there is none: it may be installed and yet be forbidden."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    try:
        tried = subprocess.run([program, *_APART, *_WORLD, "true"], capture_output=True, timeout=TRY_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return program if tried.returncode == 0 else None


def wrapped(
    command: Sequence[str], *, program: str, home: Path | None, private: Path | None, readable: Sequence[Path], work: Path | None
) -> list[str]:
    """The command inside the sandbox.

    home       the user's own folder, empty in there but for the interpreter
    private    the node's folder, empty in there but for what is readable, wherever it lies
    readable   shown read-only; work: the one folder that can be written
    """
    arguments = [program, *_APART, *_WORLD, *_emptied(home), *_shown(_interpreter()), *_emptied(private), *_shown(readable)]
    if work is not None:
        arguments += ["--bind", str(work), str(work), "--chdir", str(work), "--setenv", "HOME", str(work)]
    return [*arguments, *command]


def _emptied(folder: Path | None) -> list[str]:
    return ["--tmpfs", str(folder.resolve())] if folder is not None and folder.is_dir() and folder.resolve() != Path("/") else []


def _shown(paths: Sequence[Path]) -> list[str]:
    """Outer folders first, so that none covers what was shown inside it."""
    found = sorted({path for path in paths if path.exists()}, key=lambda path: (len(path.parts), path))
    return [argument for path in found for argument in ("--ro-bind", str(path), str(path))]


def _interpreter() -> list[Path]:
    """What this Python is made of, where it may lie in a hidden folder."""
    places = [Path(sys.prefix), Path(sys.base_prefix), *(Path(path) for path in sys.path if path and Path(path).is_absolute())]
    return [path for path in places if path not in (Path("/"), Path("/usr"))]
