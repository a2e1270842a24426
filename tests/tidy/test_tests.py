"""The tests keep the house's rules too: no sleeps, nothing beyond loopback, each unit test beside its module."""

from __future__ import annotations

import ast
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.loopback import is_local
from tests.tidy.repository import SRC, TESTS, files, short, tree

POLLING = TESTS / "support" / "polling.py"
NAMESPACES = TESTS / "support" / "namespaces.py"  # its networks are its own: no packet leaves them
VIRTUAL_TIME = (TESTS / "sim", TESTS / "unit" / "sim")  # there a sleep costs nothing and waits for nothing real
IPV6 = r"(?<![\w.:])[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?:\d{0,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})?(?![\w:])"
IPV4 = r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"
ADDRESS = re.compile(f"{IPV6}|{IPV4}")


def _sleeps(module: ast.Module) -> Iterator[int]:
    """Lines that sleep: any `time.sleep`, and any `asyncio.sleep` by a number other than 0."""
    bare = {
        alias.asname or alias.name: node.module
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio")
        for alias in node.names
        if alias.name == "sleep"
    }
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        if bare.get(call):
            call = f"{bare[call]}.sleep"
        delay = node.args[0] if node.args else None
        literal = isinstance(delay, ast.Constant) and delay.value != 0
        if call == "time.sleep" or (call in ("asyncio.sleep", "anyio.sleep") and literal):
            yield node.lineno


def _virtual_lines(module: ast.Module) -> set[int]:
    """The lines of tests under `@simulated`: their time is virtual."""
    return {
        line
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(ast.unparse(d) == "simulated" for d in node.decorator_list)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _addresses(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and addresses, in any text of the module, that are not this machine's own."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str | bytes):
            continue
        text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        for found in ADDRESS.finditer(text):
            try:
                address = ipaddress.ip_address(found.group())
            except ValueError:
                continue
            if not is_local(address) and not address.is_unspecified:
                yield node.lineno, str(address)


def _test_files() -> Iterator[Path]:
    return files(under=TESTS, suffix=".py")


def test_tests_poll_instead_of_sleeping() -> None:
    found = [
        f"{short(path)}:{line}"
        for path in _test_files()
        if path != POLLING and not any(path.is_relative_to(folder) for folder in VIRTUAL_TIME)
        for line in _sleeps(tree(path))
        if line not in _virtual_lines(tree(path))
    ]
    assert found == []


def test_tests_name_no_address_beyond_loopback() -> None:
    found = [
        f"{short(path)}:{line} names {address}"
        for path in _test_files()
        if path not in (Path(__file__), NAMESPACES)
        for line, address in _addresses(tree(path))
    ]
    assert found == []


def test_unit_tests_mirror_the_source() -> None:
    stray = []
    for path in files(under=TESTS / "unit", suffix=".py"):
        inside = path.relative_to(TESTS / "unit")
        if not path.name.startswith("test_"):
            continue
        twin = SRC / inside.parent / path.name.removeprefix("test_")
        if not twin.exists() and not (twin.with_suffix("") / "__init__.py").exists():
            stray.append(f"{short(path)}: there is no {short(twin)}")
    assert stray == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("import time\ntime.sleep(1)", [2]),
        ("from time import sleep as nap\nnap(0.1)", [2]),
        ("import asyncio\nawait asyncio.sleep(0.5)", [2]),
        ("import asyncio\nawait asyncio.sleep(0)", []),
        ("loop.sleep(3)", []),
    ],
)
def test_a_sleep_is_seen(code: str, lines: list[int]) -> None:
    assert list(_sleeps(ast.parse(code))) == lines


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("tcp://127.0.0.1:7420 and [::1]:80, 0.0.0.0", []),
        ("http://192.0.2.7:80/", ["192.0.2.7"]),
        ("to 192.0.2.7.", ["192.0.2.7"]),
        ("::ffff:127.0.0.1, ::1, ::", []),
        ("::ffff:192.0.2.7", ["::ffff:c000:207"]),
        ("[2001:db8::1]:80", ["2001:db8::1"]),
        ("skerry::node, 12:30:45, 3.11.7, ab:cd", []),
    ],
)
def test_an_address_is_seen(text: str, seen: list[str]) -> None:
    assert [address for _, address in _addresses(ast.parse(repr(text)))] == seen
