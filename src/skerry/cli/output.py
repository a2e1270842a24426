"""What commands print: tables for people, JSON for programs, errors in at most three lines.

The rule: with `-o json` standard output holds JSON and nothing else, also when the command fails; and names and reasons, which come from
others, tell a terminal nothing.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from skerry.cli.options import Output
from skerry.client.values import to_json
from skerry.errors import EXIT_REFUSED, SkerryError, Unreachable

if TYPE_CHECKING:
    from skerry.node.verbs import DoctorReply


def plain(value: Any) -> Any:
    """Dataclasses and bytes as what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return to_json(value)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def harmless(text: str) -> str:
    """Without what moves the cursor, begins a line or turns the direction of writing."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def print_many(items: Sequence[Any], output: Output, *, columns: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> None:
    """A list: a table, one JSON object `{name: [...]}`, or one JSON object a line."""
    if output is Output.JSON:
        print_json({name: items})
    elif output is Output.JSONL:
        for item in items:
            print_json(item)
    else:
        print_table(columns, rows, empty=f"no {name}")


def print_one(item: Any, output: Output, *, rows: Iterable[tuple[str, str]]) -> None:
    """One thing: lines of `name value` for people."""
    if output is not Output.TABLE:
        print_json(item)
        return
    lines = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        first, *more = value.split("\n")
        print(f"{name:<{width}}  {harmless(first)}")
        for line in more:
            print(" " * (width + 2) + harmless(line))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Aligned columns; the last one may be as long as it likes."""
    lines = [tuple(columns), *(tuple(map(harmless, row)) for row in rows)]
    if len(lines) == 1:
        print(empty)
        return
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    bold, reset = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    for number, line in enumerate(lines):
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        print(f"{bold}{text}{reset}" if number == 0 else text)


def print_checks(reply: DoctorReply, output: Output) -> None:
    """What was examined; ends with what to do, and with exit 1 where something is wrong."""
    bad = [check for check in reply.checks if check.ok is False]
    if output is not Output.TABLE:
        print_json({"ok": not bad, "checks": reply.checks})
    else:
        for check in reply.checks:
            mark = {True: "ok  ", False: "BAD ", None: "?   "}[check.ok]
            print(f"{mark} {harmless(check.what):<12} {harmless(check.detail)}")
        print(f"-> {harmless(bad[0].advice)}" if bad and bad[0].advice else ("all is well" if not bad else "-> see above"))
    if bad:
        sys.exit(EXIT_REFUSED)


def print_error(error: SkerryError, *, as_json: bool) -> None:
    """What happened and why, then what to do."""
    if as_json:
        body: dict[str, Any] = {"code": str(error.code), "message": error.message, "hint": error.hint}
        if isinstance(error, Unreachable):
            body["outcome_unknown"] = error.outcome_unknown
        print_json({"error": body})
        return
    sys.stderr.write(f"error: {harmless(error.message)}\n")
    if isinstance(error, Unreachable) and error.outcome_unknown:
        sys.stderr.write("the work may have been done all the same\n")
    if error.hint:
        sys.stderr.write(f"  -> {harmless(error.hint)}\n")


def age(at_ms: int) -> str:
    """How long ago, or until when, in one unit."""
    seconds = abs(time.time() - at_ms / 1000)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def clock_time(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_ms / 1000)) if at_ms else ""
