"""`skerry`: the daily few as bare verbs, everything else as noun and verb.

The rule: exit 0 done, 1 refused or failed, 2 wrong usage, 3 unreachable; an error is at most three lines and never a traceback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli import agent, capability, daily, formation, node, task
from skerry.errors import SkerryError, meaning

app = typer.Typer(
    name="skerry",
    help="A mesh of nodes that run, find and call AI agents, with no server in charge.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(node.app, name="node")
app.add_typer(formation.app, name="formation")
app.add_typer(agent.app, name="agent")
app.add_typer(capability.app, name="capability")
daily.add_to(app)
task.add_to(app)


@app.callback()
def common(
    home: Annotated[Path | None, typer.Option("--home", help="The home of the local node, for the command that follows.")] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    """A mesh of nodes that run, find and call AI agents, with no server in charge."""
    if version:
        from skerry import __version__

        typer.echo(__version__)
        raise typer.Exit
    if home is not None:
        os.environ["SKERRY_HOME"] = str(home)


def main() -> None:
    """The entry point."""
    try:
        app()
    except SkerryError as error:
        from skerry.cli.output import print_error

        print_error(error, as_json=_wants_json(sys.argv))
        sys.exit(meaning(error.code).exit)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _wants_json(arguments: list[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(a in ("-ojson", "-ojsonl") or (a in ("-o", "--output-format") and b in ("json", "jsonl")) for a, b in pairs)


if __name__ == "__main__":
    main()
