"""The options that many commands take, once.

The rule: an option means the same in every command that has it.
"""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from skerry.errors import UsageError
from skerry.routing.strategies import Strategy


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="SKERRY_HOME", help="The home of the local node.", show_default="~/.skerry", show_envvar=True),
]
OutputOption = Annotated[Output, typer.Option("-o", "--output-format", help="How to print: for people, or for programs.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds until the call gives up.", min=0.001)]
TicketOption = Annotated[
    str | None,
    typer.Option(
        "--ticket",
        envvar="SKERRY_TICKET",
        help="Without a node here: as a client, with this ticket, or @FILE for a 0600 file that holds it.",
        metavar="TICKET",
        show_envvar=True,
    ),
]
StrategyOption = Annotated[
    Strategy | None,
    typer.Option("--strategy", help="Who does it, of those who can; docs/routing.md.", show_default="the node's setting"),
]
HedgeOption = Annotated[bool, typer.Option("--hedge", help="Ask a second agent where the first is slow (idempotent tasks).")]
PriorityOption = Annotated[int, typer.Option("--priority", help="0 to 10, 10 first.", min=0, max=10, clamp=True)]
RestartOption = Annotated[bool, typer.Option("--restart", help="Begin a stream that was cut off anew at another agent.")]
WhereOption = Annotated[list[str] | None, typer.Option("--where", help="key=value: only agents with that attribute; value may end in '*'.")]
MaxLatencyOption = Annotated[int, typer.Option("--max-latency", help="Milliseconds after which an answer is worth nothing.", min=0)]
ReceiptOption = Annotated[Path | None, typer.Option("--receipt", help="Have the result signed, and write that to this file.")]
NodeOption = Annotated[str | None, typer.Option("--node", help="Ask this node of the formation instead; a right of operators.")]

REACH = "formation"  # no further, where nothing is said
ReachOption = Annotated[
    str, typer.Option("--reach", help="How far the task may go to find its agent: formation, contacts, public.", metavar="REACH")
]

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """`90`, `90s`, `30m`, `1h`, `7d` as seconds. Raises UsageError that shows the form."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no time span", hint="write 90s, 30m, 1h or 7d")
    return float(found[1]) * _UNITS_S[found[2]]


def mebibytes(text: str) -> int:
    """`512M`, `2G`, `1500` (MiB) as bytes. Raises UsageError that shows the form."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([MG]?)(?:iB|B)?", text.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"{text!r} is no amount of memory", hint="write 512M or 2G")
    return int(float(found[1]) * (2**30 if found[2] == "G" else 2**20))


def ticket_text(given: str) -> str:
    """The ticket itself, or `-` for standard input, or `@FILE`: a command line can be read by everybody on the machine."""
    if given == "-":
        return sys.stdin.readline()
    if given.startswith("@"):
        from skerry.node.home import read_secret

        return read_secret(Path(given[1:]).expanduser())
    return given


def home_of(given: Path | None) -> Path:
    return (given or Path("~/.skerry")).expanduser().absolute()
