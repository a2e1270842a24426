"""The daily few about the node itself: up, join, leave, down, status, doctor, logs, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.leave import leave
from skerry.cli.logs import logs
from skerry.cli.options import HomeOption, Output, OutputOption, TicketOption, home_of
from skerry.errors import UsageError

NameOption = Annotated[str | None, typer.Option("--name", help="What people call this node.", show_default="the machine's name")]
ListenOption = Annotated[
    list[str] | None,
    typer.Option("--listen", help="HOST:PORT for other nodes, or uds:///PATH. May be repeated.", show_default="0.0.0.0:7420"),
]
HttpOption = Annotated[str | None, typer.Option("--http", help="HOST:PORT of the HTTP door, on loopback.", show_default="127.0.0.1:7421")]
HttpOpenOption = Annotated[
    bool | None, typer.Option("--http-open/--http-token", help="Let every user of this machine use the HTTP door.", show_default=False)
]
PublicOption = Annotated[
    str | None, typer.Option("--public", help="HOST:PORT, or https://HOST:PORT, for other formations and strangers.", show_default="none")
]
BootstrapOption = Annotated[
    list[str] | None, typer.Option("--bootstrap", help="HOST:PORT of a node of the DHT, to find other formations by. May be repeated.")
]
DhtOption = Annotated[str | None, typer.Option("--dht", help="HOST:PORT (UDP) of the DHT here, or off.", show_default="0.0.0.0:7422")]
LogLevelOption = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.", show_default="info")]
LogFormatOption = Annotated[str | None, typer.Option("--log-format", help="Of stderr: human, json or auto.", show_default="auto")]
Flags = dict[str, object]
LeaveOption = Annotated[bool, typer.Option("--leave", help="Leave the formation that this home belongs to, for good.")]


def add_to(app: typer.Typer) -> None:
    for command in (up, join, leave, down, status, doctor, logs, demo):
        app.command()(command)


def up(
    home: HomeOption = None,
    name: NameOption = None,
    listen: ListenOption = None,
    http: HttpOption = None,
    public: PublicOption = None,
    bootstrap: BootstrapOption = None,
    dht: DhtOption = None,
    join: Annotated[str | None, typer.Option("--join", help="Join with this ticket first.", metavar="TICKET")] = None,
    leave_first: LeaveOption = False,
    http_open: HttpOpenOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run a node in the foreground. A new home founds a formation of its own. What no flag says, `config.toml` in the home may."""
    from skerry.cli.serve import Start, run

    run(
        Start(
            home_of(home),
            _flags(name, listen, http, public, http_open, log_level, log_format) | _discovery(bootstrap, dht),
            join,
            leave_first,
            output,
        )
    )


def join(
    ticket: Annotated[str, typer.Argument(help="The ticket; - for standard input, @FILE for a 0600 file that holds it.")],
    home: HomeOption = None,
    name: NameOption = None,
    listen: ListenOption = None,
    http: HttpOption = None,
    public: PublicOption = None,
    bootstrap: BootstrapOption = None,
    dht: DhtOption = None,
    leave_first: LeaveOption = False,
    http_open: HttpOpenOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Join a formation with a ticket, then run like `up`."""
    from skerry.cli.serve import Start, run

    run(
        Start(
            home_of(home),
            _flags(name, listen, http, public, http_open, log_level, log_format) | _discovery(bootstrap, dht),
            ticket,
            leave_first,
            output,
        )
    )


def _flags(
    name: str | None,
    listen: list[str] | None,
    http: str | None,
    public: str | None,
    http_open: bool | None,
    level: str | None,
    form: str | None,
) -> Flags:
    """Settings by their names, as `node/config.py` takes them."""
    return {
        "name": name,
        "listen": ",".join(listen) if listen else None,
        "http": http,
        "public": public,
        "http_open": http_open,
        "log.level": level,
        "log.format": form,
    }


def _discovery(bootstrap: list[str] | None, dht: str | None) -> Flags:
    return {"bootstrap": bootstrap or None, "dht": dht}


def down(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """End the local node in order."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json
    from skerry.node.verbs import Nothing

    ask(home, "node.down", Nothing(), Nothing)
    print("the node ends") if output is Output.TABLE else print_json({"event": "down"})


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it again every second, until q or Ctrl-C.")] = False,
    home: HomeOption = None,
    ticket: TicketOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What the local node says about itself, and what it sees; with a ticket, the node that a client reaches."""
    if watch and ticket:
        raise UsageError("a client can't watch", hint="leave --watch out, or ask a node of this machine")
    if watch:
        from skerry.cli import watch as view

        view.watch(home_of(home)) if output is Output.TABLE else view.lines(home_of(home))
        return
    from skerry.cli.ask import ask
    from skerry.cli.output import age, harmless, print_json
    from skerry.node.verbs import Nothing, StatusReply

    reply = ask(home, "node.status", Nothing(), StatusReply, ticket=ticket)
    if output is not Output.TABLE:
        print_json(reply)
        return
    print(
        f"{reply.name} ({reply.id[:10]}), {reply.role or 'no member'} of formation {reply.formation[:10]}, up for {age(reply.started_at)}"
    )
    print(f"mesh {reply.listen}   http http://{reply.http}/v1   agents {reply.agents_local} here, {reply.agents_known} in all")
    if reply.routing is not None:
        stats = reply.routing
        print(
            f"routing by {stats.strategy}: {stats.available_members} of {stats.total_members} agents available, "
            f"{sum(stats.choices.values())} choices, {stats.failovers} failovers, {stats.blacklisted} blacklisted"
        )
    print(f"capabilities: {', '.join(reply.capabilities) or 'none yet'}")
    seen = reply.circles
    if seen.local_circle_count or seen.discovered_circle_count:
        ours = f"{seen.local_circle_count} ours, with {seen.local_available_count} of {seen.local_member_count} members available"
        print(f"circles: {ours}; {seen.discovered_circle_count} discovered, with {seen.discovered_capacity} available")
    for info in reply.nodes:
        if info.link != "self":
            print(f"  {info.name or info.id[:10]:<16} {info.role:<9} {info.state:<8} {info.presence or '-':<8} {harmless(info.link)}")
    for warning in reply.warnings:
        print(f"warning: {harmless(warning)}")


def doctor(
    peer: Annotated[str, typer.Argument(help="A node by name or id, or an address; left out: this node.")] = "",
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what is wrong here, or on the way to a peer, and what to do."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_checks
    from skerry.node.verbs import DoctorReply, DoctorRequest

    print_checks(ask(home, "node.doctor", DoctorRequest(peer), DoctorReply), output)


def demo(
    exit_after: Annotated[bool, typer.Option("--exit", help="End when it has been shown.")] = False,
    listen: Annotated[str | None, typer.Option("--listen", help="Address of this machine for alpha, so that another one can join.")] = None,
    keep: Annotated[Path | None, typer.Option("--homes", help="Folder for the three homes.", show_default="a temporary one")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Three nodes, two real models, one agent: everything at work, in under a minute."""
    from skerry.cli.demo import run

    sys.exit(run(exit_after=exit_after, listen=listen, homes=keep, output=output))
