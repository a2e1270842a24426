"""`skerry leave`: out of the formation, in order."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, home_of
from skerry.errors import EXIT_REFUSED, Code, Refused, UsageError

END_TIMEOUT_S = 20.0  # until the node has ended and its home is free
LOOK_S = 0.05


def leave(
    untold: Annotated[bool, typer.Option("--untold", help="Of a home on which no node runs: leave without telling the others.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Leave the formation: the others are told, the node ends, and its home can found or join another. The agents stay in the home."""
    from skerry.cli.output import print_json
    from skerry.node.home import Home

    place = Home(home_of(home))
    if not place.serves():
        formation, told, nodes = _leave_untold(place.path, untold=untold), 0, 0
    else:
        formation, told, nodes = _leave_in_order(place.path, yes=yes)
        end = time.monotonic() + END_TIMEOUT_S
        while place.serves() and time.monotonic() < end:
            time.sleep(LOOK_S)
    if output is not Output.TABLE:
        print_json({"formation": formation, "told": told, "nodes": nodes})
        return
    print(f"left the formation {formation[:10]}; {told} of {nodes} nodes heard of it")
    if told == 0 and nodes:
        print("nobody was told: others list this node until its grant lapses, or an operator does `skerry node forget`", file=sys.stderr)


def _leave_in_order(home: Path, *, yes: bool) -> tuple[str, int, int]:
    from skerry.cli.ask import ask
    from skerry.node.verbs import FormationInfo, LeaveReply, Nothing

    info = ask(home, "formation.show", Nothing(), FormationInfo)
    if info.founder_home and not yes:
        warning = f"this home holds the root key of {info.id[:10]}: without it nobody can make or renew operators"
        if not sys.stdin.isatty():
            raise Refused(warning, code=Code.CONFLICT, hint="back it up first (`skerry formation backup FILE`), then leave with --yes")
        print(f"{warning}. It is kept in the home as root-of-{info.id[:10]}.key.")
        if not typer.confirm("Go on?"):
            sys.exit(EXIT_REFUSED)
    reply = ask(home, "node.leave", Nothing(), LeaveReply)
    return reply.formation, reply.told, reply.nodes


def _leave_untold(home: Path, *, untold: bool) -> str:
    from skerry.node.backup import leave_offline

    if not untold:
        raise UsageError(
            f"no node runs on the home {home}, so nobody can be told",
            code=Code.UNREACHABLE,
            hint="start it (`skerry up`) and leave then; or leave without telling the others: --untold",
        )
    return leave_offline(home)
