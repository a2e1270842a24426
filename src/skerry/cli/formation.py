"""`skerry formation`: show, backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, home_of

app = typer.Typer(help="The formation: whom all its nodes trust.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Its id, its operators, its revoked, and this node's place in it."""
    from skerry.cli.ask import ask
    from skerry.cli.output import clock_time, print_one
    from skerry.node.verbs import FormationInfo, Nothing

    info = ask(home, "formation.show", Nothing(), FormationInfo)
    rows = (
        ("id", info.id),
        ("this node", f"{info.own_role or 'no member'} ({info.own_state}), until {clock_time(info.own_expires_at)}"),
        ("root key", "in this home: back it up with `skerry formation backup FILE`" if info.founder_home else "not in this home"),
        ("nodes", str(info.nodes)),
        ("agents", str(info.agents)),
        ("operators", "\n".join(info.operators)),
        ("revoked", "\n".join(info.revoked)),
    )
    print_one(info, output, rows=rows)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where to write the root key; made 0600, never overwritten.")],
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write the root key to a file. Whoever has it can do anything in this formation: keep it offline."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.node.backup import nodes_known_offline, write_backup
    from skerry.node.home import Home
    from skerry.node.verbs import NodeList, Nothing

    path = home_of(home)
    if Home(path).serves():
        nodes = {info.id: info.addresses for info in ask(home, "node.list", Nothing(), NodeList).nodes}
    else:
        nodes = nodes_known_offline(path)
    formation = write_backup(path, file, nodes=nodes)
    if output is Output.TABLE:
        print(f"the root key of {formation[:10]} is in {file}: keep it where no machine reads it")
    else:
        print_json({"formation": formation, "file": str(file)})


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `formation backup` wrote.")],
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring the root key into this home, which makes its node an operator; a new home becomes one of the formation."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.node.backup import read_backup, restore_offline
    from skerry.node.home import Home
    from skerry.node.verbs import FormationInfo, RestoreRequest

    backup = read_backup(file)
    if Home(home_of(home)).serves():
        ask(home, "formation.restore", RestoreRequest(backup.seed), FormationInfo)
    else:
        restore_offline(home_of(home), backup)
    if output is Output.TABLE:
        print(f"the root key of {backup.formation.hex()[:10]} is in the home {home_of(home)}")
    else:
        print_json({"formation": backup.formation.hex(), "home": str(home_of(home))})
