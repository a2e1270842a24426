"""`skerry reputation`: list, forgive."""

from __future__ import annotations

from typing import Annotated

import typer

from skerry.cli.options import HomeOption, NodeOption, Output, OutputOption

app = typer.Typer(help="What a node thinks of those whom it asked.", no_args_is_help=True, rich_markup_mode=None)
COLUMNS = ("KIND", "NAME", "ID", "SCORE", "SEEN", "")


@app.command("list")
def list_scores(node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Every agent, node and circle that it has an opinion of, the best first."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many
    from skerry.routing.verbs import ScoreList, ScoreQuery

    found = ask(home, "reputation.list", ScoreQuery(), ScoreList, node=node).scores
    rows = [
        (one.kind, one.name, one.id[:10], f"{one.score:.3f}", str(one.observations), "blacklisted" if one.blacklisted else "")
        for one in found
    ]
    print_many(found, output, columns=COLUMNS, rows=rows, name="scores")


@app.command()
def forgive(
    name: Annotated[str, typer.Argument(help="Its name, its id, or the start of its id.")],
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Forget what it did: it begins anew, and is asked again."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.routing.verbs import ForgiveRequest, Score

    score = ask(home, "reputation.forgive", ForgiveRequest(name), Score, node=node)
    if output is not Output.TABLE:
        print_json(score)
        return
    print(f"{score.kind} {score.name or score.id[:10]} had {score.score:.3f} and begins anew")
