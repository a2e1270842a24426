"""Runs the example: two nodes of two formations, a wire between their agents, and a conversation. Ends by itself.

With `--kill` the keeper's node is killed while it owes an answer, and started again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry.cli.demo_models import SMOLLM2, find_models

HERE = Path(__file__).parent
QUESTIONS = ["What is a lighthouse for?", "Who looks after it at night?"]
READY_S, TALK_S, POLL_S = 30.0, 120.0, 0.2
LOG_CHARACTERS = 2000
NEXT_ASKED = 3  # lines: a question, its answer, the next question


def skerry(home: Path, *args: str) -> Any:
    """A command as anybody types it, with JSON for its answer."""
    command = [sys.executable, "-m", "skerry", *args, "--home", str(home), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TALK_S, check=False)
    if done.returncode:
        raise SystemExit(f"skerry {' '.join(args)}: {done.stdout or done.stderr}")
    return json.loads(done.stdout)


class Node:
    """A node on this machine alone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.listen = self.http = "127.0.0.1:0"
        self.up()

    def up(self) -> None:
        """Returns once it is ready; the second time at the addresses of the first."""
        options = ["--home", str(self.home), "--name", self.home.name, "--listen", self.listen, "--http", self.http, "-o", "json"]
        log = self.home.with_suffix(".log").open("a")
        self.process = subprocess.Popen([sys.executable, "-m", "skerry", "up", *options], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        if not ready:
            raise SystemExit(self.home.with_suffix(".log").read_text())
        self.listen, self.http = json.loads(ready)["listen"], json.loads(ready)["http"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def talk(harbour: Path, light: Path, *, meanwhile: Callable[[], None]) -> None:
    """`meanwhile` is called when the first question was answered, and the second one asked."""
    model = find_models((SMOLLM2,))[SMOLLM2]
    skerry(light, "agent", "run", str(model), "--capability", "inference:smollm2", "--name", "smollm2")
    skerry(light, "agent", "run", f"{HERE / 'desks.py'}:Keeper")
    skerry(harbour, "agent", "run", f"{HERE / 'desks.py'}:Visitor")
    ticket = skerry(light, "contact", "invite", "harbour", "--allow", "wire:keeper")["ticket"]
    skerry(harbour, "contact", "accept", ticket, "--name", "light", "--allow", "wire:visitor")
    skerry(harbour, "wire", "add", "visitor", "light/keeper")
    wish = {"whom": "light/keeper", "questions": QUESTIONS}
    skerry(harbour, "call", "custom:visit", json.dumps(wish))
    shown, ends = 0, time.monotonic() + TALK_S
    while shown < 2 * len(QUESTIONS):
        if time.monotonic() > ends:
            logs = "\n".join(home.with_suffix(".log").read_text()[-LOG_CHARACTERS:] for home in (harbour, light))
            raise SystemExit(f"the conversation did not end within {TALK_S:g} s; the nodes said:\n{logs}")
        said = skerry(harbour, "call", "custom:talk")["payload"]
        for who, what in said[shown:]:
            print(f"{who}: {' '.join(what.split())}", flush=True)
        if shown < NEXT_ASKED <= len(said):
            meanwhile()
        shown = len(said)
        time.sleep(POLL_S)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="two-desks-") as folder:
        nodes: list[Node] = []

        def kill() -> None:
            print("(the node light is killed, and started again)", flush=True)
            nodes[1].kill()
            nodes[1].up()

        try:
            nodes.extend(Node(Path(folder) / name) for name in ("harbour", "light"))
            talk(*(node.home for node in nodes), meanwhile=kill if "--kill" in sys.argv[1:] else lambda: None)
        finally:
            for node in nodes:
                node.process.terminate()
            for node in nodes:
                node.process.wait(READY_S)


if __name__ == "__main__":
    main()
