"""Who may import what, as far as import-linter can't say it (the layers stand in pyproject.toml and run with `make check`).

Deciding is apart from doing: a module that decides is handed `now` and `rng` and returns what should happen. The list of such modules
is `[tool.skerry.tidy] deciding` in pyproject.toml.
"""

from __future__ import annotations

from tests.tidy.repository import SRC, TESTS, config, files, imported, module_path, short, whole

OUTSIDE_WORLD = frozenset({"asyncio", "socket", "os", "time", "random", "threading", "ssl", "subprocess", "multiprocessing", "signal"})


def _deciding() -> list[str]:
    listed: list[str] = config()["tool"]["skerry"]["tidy"]["deciding"]
    assert listed
    return listed


def _outside(name: str) -> bool:
    return name.partition(".")[0] in OUTSIDE_WORLD


def test_deciding_modules_do_nothing() -> None:
    found = [
        f"{short(path)}:{line} imports {name}"
        for path in filter(None, map(module_path, _deciding()))
        for line, name in imported(path)
        if _outside(name)
    ]
    assert found == []


def test_the_list_of_deciding_modules_is_not_stale() -> None:
    missing = [name for name in _deciding() if module_path(name) is None]
    assert not (whole() and missing), f"listed as deciding, but not there: {missing}"
    assert sorted(set(_deciding())) == sorted(_deciding())


def test_the_layers_are_all_there() -> None:
    """A layer in brackets may be missing; once the program starts, none may be."""
    (contract,) = config()["tool"]["importlinter"]["contracts"]
    layers = [layer.strip("()") for layer in contract["layers"]]
    missing = [layer for layer in layers if module_path(f"skerry.{layer}") is None]
    assert not (whole() and missing), f"layers without a folder: {missing}"
    assert contract["exhaustive"] is True  # so that a new folder has to find its place


def _of_the_facade(name: str) -> bool:
    """`skerry` itself, or a name that it offers rather than a module below it."""
    top, _, rest = name.partition(".")
    return top == "skerry" and "." not in rest and not rest.startswith("__") and (not rest or module_path(name) is None)


def test_nothing_imports_the_facade() -> None:
    """`skerry/__init__` stands outside the order of layers: importing a name from it would be a way around that order."""
    found = [
        f"{short(path)}:{line} imports {name}"
        for path in files(under=SRC, suffix=".py")
        if path != SRC / "__init__.py"
        for line, name in imported(path)
        if _of_the_facade(name)
    ]
    assert found == []


def test_tests_share_through_support_alone() -> None:
    found = [
        f"{short(path)}:{line} imports {name}"
        for path in files(under=TESTS, suffix=".py")
        for line, name in imported(path)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    ]
    assert found == []
