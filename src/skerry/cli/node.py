"""`skerry node`: invite, list, show, rename, away, back, forget, revoke."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, seconds
from skerry.errors import EXIT_REFUSED

COUNT_MAX = 10_000  # as many as may be out at once
app = typer.Typer(help="The nodes of the formation.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def invite(
    role: Annotated[str, typer.Option("--role", help="operator, member or client (calls without a node of its own).")] = "member",
    uses: Annotated[int, typer.Option("--uses", help="How many nodes may join with it.")] = 1,
    count: Annotated[int, typer.Option("--count", help="Make so many tickets, one for each device.", min=1, max=COUNT_MAX)] = 1,
    ttl: Annotated[str, typer.Option("--ttl", help="How long it may be used: 30m, 1h, 7d.")] = "1h",
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a ticket, with which another node joins, or a program calls without a node."""
    from skerry.cli.ask import with_mesh
    from skerry.cli.output import clock_time, print_json
    from skerry.client.mesh import Mesh
    from skerry.node.verbs import InviteReply, InviteRequest

    request = InviteRequest(role, uses, seconds(ttl))

    async def make(mesh: Mesh) -> list[InviteReply]:
        replies = []
        for _ in range(count):
            replies.append(await mesh.ask("node.invite", request, InviteReply))
            if output is Output.JSONL:
                print_json(replies[-1])
        return replies

    replies = with_mesh(home, make)
    if output is Output.JSON:
        print_json(replies[0] if count == 1 else {"tickets": replies})
    if output is not Output.TABLE:
        return
    for reply in replies:
        print(reply.ticket)
    one = replies[0]
    times = "once" if one.uses == 1 else f"{one.uses} times"
    use = "to call: SKERRY_TICKET=TICKET skerry call ..." if one.role == "client" else f"to join as {one.role}: skerry join TICKET"
    secret = "A secret. It" if count == 1 else "Secrets. Each"
    print(f"{secret} can be used {times}, until {clock_time(one.expires_at)}, {use}", file=sys.stderr)


@app.command("list")
def list_nodes(
    everybody: Annotated[bool, typer.Option("--all", help="Clients too, and nodes that left or were forgotten.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The nodes of the formation, and those that were revoked."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many
    from skerry.node.verbs import NodeList, NodeListRequest

    nodes = ask(home, "node.list", NodeListRequest(everybody), NodeList).nodes
    rows = [(n.name or "-", n.id[:10], n.role, n.state, n.presence or "-", str(n.agents), _link(n.link, n.path)) for n in nodes]
    print_many(nodes, output, columns=("NAME", "ID", "ROLE", "GRANT", "PRESENCE", "AGENTS", "LINK"), rows=rows, name="nodes")


@app.command()
def show(
    node: Annotated[str, typer.Argument(help="Name, id, or the start of an id.")],
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """One node: its grant, its addresses, what its machine has."""
    from skerry.cli.ask import ask
    from skerry.cli.output import clock_time, print_one
    from skerry.node.verbs import NodeInfo, NodeName

    info = ask(home, "node.show", NodeName(node), NodeInfo)
    rows = (
        ("name", info.name),
        ("id", info.id),
        ("role", f"{info.role} ({info.state})"),
        ("granted by", info.granted_by),
        ("until", clock_time(info.grant_expires_at)),
        ("presence", info.presence or "-"),
        ("link", f"{info.link}, {info.path}" if info.path else info.link),
        ("reach", info.reach or "-"),
        ("addresses", "\n".join(info.addresses)),
        ("version", info.version),
        ("runtimes", ", ".join(info.runtimes)),
        ("machine", ", ".join(f"{key} {value}" for key, value in info.inventory.items())),
        ("reason", info.reason),
    )
    print_one(info, output, rows=rows)


@app.command()
def rename(
    name: Annotated[str, typer.Argument(help="What people shall call this node.")],
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let the local node go by another name. Of two nodes with one name, the one that took it first keeps it."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.node.verbs import NodeInfo, RenameRequest

    info = ask(home, "node.rename", RenameRequest(name), NodeInfo)
    if output is not Output.TABLE:
        print_json(info)
    elif info.name == name:
        print(f"this node is {name} now")
    else:
        print(f"this node is {info.name} now: another one took the name {name} first")


@app.command()
def away(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Say that the local node goes for a while: a lid closes. It is back after `node back`, or when its machine has slept."""
    _go(home, output, back=False)


@app.command()
def back(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Say that the local node is here again after `node away`."""
    _go(home, output, back=True)


def _go(home: HomeOption, output: Output, *, back: bool) -> None:
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.discovery.verbs import AwayReply, AwayRequest

    reply = ask(home, "node.away", AwayRequest(back=back), AwayReply)
    said = "is here again" if back else "is away"
    print(f"this node {said}; {reply.told} nodes hear it now") if output is Output.TABLE else print_json(reply)


@app.command()
def forget(
    node: Annotated[str, typer.Argument(help="Name, id, or the start of an id.")],
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End the membership of a node that is gone. Nobody dials or lists it any more; with a new ticket it can come back."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.node.verbs import NodeInfo, NodeName

    info = ask(home, "node.forget", NodeName(node), NodeInfo)
    print(f"forgot {node}") if output is Output.TABLE else print_json(info)


@app.command()
def revoke(
    node: Annotated[str, typer.Argument(help="Name, id, or the start of an id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; every node will show it.")] = "",
    drop: Annotated[bool, typer.Option("--drop", help="Of an operator: don't issue its members' grants again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a node out of the formation, for ever. Its key can never come back; its machine can, with a new home."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.node.verbs import RevokeReply, RevokeRequest

    keep: list[str] | None = [] if drop else None
    if not yes and sys.stdin.isatty():
        plan = ask(home, "node.revoke", RevokeRequest(node, reason, dry_run=True, keep=keep), RevokeReply)
        print(f"This puts the {plan.role or 'node'} {plan.name or plan.id[:10]} out for ever.")
        if plan.voided:
            fate = "fall with it" if drop else "are issued again under this node's key"
            print(f"It granted {len(plan.voided)} nodes, whose grants {fate}: {', '.join(v[:10] for v in plan.voided)}")
        if not typer.confirm("Go on?"):
            sys.exit(EXIT_REFUSED)
    reply = ask(home, "node.revoke", RevokeRequest(node, reason, keep=keep), RevokeReply)
    if output is not Output.TABLE:
        print_json(reply)
    else:
        again = f"; {reply.reissued} grants issued again" if reply.voided else ""
        print(f"revoked {reply.name or reply.id[:10]}{again}")


def _link(link: str, path: str) -> str:
    """A link over a relay is told: it is slower, and hangs on a third."""
    return f"{link} {path}" if path.startswith("via ") else link
