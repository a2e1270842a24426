"""`skerry letter`: letters that were not handled yet, or were put aside, and what to do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.options import HomeOption, NodeOption, Output, OutputOption
from skerry.errors import UsageError

if TYPE_CHECKING:
    from skerry.wiring.verbs import LetterInfo

app = typer.Typer(
    help="Letters that wait in the node's outbox, and those put aside, that can't be delivered or that their agent could not handle.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
LetterArgument = Annotated[str, typer.Argument(help="A letter's id.", metavar="ID")]
LettersArgument = Annotated[list[str] | None, typer.Argument(help="Letters that were put aside, by their ids.", metavar="ID...")]
AllOption = Annotated[bool, typer.Option("--all", help="All that were put aside.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("-n", "--limit", help="At most so many.", min=1)] = 200,
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What was put aside, oldest first, then what waits; and why."""
    from skerry.cli.ask import ask
    from skerry.cli.output import age, print_json, print_many
    from skerry.wiring.verbs import LetterList, LetterQuery

    found = ask(home, "letter.list", LetterQuery(limit), LetterList, node=node)
    if output is Output.JSON:
        print_json(found)
        return
    rows = [(one.id, one.sender, one.to, one.state, age(one.since), one.reason) for one in found.letters]
    print_many(found.letters, output, columns=("ID", "FROM", "TO", "STATE", "SINCE", "WHY"), rows=rows, name="letters")
    more = found.waiting + found.aside - len(found.letters)
    if more > 0:
        typer.echo(f"and {more} more: --limit", err=True)
    if output is Output.TABLE and found.aside:
        typer.echo("undelivered, failed: put aside. `skerry letter show`, then `retry` or `drop`", err=True)


@app.command()
def show(letter: LetterArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """One letter, with what it says."""
    import json

    from skerry.cli.ask import ask
    from skerry.cli.output import clock_time, plain, print_json, print_one
    from skerry.identity.codec import unpack
    from skerry.wiring.verbs import LetterContent, LetterName

    found = ask(home, "letter.show", LetterName(letter), LetterContent, node=node)
    info, content = found.letter, plain(unpack(found.content))
    if output is not Output.TABLE:
        print_json({**plain(info), "content": content})
        return
    rows = (
        ("id", info.id),
        ("from", info.sender),
        ("to", info.to),
        ("state", info.state + (f": {info.reason}" if info.reason else "")),
        ("since", clock_time(info.since)),
        ("content", content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)),
    )
    print_one(info, output, rows=rows)


@app.command()
def retry(
    letters: LettersArgument = None,
    all_: AllOption = False,
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send letters again that were put aside: as new ones, behind all others."""
    _print(_asked("letter.retry", letters, all_, node, home), output, "sent again")


@app.command()
def drop(
    letters: LettersArgument = None,
    all_: AllOption = False,
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Forget letters that were put aside."""
    _print(_asked("letter.drop", letters, all_, node, home), output, "dropped")


def _asked(verb: str, letters: list[str] | None, all_: bool, node: str | None, home: HomeOption) -> list[LetterInfo]:
    from skerry.cli.ask import ask
    from skerry.wiring.verbs import LetterList, LetterNames

    if bool(letters) == all_:
        raise UsageError("name letters by their ids, or say --all", hint="`skerry letter list` shows them")
    return ask(home, verb, LetterNames(letters or []), LetterList, node=node).letters


def _print(letters: list[LetterInfo], output: Output, verb: str) -> None:
    from skerry.cli.output import print_many

    if output is Output.TABLE:
        print(f"{len(letters)} {'letter' if len(letters) == 1 else 'letters'} {verb}")
    else:
        print_many(letters, output, columns=(), rows=(), name="letters")
