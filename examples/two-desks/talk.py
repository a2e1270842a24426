"""Runs the example: two nodes of two formations, a wire between their agents, and a conversation. Ends by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from skerry.cli.demo_models import SMOLLM2, find_models

HERE = Path(__file__).parent
QUESTIONS = ["What is a lighthouse for?", "Who looks after it at night?"]
READY_S, TALK_S, POLL_S = 30.0, 120.0, 0.2


def skerry(home: Path, *args: str) -> Any:
    """A command as anybody types it, with JSON for its answer."""
    command = [sys.executable, "-m", "skerry", *args, "--home", str(home), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TALK_S, check=False)
    if done.returncode:
        raise SystemExit(f"skerry {' '.join(args)}: {done.stdout or done.stderr}")
    return json.loads(done.stdout)


def up(home: Path) -> subprocess.Popen[str]:
    """A node on this machine alone. Returns once it is ready."""
    options = ["--home", str(home), "--name", home.name, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json"]
    log = home.with_suffix(".log").open("w")
    node = subprocess.Popen([sys.executable, "-m", "skerry", "up", *options], stdout=subprocess.PIPE, stderr=log, text=True)
    assert node.stdout is not None
    if not node.stdout.readline():
        raise SystemExit(home.with_suffix(".log").read_text())
    return node


def talk(harbour: Path, light: Path) -> None:
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
            raise SystemExit(f"the conversation did not end within {TALK_S:g} s; the logs lie in {harbour.parent}")
        said = skerry(harbour, "call", "custom:talk")["payload"]
        for who, what in said[shown:]:
            print(f"{who}: {' '.join(what.split())}", flush=True)
        shown = len(said)
        time.sleep(POLL_S)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="two-desks-") as folder:
        homes = Path(folder) / "harbour", Path(folder) / "light"
        nodes: list[subprocess.Popen[str]] = []
        try:
            for home in homes:
                node = up(home)
                nodes.append(node)
            talk(*homes)
        finally:
            for node in nodes:
                node.terminate()
            for node in nodes:
                node.wait(READY_S)


if __name__ == "__main__":
    main()
