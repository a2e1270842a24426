"""`skerry agent`: run, list, show, stop, start, remove, logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.options import HomeOption, Output, OutputOption
from skerry.errors import UsageError

if TYPE_CHECKING:
    from skerry.agents.verbs import AgentInfo

app = typer.Typer(
    help="The agents of the formation; those of this node can be started and stopped.", no_args_is_help=True, rich_markup_mode=None
)
RUN_TIMEOUT_S = 150.0  # the node gives up after 120 s
NameArgument = Annotated[str, typer.Argument(help="An agent of the local node, by name or id.")]


@app.command()
def run(
    target: Annotated[str, typer.Argument(help="FILE.py:Class, MODEL.onnx, MODEL.gguf, or openai+http://HOST:PORT/v1")],
    capability: Annotated[list[str] | None, typer.Option("--capability", help="What it offers; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Its name.", show_default="class or file stem, in lower case")] = None,
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", help="tokenizer.json, so that an embedding model takes text.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Of an OpenAI-compatible server: only this model.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="Of a server that wants a key: a 0600 file that holds it.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Of a Python agent: store this folder with it, for the modules it imports.")
    ] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Host an agent on the local node: copy its code or model, start it, wait until it is healthy. It comes back with the node."""
    from skerry.agents.verbs import AgentInfo, AgentRunRequest
    from skerry.cli.ask import ask

    options: dict[str, Any] = {}
    for key, file in (("tokenizer", tokenizer), ("api_key_file", api_key_file)):
        if file is not None:
            if not file.is_file():
                raise UsageError(f"{file} does not exist", hint=f"give the file with --{key.replace('_', '-')}")
            options[key] = str(file.absolute())
    if model:
        options["model"] = model
    request = AgentRunRequest(_absolute(target), name or "", capability or [], options, str(folder.absolute()) if folder else "")
    info = ask(home, "agent.run", request, AgentInfo, timeout_s=RUN_TIMEOUT_S)
    _print_agent(info, output, f"{info.name} runs on {info.node_name} and offers {', '.join(info.capabilities) or 'nothing yet'}")


@app.command("list")
def list_agents(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Every agent of the formation, with its node."""
    from skerry.agents.verbs import AgentList
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many
    from skerry.node.verbs import Nothing

    agents = ask(home, "agent.list", Nothing(), AgentList).agents
    rows = [
        (a.name, a.node_name, a.runtime, a.status if a.reachable else f"{a.status}?", ", ".join(a.capabilities), a.detail) for a in agents
    ]
    print_many(agents, output, columns=("NAME", "NODE", "RUNTIME", "STATUS", "CAPABILITIES", ""), rows=rows, name="agents")
    if output is Output.TABLE and any(not a.reachable for a in agents):
        typer.echo("?: its node can't be reached now, this is what it last said", err=True)


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
        ("node", f"{info.node_name} ({info.node[:10]})"),
        ("runtime", info.runtime),
        ("status", info.status + (f": {info.detail}" if info.detail else "")),
        ("restarts", str(info.restarts) if info.restarts else ""),
        ("since", clock_time(info.created_at)),
        ("offers", "\n".join(f"{o.capability}  {o.description}".rstrip() for o in info.offers)),
    )
    print_one(info, output, rows=rows)


@app.command()
def stop(name: NameArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Withdraw an agent and end its process; it is kept, and `start` brings it back."""
    _print_agent(_named(home, "agent.stop", name), output, f"{name} is stopped")


@app.command()
def start(name: NameArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Bring a stopped agent back."""
    _print_agent(_named(home, "agent.start", name), output, f"{name} runs")


@app.command()
def remove(name: NameArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """End an agent and forget it: its key, its copy of code or model."""
    _print_agent(_named(home, "agent.remove", name), output, f"{name} is removed")


@app.command()
def logs(
    name: NameArgument,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many of the last lines.", min=1)] = 200,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What an agent wrote: its log, its prints, its tracebacks."""
    from skerry.agents.verbs import LogsReply, LogsRequest
    from skerry.cli.ask import ask
    from skerry.cli.output import print_json

    text = ask(home, "agent.logs", LogsRequest(name, lines), LogsReply).text
    if output is Output.TABLE:
        print(text)
    elif output is Output.JSON:
        print_json({"text": text})
    else:
        for line in text.splitlines():
            print_json({"line": line})


def _named(home: Path | None, verb: str, name: str) -> AgentInfo:
    from skerry.agents.verbs import AgentInfo, AgentName
    from skerry.cli.ask import ask

    return ask(home, verb, AgentName(name), AgentInfo, timeout_s=RUN_TIMEOUT_S)


def _print_agent(info: AgentInfo, output: Output, text: str) -> None:
    from skerry.cli.output import print_json

    print(text) if output is Output.TABLE else print_json(info)


def _absolute(target: str) -> str:
    """The node has another working folder: paths go to it whole."""
    if "://" in target:
        return target
    file, colon, entry = target.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{Path(file).expanduser().absolute()}:{entry}"
    return str(Path(target).expanduser().absolute())
