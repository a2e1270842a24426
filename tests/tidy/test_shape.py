"""The shape of the source: short files, short functions, plain names, and nothing left for later."""

from __future__ import annotations

import ast
import re

from tests.tidy.repository import SRC, files, short, tree

FILE_LINES_MAX = 400  # decay is always one file at the centre; this is where we notice
FUNCTION_LINES_MAX = 60  # what fits on a screen
BANNED_WORDS = re.compile(r"NotImplementedError|\bTODO\b|\bFIXME\b|\bXXX\b|pragma: no cover")
BANNED_NAMES = re.compile(r"^(utils?|helpers?|managers?|common|base|misc|.*_v\d+)$")


def test_files_are_short() -> None:
    lengths = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files(under=SRC, suffix=".py")}
    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    long = []
    for path in files(under=SRC, suffix=".py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{short(path)}:{node.lineno} {node.name} has {lines} lines")
    assert long == []


def test_nothing_is_left_for_later() -> None:
    found = [
        f"{short(path)}:{number}: {line.strip()}"
        for path in files(under=SRC, suffix=".py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if BANNED_WORDS.search(line)
    ]
    assert found == []


def test_names_say_what_a_module_is_about() -> None:
    parts = {part for path in files(under=SRC, suffix=".py") for part in (*path.parent.relative_to(SRC).parts, path.stem)}
    assert sorted(part for part in parts if BANNED_NAMES.match(part)) == []


def test_modules_open_with_a_docstring() -> None:
    silent = []
    for path in files(under=SRC, suffix=".py"):
        empty_package = path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip()
        if not empty_package and not ast.get_docstring(tree(path)):
            silent.append(short(path))
    assert silent == []


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in files(under=SRC, suffix=".py")}
    assert sorted(short(folder) for folder in folders if not (folder / "__init__.py").exists()) == []
