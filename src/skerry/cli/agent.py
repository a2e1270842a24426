"""`skerry agent`: list, show, stop, start, restart, pause, resume, remove, logs; `run` is in `agent_run.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.agent_run import RUN_TIMEOUT_S, print_agent, run
from skerry.cli.options import HomeOption, NodeOption, Output, OutputOption
from skerry.identity.keys import SHORT_CHARACTERS

if TYPE_CHECKING:
    from skerry.agents.verbs import AgentInfo
    from skerry.client.mesh import Mesh

app = typer.Typer(
    help="The agents of the formation; those of this node can be started and stopped.", no_args_is_help=True, rich_markup_mode=None
)
NameArgument = Annotated[str, typer.Argument(help="An agent of the local node (or of --node), by name or id.")]
FOLLOW_S = 0.3  # how often `logs -f` looks
app.command()(run)


@app.command("list")
def list_agents(
    capability: Annotated[str, typer.Option("--capability", help="That offer this; may end in `*`.")] = "",
    skill: Annotated[str, typer.Option("--skill", help="That have this skill.")] = "",
    tag: Annotated[str, typer.Option("--tag", help="That have this tag.")] = "",
    search: Annotated[str, typer.Option("--search", help="That say all these words of themselves.", metavar="WORDS")] = "",
    public: Annotated[bool, typer.Option("--public", help="Also what strangers say to everybody, as far as seeds brought it.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The agents of the formation and those that contacts share with it, with their nodes: all, or those that are looked for."""
    from skerry.agents.verbs import AgentList, AgentQuery
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many

    agents = ask(home, "agent.list", AgentQuery(capability, skill, tag, search, public), AgentList).agents
    rows = [
        (a.name, _where(a), a.runtime, a.status if a.reachable else f"{a.status}?", ", ".join(a.capabilities), a.detail or _letters(a))
        for a in agents
    ]
    print_many(agents, output, columns=("NAME", "NODE", "RUNTIME", "STATUS", "CAPABILITIES", ""), rows=rows, name="agents")
    if output is Output.TABLE and any(not a.reachable for a in agents):
        typer.echo("?: its node can't be reached now, this is what it last said", err=True)


def _where(agent: AgentInfo) -> str:
    whose = agent.contact or agent.formation[:SHORT_CHARACTERS]
    return f"{whose}/{agent.node_name}" if whose else agent.node_name


def _letters(agent: AgentInfo) -> str:
    """Those that were not handled (yet)."""
    waiting = f"{agent.letters_waiting} waiting" if agent.letters_waiting else ""
    aside = f"{agent.letters_aside} put aside" if agent.letters_aside else ""
    return f"letters: {', '.join(filter(None, (waiting, aside)))} (skerry letter list)" if waiting or aside else ""


@app.command()
def share(
    name: NameArgument,
    whom: Annotated[list[str], typer.Argument(help="Contacts; or public; or none.", metavar="CONTACT...")],
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give an agent to these contacts, or to all (`public`), and to nobody else from now on (`none`: to nobody outside)."""
    from skerry.agents.verbs import AgentInfo, ShareRequest
    from skerry.cli.ask import ask

    info = ask(home, "agent.share", ShareRequest(name, whom), AgentInfo, node=node)
    print_agent(info, output, f"{name} is shared with {', '.join(info.share) or 'nobody outside the formation'}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="[NODE/]NAME, or an id.")], home: HomeOption = None, output: OutputOption = Output.TABLE
) -> None:
    """One agent: where it is, how it stands, what it offers."""
    from skerry.agents.verbs import AgentInfo, AgentName
    from skerry.cli.ask import ask
    from skerry.cli.output import clock_time, print_one

    info = ask(home, "agent.show", AgentName(name), AgentInfo)
    rows = (
        ("name", info.name),
        ("id", info.id),
        ("node", f"{_where(info)} ({info.node[:10]})"),
        ("shared with", ", ".join(info.share)),
        ("version", info.version),
        ("about", info.description),
        ("runtime", info.runtime),
        ("status", info.status + (f": {info.detail}" if info.detail else "")),
        ("process", f"{info.pid}{', in a sandbox' if info.sandbox else ''}" if info.pid else ""),
        ("restarts", str(info.restarts) if info.restarts else ""),
        ("letters", _letters(info).removeprefix("letters: ") or ("takes them" if info.hears else "")),
        ("since", clock_time(info.created_at)),
        ("skills", ", ".join(info.skills)),
        ("tags", ", ".join(info.tags)),
        ("endpoint", info.endpoint),
        ("offers", "\n".join(f"{o.capability}  {o.description}".rstrip() for o in info.offers)),
    )
    print_one(info, output, rows=rows)


@app.command()
def stop(name: NameArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Withdraw an agent and end its process; it is kept, and `start` brings it back."""
    print_agent(_named(home, "agent.stop", name, node), output, f"{name} is stopped")


@app.command()
def start(name: NameArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Bring a stopped agent back."""
    print_agent(_named(home, "agent.start", name, node), output, f"{name} runs")


@app.command()
def restart(name: NameArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """End an agent's process and start another, with the state that was kept."""
    print_agent(_named(home, "agent.restart", name, node), output, f"{name} runs again")


@app.command()
def pause(name: NameArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Give an agent no new tasks; it stays up, and what it does goes on."""
    print_agent(_named(home, "agent.pause", name, node), output, f"{name} is paused")


@app.command()
def resume(name: NameArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Give a paused agent tasks again."""
    print_agent(_named(home, "agent.resume", name, node), output, f"{name} takes tasks again")


@app.command()
def remove(name: NameArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """End an agent and forget it: its key, its state, its copy of code or model."""
    print_agent(_named(home, "agent.remove", name, node), output, f"{name} is removed")


@app.command()
def logs(
    name: NameArgument,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many of the last lines.", min=1)] = 200,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what it writes, until Ctrl-C.")] = False,
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What an agent wrote: its log, its prints, its tracebacks."""
    from skerry.cli.ask import with_mesh

    with_mesh(home, lambda mesh: _logs(mesh, name, lines, follow, node, output))


async def _logs(mesh: Mesh, name: str, lines: int, follow: bool, node: str | None, output: Output) -> None:
    import asyncio

    from skerry.agents.verbs import LogsReply, LogsRequest
    from skerry.cli.ask import ask_mesh

    reply = await ask_mesh(mesh, "agent.logs", LogsRequest(name, lines), LogsReply, node=node)
    _print_log(reply.text, output)
    while follow:
        await asyncio.sleep(FOLLOW_S)
        reply = await ask_mesh(mesh, "agent.logs", LogsRequest(name, lines, reply.cursor or "0.0"), LogsReply, node=node)
        if reply.text:
            _print_log(reply.text, output)


def _print_log(text: str, output: Output) -> None:
    from skerry.cli.output import print_json

    if output is Output.TABLE:
        print(text, flush=True)
    elif output is Output.JSON:
        print_json({"text": text})
    else:
        for line in text.splitlines():
            print_json({"line": line})


def _named(home: Path | None, verb: str, name: str, node: str | None) -> AgentInfo:
    from skerry.agents.verbs import AgentInfo, AgentName
    from skerry.cli.ask import ask

    return ask(home, verb, AgentName(name), AgentInfo, node=node, timeout_s=RUN_TIMEOUT_S)
