"""What the tidy tests read: the repository's files, as text and as syntax trees.

Everything here takes the repository as it lies on the disk, so that a rule applies to a file from the moment it exists.
"""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "skerry"
TESTS = ROOT / "tests"

# Made by tools or by a run; never committed.
NOT_OURS = frozenset({".git", ".venv", "__pycache__", ".hypothesis", "dist", "build", "results", "node_modules"})


def whole() -> bool:
    """Whether the program can be started. Until then a part may still be missing; from then on each rule must find what it reads."""
    return (SRC / "cli" / "main.py").exists()


def files(*, under: Path = ROOT, suffix: str = "") -> Iterator[Path]:
    """Our own files, in order; none where there is no such folder yet."""
    if not under.is_dir():
        return
    for path in sorted(under.iterdir()):
        if path.name in NOT_OURS or path.name.endswith("_cache"):
            continue
        if path.is_dir():
            yield from files(under=path, suffix=suffix)
        elif path.name.endswith(suffix):
            yield path


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each import, wherever in the file it stands; `from a import b` gives `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def module_path(name: str) -> Path | None:
    """Where the module `skerry.a.b` lies, file or folder."""
    stem = SRC.joinpath(*name.split(".")[1:])
    for path in (stem.with_name(stem.name + ".py"), stem / "__init__.py"):
        if path.exists():
            return path
    return None


def config() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def documentation() -> str:
    """The README and everything in docs/, as one text."""
    pages = [ROOT / "README.md", *files(under=ROOT / "docs", suffix=".md")]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)
