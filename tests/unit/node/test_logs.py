"""What stands in a log, and what never does."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.node.config import choose, config_of
from skerry.node.logs import FILE_NAME, LINE_CHARACTERS_MAX, Human, Logs, human_line

log = logging.getLogger("skerry.test")
TICKET = "skerry1qrmcxyzabcdef0123456789"


@contextmanager
def _logs(folder: Path, *, terminal: bool = False, asked: bool = False, **flags: Any) -> Iterator[Logs]:
    config = config_of(choose(folder, flags={name.replace("__", "."): value for name, value in flags.items()}, environment={}))
    logs = Logs(config, folder=folder, level_asked=asked, terminal=terminal)
    try:
        yield logs
    finally:
        logs.close()


def _written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FILE_NAME).read_text().splitlines()]


def test_the_file_has_a_json_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _logs(tmp_path):
        log.info("linked with %s", "abc", extra={"node": "abc", "count": 3})
        log.debug("not asked for")
        try:
            raise LookupError("gone")
        except LookupError:
            log.exception("it broke\nin two lines")
    first, second = _written(tmp_path)
    assert first == {
        "time": first["time"],
        "level": "info",
        "logger": "skerry.test",
        "message": "linked with abc",
        "node": "abc",
        "count": 3,
    }
    assert first["time"].endswith("Z")
    assert second["message"] == "it broke\nin two lines"
    assert "LookupError: gone" in second["traceback"]
    assert [json.loads(line) for line in capsys.readouterr().err.splitlines()] == [first, second]


@pytest.mark.parametrize(
    ("terminal", "asked", "form", "shown"),
    [
        (True, False, "auto", ["WARNING"]),
        (True, True, "auto", ["INFO", "WARNING"]),
        (True, False, "json", ['"warning"']),
        (False, False, "auto", ['"info"', '"warning"']),
        (False, False, "human", ["INFO", "WARNING"]),
    ],
)
def test_what_stderr_gets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], terminal: bool, asked: bool, form: str, shown: list[str]
) -> None:
    with _logs(tmp_path, terminal=terminal, asked=asked, log__format=form):
        log.info("one")
        log.warning("two")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(shown)
    assert all(level in line for level, line in zip(shown, lines, strict=True))
    assert len(_written(tmp_path)) == 2


@pytest.mark.parametrize(
    ("message", "arguments", "secret"),
    [
        ("join with %s", (TICKET,), TICKET),
        ("the header Authorization: Bearer %s", ("abcdefgh12345678",), "abcdefgh12345678"),
        ("the server said: invalid key sk-proj-abcdefgh1234", (), "sk-proj-abcdefgh1234"),
        ('{"api_key": "%s"}', ("abcdefgh12345678",), "abcdefgh12345678"),
        ("OPENAI_API_KEY=%s", ("abcdefgh12345678",), "abcdefgh12345678"),
        ("password: hunter2hunter2", (), "hunter2hunter2"),
        ("http://ada:lovelace99@127.0.0.1/v1", (), "lovelace99"),
        ("the token is %s", ("this-is-the-token",), "this-is-the-token"),
        ("seed %s", (b"\1\2payload\3",), "payload"),
        ("repr %r", ({"body": b"a payload that is longer than a word"},), "longer than"),
    ],
)
def test_secrets_are_struck_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], message: str, arguments: tuple[Any, ...], secret: str
) -> None:
    with _logs(tmp_path) as logs:
        logs.never_show("this-is-the-token", "short")
        log.error(message, *arguments, extra={"also": message % arguments if arguments else message})
        try:
            raise ValueError(message % arguments if arguments else message)
        except ValueError:
            log.exception("it failed, in short")
    text = (tmp_path / FILE_NAME).read_text() + capsys.readouterr().err
    if not isinstance(arguments[0] if arguments else None, bytes):
        assert secret not in text
    assert secret not in _written(tmp_path)[0]["message"]
    assert "it failed, in short" in text


@pytest.mark.parametrize(
    "plain",
    [
        "linked with 7364f295a0",
        "the token is wrong",
        "no token was sent",
        "ready: vm, mesh 127.0.0.1:40819, http 127.0.0.1:42341",
        "nobody offers 'inference:org/model:8b'",
        "seeds: 3",
        "http://127.0.0.1:7421/v1",
        "7364f295a07364f295a07364f295a07364f295a07364f295a07364f295a07364f2",
    ],
)
def test_ordinary_words_stay(tmp_path: Path, plain: str) -> None:
    with _logs(tmp_path):
        log.info("%s", plain)
    assert _written(tmp_path)[0]["message"] == plain


def test_a_message_of_any_length_is_one_bounded_line(tmp_path: Path) -> None:
    with _logs(tmp_path):
        log.info("%s", "long " * 100_000)
    assert len(_written(tmp_path)[0]["message"]) < LINE_CHARACTERS_MAX + 100


def test_the_log_is_bounded(tmp_path: Path) -> None:
    with _logs(tmp_path, log__size_max=65536, log__files=2, log__stderr=False):
        for number in range(3000):
            log.info("line %d of many, each as long as lines are", number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [FILE_NAME, f"{FILE_NAME}.1"]
    assert all(file.stat().st_size <= 65536 for file in files)
    assert _written(tmp_path)[-1]["message"].startswith("line 2999")


def test_a_call_that_does_not_fit_its_format_is_no_bug_of_the_node(tmp_path: Path) -> None:
    with _logs(tmp_path):
        log.info("%d things", "many")
    assert "%d things" in _written(tmp_path)[0]["message"]


def test_warnings_go_to_the_log_and_logging_is_given_back(tmp_path: Path) -> None:
    before = logging.getLogger().handlers[:]
    with _logs(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("something is old", DeprecationWarning, stacklevel=1)
    assert "something is old" in _written(tmp_path)[0]["message"]
    assert logging.getLogger().handlers == before


def test_people_read_the_file_as_lines(tmp_path: Path) -> None:
    with _logs(tmp_path):
        log.warning("the disk is %s", "full", extra={"left": 0})
    (line,) = (tmp_path / FILE_NAME).read_text().splitlines()
    assert human_line(line).endswith("WARNING test: the disk is full  left=0")
    assert human_line("no json") == "no json"
    assert human_line('{"time": 3}') == '{"time": 3}'


def test_what_a_peer_says_makes_no_line_of_its_own() -> None:
    evil = "no link: \x1b[2Jbye\n2026-01-31 12:00:00 INFO    node: all is well\x9b1A"
    line = json.dumps({"time": "2026-01-31T12:00:00.000Z", "level": "warning", "logger": "skerry.test", "message": evil, "reason": evil})
    assert human_line(line).isprintable()
    record = logging.LogRecord("skerry.test", logging.WARNING, "", 0, "%s", (evil,), None)
    assert Human().format(record).isprintable()
