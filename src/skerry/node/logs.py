"""The node's log, set up in one place: JSON lines in `logs/node.log`, and on stderr what a person or a collector wants to see.

On a terminal only warnings show, unless a level was asked for: a log is no conversation. Elsewhere stderr gets what the file gets.

Nothing secret may stand in a log. The code logs ids and reasons only; this is the net below it: values of bytes become their length, the
secrets that this node holds and everything that looks like one (tickets, bearer tokens, keys of services) are struck out of the finished
line, its traceback included.

The rule: a line is struck clean before it is written anywhere; a log that can't be written costs lines, never the node.
"""

from __future__ import annotations

import calendar
import json
import logging
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skerry.agents.logfile import LogFile
from skerry.node.config import Config

FILE_NAME = "node.log"
LINE_CHARACTERS_MAX = 16 * 1024  # a longer one is cut: it was no message any more
SECRET_CHARACTERS_MIN = 8  # shorter strings would strike out ordinary words
STRUCK = "[secret]"

# What looks like a secret wherever it came from: our tickets, bearer tokens, keys of OpenAI-compatible services, `password=...`.
_LOOKS_SECRET = re.compile(
    r"skerry1[a-z0-9]{8,}"
    r"|(?<=bearer )[\w.~+/=-]{8,}"
    r"|\bsk-[\w-]{8,}"
    r"|(?<=://)[^\s/@]+:[^\s/@]+(?=@)"
    r"""|(?P<label>\b[\w-]*(?:api[_-]?key|token|password|passwd|secret|seed|authorization)["']?\s*[=:]\s*["']?)"""
    r"""(?!Bearer )[^\s"',;)}]{6,}""",
    re.IGNORECASE,
)
_BYTES = re.compile(r"""\b(?:bytearray\()?b(["'])(?:\\.|(?!\1).){24,}?\1\)?""")  # the text form of bytes that are too long to be a word
_NOISY = ("asyncio", "httpx", "httpcore", "uvicorn", "uvicorn.error", "uvicorn.access")
_LINE_KEYS = frozenset({"time", "level", "logger", "message", "traceback"})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Clean(logging.Formatter):
    """A format that lets no secret through. `secrets`: what this node holds; it is kept by reference, so that others may follow."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self.secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return self.written(record, self._text(record))

    def written(self, record: logging.LogRecord, text: str) -> str:
        """The line (or lines) of a record whose clean text is given."""
        raise AssertionError("a format says how its lines look")

    def clean(self, text: str) -> str:
        for secret in self.secrets:
            if len(secret) >= SECRET_CHARACTERS_MIN:
                text = text.replace(secret, STRUCK)
        text = _BYTES.sub(lambda found: f"<{len(found[0])} characters of bytes>", text)
        text = _LOOKS_SECRET.sub(lambda found: (found["label"] or "") + STRUCK, text)
        return text if len(text) <= LINE_CHARACTERS_MAX else f"{text[:LINE_CHARACTERS_MAX]}... ({len(text)} characters)"

    def trace(self, record: logging.LogRecord) -> str:
        return self.clean(self.formatException(record.exc_info)) if record.exc_info else ""

    def _text(self, record: logging.LogRecord) -> str:
        try:
            arguments = record.args
            if isinstance(arguments, tuple):
                said = str(record.msg) % tuple(map(_sized, arguments)) if arguments else str(record.msg)
            else:
                said = record.getMessage()
        except (TypeError, ValueError):  # a log call that does not fit its own format must not end what logged it
            said = f"{record.msg} (with arguments that don't fit)"
        return self.clean(said)


class Human(Clean):
    """`2026-01-31 12:00:00 WARNING node.upkeep: what happened`"""

    def written(self, record: logging.LogRecord, text: str) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        trace = self.trace(record)
        return _shown(f"{at} {record.levelname:<7} {record.name.removeprefix('skerry.')}: {text}", trace)


class Lines(Clean):
    """One JSON object a line: time, level, logger, message, what was given as `extra`, and the traceback where there is one."""

    def written(self, record: logging.LogRecord, text: str) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": text}
        for key, value in vars(record).items():
            if key not in _STANDARD:
                line[key] = value if isinstance(value, int | float | bool | None) else self.clean(str(_sized(value)))
        if trace := self.trace(record):
            line["traceback"] = trace
        return json.dumps(line, ensure_ascii=False)


class FileHandler(logging.Handler):
    """Into a file that stays small."""

    def __init__(self, file: LogFile) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        self._file.write(self.format(record).encode(errors="replace") + b"\n")

    def close(self) -> None:
        self._file.close()
        super().close()


class StderrHandler(logging.StreamHandler[Any]):
    """To stderr, wherever that leads now. One that nobody reads any more is no reason to say so there."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 # logging's own name
        """Nothing: there is no third place to complain in."""


class Logs:
    """Logging of this process, for as long as a node runs in it."""

    def __init__(self, config: Config, *, folder: Path, level_asked: bool, terminal: bool | None = None) -> None:
        """`level_asked`: somebody chose the level, so that a terminal shows it too; `terminal`: whether stderr is one."""
        terminal = sys.stderr.isatty() if terminal is None else terminal
        self._secrets: list[str] = []
        self._root = logging.getLogger()
        self._before = (self._root.level, self._root.handlers[:])
        level = logging.getLevelNamesMapping()[config.log_level.upper()]
        file = FileHandler(LogFile(folder / FILE_NAME, size_bytes_max=config.log_size_max, files=config.log_files))
        file.setFormatter(Lines(self._secrets))
        self._handlers: list[logging.Handler] = [file]
        if config.log_stderr:
            stderr = StderrHandler(sys.stderr)
            human = config.log_format == "human" or (config.log_format == "auto" and terminal)
            stderr.setFormatter(Human(self._secrets) if human else Lines(self._secrets))
            stderr.setLevel(logging.WARNING if terminal and not level_asked else level)
            self._handlers.append(stderr)
        self._root.setLevel(level)
        self._root.handlers[:] = self._handlers
        for noisy in _NOISY:  # they say at `info` what is none of our reader's business, or log requests with their headers
            logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
        logging.captureWarnings(True)

    def never_show(self, *secrets: str) -> None:
        """Strike these out of every line from now on."""
        self._secrets.extend(secrets)

    def close(self) -> None:
        """Give logging back as it was."""
        logging.captureWarnings(False)
        level, self._root.handlers[:] = self._before
        self._root.setLevel(level)
        for handler in self._handlers:
            handler.close()


def _sized(value: Any) -> Any:
    """Bytes as their length: they are payloads, keys or frames, and none of these belongs into a log."""
    return f"<{len(value)} bytes>" if isinstance(value, bytes | bytearray | memoryview) else value


def _shown(text: str, trace: str) -> str:
    """One line, whatever is in it: what peers say stands in logs too, and is to make no lines of its own, nor to move a cursor."""
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in (text.replace("\n", " "), *trace.split("\n"))]
    return "\n".join(lines if trace else lines[:1])


def human_line(line: str) -> str:
    """A line of `node.log` as people read it; what is no such line comes back as it is."""
    try:
        said = json.loads(line)
        at = time.strptime(said["time"][:19], "%Y-%m-%dT%H:%M:%S")
        shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(calendar.timegm(at)))
        more = " ".join(f"{key}={value}" for key, value in said.items() if key not in _LINE_KEYS)
        text = f"{shown} {said['level'].upper():<7} {said['logger'].removeprefix('skerry.')}: {said['message']}"
        return _shown(text + (f"  {more}" if more else ""), str(said.get("traceback", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return line
