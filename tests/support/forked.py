"""Real `skerry` processes that start at once: forked off one that has imported the command line already.

Half a second of imports for each of some five hundred processes would be most of the time that the tests take. What is forked has its own
arguments, environment, folder, standard files and signals, and nothing else of the tests.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PRELOADED = ["skerry.cli.main", "skerry.cli.ask", "skerry.cli.serve", "skerry.client.mesh", "skerry.node.node", "tests.support.forked"]


class Forked:
    """One process, used as a `subprocess.Popen` is."""

    def __init__(self, args: tuple[str, ...], *, stdin: Path | None, stdout: Path, stderr: Path, env: Mapping[str, str], cwd: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        files = [str(stdin or os.devnull), str(stdout), str(stderr)]
        self._process = context.Process(target=_become_skerry, args=(args, dict(env), str(cwd), files), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.args = ("skerry", *args)
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become_skerry(args: tuple[str, ...], environment: dict[str, str], folder: str, files: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, (file, flag) in enumerate(zip(files, flags, strict=True)):
        descriptor = os.open(file, flag, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115 - end with us
    sys.argv = ["skerry", *args]
    from skerry.cli.main import main

    main()
