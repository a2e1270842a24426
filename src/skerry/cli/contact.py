"""`skerry contact`: invite, accept, add, list, show, check, remove."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, seconds, ticket_text

if TYPE_CHECKING:
    from skerry.node.verbs import ContactInfo

ACCEPT_TIMEOUT_S = 60.0  # for all addresses of the inviter
CHECK_TIMEOUT_S = 60.0  # for all addresses of an entry
app = typer.Typer(
    help="Other formations (or single nodes) that ours knows, and what each may do here.", no_args_is_help=True, rich_markup_mode=None
)
_RIGHTS = "federate, call:PATTERN, wire:AGENT, inject:AGENT; rate:N a second, concurrency:N at once. May be repeated."
_KEPT = "`none` leaves it no right."
AllowOption = Annotated[list[str] | None, typer.Option("--allow", help=f"What it may do here: {_RIGHTS}", metavar="RIGHT")]
NameArgument = Annotated[str, typer.Argument(help="A contact, by name, id, or the start of its id.")]


@app.command()
def invite(
    name: Annotated[str, typer.Argument(help="What this formation calls the other one.")],
    allow: AllowOption = None,
    ttl: Annotated[str, typer.Option("--ttl", help="How long the ticket may be used: 30m, 1h, 7d.")] = "1h",
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a contact ticket for one other formation. The ticket is a secret until it is used."""
    from skerry.cli.ask import ask
    from skerry.cli.output import clock_time, print_json
    from skerry.node.verbs import ContactInviteReply, ContactInviteRequest

    reply = ask(home, "contact.invite", ContactInviteRequest(name, allow or [], seconds(ttl)), ContactInviteReply)
    if output is not Output.TABLE:
        print_json(reply)
        return
    print(reply.ticket)
    until = f"A secret. It can be used once, until {clock_time(reply.expires_at)}, by an operator of the other formation:"
    print(f"{until} skerry contact accept TICKET --name NAME", file=sys.stderr)
    if not reply.allow:
        print(f"{name} may do nothing here until it is allowed: skerry contact add {name} --allow federate", file=sys.stderr)


@app.command()
def accept(
    ticket: Annotated[str, typer.Argument(help="The ticket, - for standard input, or @FILE.")],
    name: Annotated[str, typer.Option("--name", help="What this formation calls the other one.")],
    allow: AllowOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Accept another formation's ticket: each is then the other's contact. Without --allow it may here what we may there."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.node.verbs import ContactAcceptRequest, ContactInfo

    request = ContactAcceptRequest(ticket_text(ticket), name, allow)
    info = ask(home, "contact.accept", request, ContactInfo, timeout_s=ACCEPT_TIMEOUT_S)
    if output is not Output.TABLE:
        print_json(info)
    else:
        print(f"{info.name} is a contact now, and may here: {', '.join(info.allow) or 'nothing'}")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What this formation calls it.")],
    addresses: Annotated[list[str] | None, typer.Argument(help="tcp://HOST:PORT, uds:///PATH, https://HOST", metavar="ADDRESS...")] = None,
    formation: Annotated[str, typer.Option("--formation", help="Its formation's id: all of its nodes.")] = "",
    node: Annotated[str, typer.Option("--node", help="Or one node's id: that one alone.")] = "",
    allow: Annotated[list[str] | None, typer.Option("--allow", help=f"What it may do here: {_RIGHTS} {_KEPT}", metavar="RIGHT")] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a contact by hand, or change one: what is not given stays as it is. The other formation has to add us too."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.node.verbs import ContactAddRequest, ContactInfo

    info = ask(home, "contact.add", ContactAddRequest(name, addresses or None, formation, node, allow), ContactInfo)
    print(f"{info.name} is a contact, and may here: {', '.join(info.allow) or 'nothing'}") if output is Output.TABLE else print_json(info)


@app.command("list")
def list_contacts(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """The contacts of the formation."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many
    from skerry.node.verbs import ContactList, Nothing

    reply = ask(home, "contact.list", Nothing(), ContactList)
    rows = [(c.name, c.kind, c.id[:10] or "-", ", ".join(c.allow) or "nothing", str(c.agents), c.link) for c in reply.contacts]
    print_many(reply.contacts, output, columns=("NAME", "KIND", "ID", "MAY HERE", "AGENTS", "LINK"), rows=rows, name="contacts")
    if reply.problem:
        print(f"contacts.toml is not taken as it is: {reply.problem}", file=sys.stderr)


@app.command()
def show(name: NameArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """One contact: its id and addresses, what it may do here, how the link to it stands."""
    from skerry.cli.output import print_one

    info = _named(home, "contact.show", name)
    rows = (
        ("name", info.name),
        (info.kind, info.id),
        ("addresses", "\n".join(info.addresses)),
        ("may here", "\n".join(info.allow) or "nothing"),
        ("link", info.link),
        ("agents", str(info.agents)),
    )
    print_one(info, output, rows=rows)


@app.command()
def check(name: NameArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Look whether an entry is right: dial its addresses, see who answers, and end with what to do."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_checks
    from skerry.node.verbs import ContactName, DoctorReply

    print_checks(ask(home, "contact.check", ContactName(name), DoctorReply, timeout_s=CHECK_TIMEOUT_S), output)


@app.command()
def remove(name: NameArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Let it be a contact no more: its rights are gone at once, and so is what it shared with us."""
    from skerry.cli.output import print_json

    info = _named(home, "contact.remove", name)
    print(f"{info.name} is no contact any more") if output is Output.TABLE else print_json(info)


def _named(home: HomeOption, verb: str, name: str) -> ContactInfo:
    from skerry.cli.ask import ask
    from skerry.node.verbs import ContactInfo, ContactName

    return ask(home, verb, ContactName(name), ContactInfo)
