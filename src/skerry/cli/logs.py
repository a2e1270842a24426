"""`skerry logs`: what the local node wrote into its log. Reads the file, so it works when the node does not.

The rule: a log that is put aside while it is followed loses no line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, home_of

LOOK_S = 0.25  # how often a log that is followed is looked at
SHOWN_BYTES_MAX = 8 * 1024 * 1024  # of the past


def logs(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many of the last lines.", min=0)] = 100,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What the local node logged; those of agents: `skerry agent logs`."""
    from skerry.agents.logfile import last_lines
    from skerry.errors import Code, Refused
    from skerry.node.home import Home
    from skerry.node.logs import FILE_NAME

    path = Home(home_of(home)).logs / FILE_NAME
    if not path.exists() and not follow:
        raise Refused(f"there is no log {path}", code=Code.NOT_FOUND, hint="no node has run on this home yet: `skerry up`")
    past = last_lines(path, lines=lines, size_bytes_max=SHOWN_BYTES_MAX)
    following = _following(path) if follow else iter(())  # opened before the past is printed, which takes its time
    _print(past.splitlines(), output)
    for line in following:
        _print([line], output)


def _print(lines: list[str], output: Output) -> None:
    from skerry.cli.output import print_json
    from skerry.node.logs import human_line

    if output is Output.JSON:
        print_json({"lines": lines})
        return
    for line in lines:
        print(line if output is Output.JSONL else human_line(line), flush=True)


def _following(path: Path) -> Iterator[str]:
    """Every whole line that is written from now on, across files that are put aside."""
    file = _opened(path)
    if file is not None:
        file.seek(0, os.SEEK_END)
    return _lines(path, file)


def _lines(path: Path, file: BinaryIO | None) -> Iterator[str]:
    rest = b""
    while True:
        fresh = _opened(path) if file is None or _put_aside(path, file) else None
        data = file.read() if file is not None else b""  # after that look: so the old file is read to its very end
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
        if fresh is not None:
            if file is not None:
                file.close()
            file = fresh
        elif not data:
            time.sleep(LOOK_S)


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _put_aside(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False  # between two files
