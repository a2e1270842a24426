"""The repository works anywhere: it names no folder of one machine and no package registry's host."""

from __future__ import annotations

import re
from pathlib import Path

from tests.tidy.repository import ROOT, files, short

TEXT_BYTES_MAX = 2_000_000  # larger files are data
# In pieces, so that this file does not find itself.
HOSTS = [
    ".".join(name)
    for name in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb", "debian", "org"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
    )
]
FOLDERS = ["/" + name + "/" for name in ("work", "root", "Users", "opt/pypi")]
FOUND = re.compile("|".join([*(rf"\b{re.escape(host)}\b" for host in HOSTS), *(rf"(?<![\w.~*-]){folder}" for folder in FOLDERS)]))


def _offences(path: Path) -> list[str]:
    if path.stat().st_size > TEXT_BYTES_MAX:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return []  # not text
    return [f"{short(path)}:{number}: {line.strip()[:120]}" for number, line in enumerate(text.splitlines(), 1) if FOUND.search(line)]


def test_no_machine_and_no_registry_is_named() -> None:
    assert [offence for path in files() for offence in _offences(path)] == []


def test_the_pattern_finds_something() -> None:
    assert FOUND.search("see https://" + HOSTS[0] + "/simple")
    assert FOUND.search("open(" + repr(FOLDERS[0] + "main") + ")")
    assert not FOUND.search("a framework/thing, my/work/is done")


def test_the_lock_is_exact_and_plain() -> None:
    """`name==version`, perhaps a marker: no addresses, no local files."""
    lines = [line for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(lines) > 20
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+( ; .+)?", line)] == []
