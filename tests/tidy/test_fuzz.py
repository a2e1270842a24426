"""Every decoder is fed by `make fuzz`: what reads bytes or text that others made has its place in the list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.tidy.repository import SRC, TESTS, files, short, tree

_NAMES = re.compile(r"(read|parse|decode|unpack)(_\w+)?|from_(bytes|json)|restore")
_TAKES = {"bytes", "str", "Body", "Statement", "memoryview", "SignedBytes"}
FUZZ = TESTS / "fuzz"


def _decoders() -> Iterator[tuple[str, str]]:
    """(name as it is called, where)."""
    for path in files(under=SRC, suffix=".py"):
        if path.is_relative_to(SRC / "sim"):
            continue  # it reads what the tests themselves made
        for owner in ast.walk(tree(path)):
            if not isinstance(owner, ast.Module | ast.ClassDef):
                continue
            prefix = f"{owner.name}." if isinstance(owner, ast.ClassDef) else ""
            for one in owner.body:
                if isinstance(one, ast.FunctionDef) and _NAMES.fullmatch(one.name) and _takes(one):
                    yield (prefix if one.name.startswith("from_") else "") + one.name, f"{short(path)}:{one.lineno}"


def _takes(function: ast.FunctionDef) -> bool:
    named = [argument for argument in function.args.args if argument.arg not in ("self", "cls")]
    return bool(named) and named[0].annotation is not None and ast.unparse(named[0].annotation) in _TAKES


def _fed() -> set[str]:
    """Names that stand in the lists."""
    lists = [tree(path) for path in files(under=FUZZ, suffix=".py")]
    names = {ast.unparse(node) for one in lists for node in ast.walk(one) if isinstance(node, ast.Name | ast.Attribute)}
    return names | {name.rpartition(".")[2] for name in names}


def test_every_decoder_is_fuzzed() -> None:
    fed = _fed()
    assert [f"{where} {name}" for name, where in _decoders() if name not in fed] == []
