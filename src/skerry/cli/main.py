"""`skerry`: the daily few as bare verbs, everything else as noun and verb.

The rule: exit 0 done, 1 refused or failed, 2 wrong usage, 3 unreachable; an error is at most three lines and never a traceback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from skerry.cli import agent, capability, circle, config, contact, daily, formation, letter, node, record, reputation, service, task, wire
from skerry.errors import EXIT_USAGE, SkerryError, UsageError, meaning

WrongUsage: Any = typer.BadParameter.__mro__[1]  # what the parser raises; typer exports only this child of it

app = typer.Typer(
    name="skerry",
    help="A mesh of nodes that run, find and call AI agents, with no server in charge.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(node.app, name="node")
app.add_typer(formation.app, name="formation")
app.add_typer(agent.app, name="agent")
app.add_typer(capability.app, name="capability")
app.add_typer(record.app, name="record")
app.add_typer(reputation.app, name="reputation")
app.add_typer(contact.app, name="contact")
app.add_typer(circle.app, name="circle")
app.add_typer(letter.app, name="letter")
app.add_typer(wire.app, name="wire")
app.add_typer(config.app, name="config")
app.add_typer(service.app, name="service")
daily.add_to(app)
task.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        from skerry import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    home: Annotated[Path | None, typer.Option("--home", help="The home of the local node, for the command that follows.")] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_version)] = False,
) -> None:
    """A mesh of nodes that run, find and call AI agents, with no server in charge."""
    if home is not None:
        os.environ["SKERRY_HOME"] = str(home)


def main() -> None:
    """The entry point."""
    try:
        code = app(prog_name="skerry", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except SkerryError as error:
        _fail(error)
    except WrongUsage as error:
        if not error.args or error.args[0].startswith("Usage:"):  # no command at all: the help is the answer
            error.show()
            sys.exit(EXIT_USAGE)
        _fail(_said_plainly(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # the last boundary: a bug of ours is a line too, and a traceback only for who wants it
        if os.environ.get("SKERRY_DEBUG"):
            raise
        said = f"skerry failed inside: {type(error).__name__}: {error}".splitlines()[0]
        _fail(SkerryError(said, hint="this is a bug; with SKERRY_DEBUG=1 in the environment it shows where"))


def _fail(error: SkerryError) -> NoReturn:
    from skerry.cli.output import print_error

    print_error(error, as_json=_wants_json(sys.argv))
    sys.exit(meaning(error.code).exit)


def _said_plainly(error: Any) -> UsageError:
    """What the parser of arguments objects to, in the form that all errors have."""
    text = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "skerry"
    return UsageError(text[:1].lower() + text[1:], hint=f"`{command} -h` shows how it is used")


def _wants_json(arguments: list[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(a in ("-ojson", "-ojsonl") or (a in ("-o", "--output-format") and b in ("json", "jsonl")) for a, b in pairs)


if __name__ == "__main__":
    main()
