"""`skerry circle`: create, list, show, enter, leave, invite, forgive, dissolve."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.options import HomeOption, Output, OutputOption

if TYPE_CHECKING:
    from skerry.routing.verbs import CircleInfo

DISCOVER_TIMEOUT_S = 15.0
app = typer.Typer(help="Named groups of agents that offer their capabilities together.", no_args_is_help=True, rich_markup_mode=None)
CircleArgument = Annotated[str, typer.Argument(help="A circle, by name, id, or the start of its id.")]
AgentArgument = Annotated[str, typer.Argument(help="An agent, by name or id.")]
NodeOption = Annotated[str | None, typer.Option("--node", help="Ask this node, not the local one.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    about: Annotated[str, typer.Option("--about", help="What it is for.")] = "",
    is_open: Annotated[bool, typer.Option("--open/--invited", help="Let any agent of the formation enter, or invited ones alone.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Announce it to everybody, in the DHT too.")] = False,
    callable_by: Annotated[
        str, typer.Option("--callable-by", help="Who may give it tasks: formation, contacts, or anyone (which makes it public).")
    ] = "formation",
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Found a circle."""
    from skerry.cli.ask import ask
    from skerry.routing.verbs import CircleCreateRequest, CircleInfo

    info = ask(home, "circle.create", CircleCreateRequest(name, about, is_open, callable_by, public), CircleInfo)
    _say(info, output, f"{info.name} is founded; agents enter with: skerry circle enter '{info.name}' AGENT")


@app.command("list")
def list_circles(
    capability: Annotated[str, typer.Argument(help="Those that offer this; may end in *.", metavar="[CAPABILITY]")] = "",
    discover: Annotated[bool, typer.Option("--discover", help="Look for circles of other formations first.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Circles of the formation, and those of others that were discovered."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many
    from skerry.routing.verbs import CircleList, CircleQuery

    listed = ask(home, "circle.list", CircleQuery(capability, discover), CircleList, timeout_s=DISCOVER_TIMEOUT_S)
    found = listed.circles
    rows = [
        (
            c.name,
            c.id[:10],
            c.formation[:10] if c.foreign else "ours",
            f"{c.available_count}/{c.member_count}",
            _thought_of(c) or "-",
            c.callable_by,
            _offers(c),
        )
        for c in found
    ]
    columns = ("NAME", "ID", "FORMATION", "AVAILABLE", "REPUTATION", "CALLED BY", "OFFERS")
    print_many(found, output, columns=columns, rows=rows, name="circles")
    first = next((c for c in found if c.id == listed.first), None)
    if first is not None and len(found) > 1 and output is Output.TABLE:
        print(f"of these a task goes to {first.name} ({first.id[:10]}) first", file=sys.stderr)
    if listed.refused and output is Output.TABLE:
        why = ", ".join(f"{reason} {count}" for reason, count in listed.refused.items())
        print(f"not believed since this node started: {why}", file=sys.stderr)


@app.command()
def show(circle: CircleArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """One circle: its members, its epoch, who may call it, what is announced of it."""
    from skerry.cli.ask import ask
    from skerry.cli.output import clock_time, print_one
    from skerry.routing.verbs import CircleInfo, CircleName

    info = ask(home, "circle.show", CircleName(circle), CircleInfo)
    rows = (
        ("name", info.name),
        ("id", info.id),
        ("about", info.description),
        ("formation", info.formation),
        ("founder", info.founder),
        ("entered", "by whoever wants to" if info.open else "by invitation"),
        ("called by", info.callable_by + (", announced to everybody" if info.public else "")),
        ("epoch", str(info.epoch)),
        ("members", f"{info.member_count}, {info.available_count} available"),
        ("", "\n".join(f"{m.name} on {m.node or '?'}: {m.status}; {', '.join(m.capabilities)}" for m in info.members)),
        ("offers", "\n".join(info.capabilities)),
        ("reputation", _thought_of(info)),
        ("addresses", "\n".join(info.addresses)),
        ("announced", f"{clock_time(info.announced_at)}, until {clock_time(info.expires_at)}" if info.announced_at else "not by this node"),
    )
    print_one(info, output, rows=[row for row in rows if row[1]])


@app.command()
def enter(
    circle: CircleArgument, agent: AgentArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Let an agent of this node enter a circle."""
    info = _change("circle.enter", circle, agent, home, node)
    _say(info, output, f"{agent} is in {info.name}: epoch {info.epoch}, {info.member_count} members")


@app.command()
def leave(
    circle: CircleArgument, agent: AgentArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Take an agent of this node out of a circle."""
    info = _change("circle.leave", circle, agent, home, node)
    _say(info, output, f"{agent} has left {info.name}: epoch {info.epoch}, {info.member_count} members")


@app.command()
def invite(
    circle: CircleArgument, agent: AgentArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Invite an agent of the formation into a circle that this node founded."""
    info = _change("circle.invite", circle, agent, home, node)
    _say(info, output, f"{agent} may enter {info.name}: skerry circle enter '{info.name}' {agent}")


@app.command()
def forgive(circle: CircleArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Forget what this node saw of a circle's faults."""
    info = _one("circle.forgive", circle, home)
    _say(info, output, f"{info.name} is forgiven")


@app.command()
def dissolve(circle: CircleArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """End a circle that this node founded."""
    info = _one("circle.dissolve", circle, home)
    _say(info, output, f"{info.name} is no more")


def _one(verb: str, circle: str, home: HomeOption) -> CircleInfo:
    from skerry.cli.ask import ask
    from skerry.routing.verbs import CircleInfo, CircleName

    return ask(home, verb, CircleName(circle), CircleInfo)


def _change(verb: str, circle: str, agent: str, home: HomeOption, node: str | None) -> CircleInfo:
    from skerry.cli.ask import ask
    from skerry.routing.verbs import CircleInfo, CircleMember

    return ask(home, verb, CircleMember(circle, agent), CircleInfo, node=node)


def _thought_of(circle: CircleInfo) -> str:
    """What this node makes of one of others; nothing where it never asked it."""
    if circle.reputation is None:
        return ""
    return f"{circle.reputation:.2f}" + (", blacklisted" if circle.blacklisted else "")


def _offers(info: CircleInfo) -> str:
    return ", ".join(info.capabilities)


def _say(info: CircleInfo, output: Output, text: str) -> None:
    from skerry.cli.output import print_json

    print(text) if output is Output.TABLE else print_json(info)
