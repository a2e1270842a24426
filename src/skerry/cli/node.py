"""`skerry node`: invite, list, show, revoke."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, seconds
from skerry.errors import EXIT_REFUSED

app = typer.Typer(help="The nodes of the formation.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def invite(
    role: Annotated[str, typer.Option("--role", help="operator or member.")] = "member",
    uses: Annotated[int, typer.Option("--uses", help="How many nodes may join with it.")] = 1,
    ttl: Annotated[str, typer.Option("--ttl", help="How long it may be used: 30m, 1h, 7d.")] = "1h",
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a ticket, with which another node joins."""
    from skerry.cli.ask import ask
    from skerry.cli.output import clock_time, print_json
    from skerry.node.verbs import InviteReply, InviteRequest

    reply = ask(home, "node.invite", InviteRequest(role, uses, seconds(ttl)), InviteReply)
    if output is not Output.TABLE:
        print_json(reply)
        return
    print(reply.ticket)
    times = "once" if reply.uses == 1 else f"{reply.uses} times"
    print(
        f"A secret. It can be used {times}, until {clock_time(reply.expires_at)}, to join as {reply.role}: skerry join TICKET",
        file=sys.stderr,
    )


@app.command("list")
def list_nodes(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Every node that belongs to the formation, or did."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many
    from skerry.node.verbs import NodeList, Nothing

    nodes = ask(home, "node.list", Nothing(), NodeList).nodes
    rows = [(n.name or "-", n.id[:10], n.role, n.state, str(n.agents), n.link) for n in nodes]
    print_many(nodes, output, columns=("NAME", "ID", "ROLE", "GRANT", "AGENTS", "LINK"), rows=rows, name="nodes")


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
        ("link", info.link),
        ("addresses", "\n".join(info.addresses)),
        ("version", info.version),
        ("runtimes", ", ".join(info.runtimes)),
        ("machine", ", ".join(f"{key} {value}" for key, value in info.inventory.items())),
        ("reason", info.reason),
    )
    print_one(info, output, rows=rows)


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
