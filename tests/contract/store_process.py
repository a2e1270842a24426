"""A SqliteStore in a process of its own, so that a test can kill it with SIGKILL and look at what is left.

The child reads pickled `(method, args, kwargs)` from stdin and writes pickled `(ok, result or error)` to stdout.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from skerry.errors import StorageError
from skerry.records.store import SqliteStore

READY = "ready"


class StoreProcess:
    """Drives the store of a child process: any method of `Store`, and `kill`."""

    def __init__(self, path: Path, *, max_pages: int | None = None) -> None:
        program = (
            f"import sys; sys.path[:] = {sys.path!r}\nfrom tests.contract.store_process import serve\nserve({str(path)!r}, {max_pages})"
        )
        self._child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._to: IO[bytes] = self._child.stdin
        self._from: IO[bytes] = self._child.stdout
        assert self._answer() == READY

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self._call(name, args, kwargs)

    @property
    def incarnation(self) -> str:
        found: str = self._call("incarnation", (), {})
        return found

    @property
    def losses(self) -> int:
        found: int = self._call("losses", (), {})
        return found

    def kill(self) -> None:
        self._child.kill()
        self._end()

    def stop(self) -> None:
        if self._child.poll() is None:
            self._call("close", (), {})
            self._end()

    def _end(self) -> None:
        self._to.close()
        self._from.close()
        self._child.wait()

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        pickle.dump((name, args, kwargs), self._to)
        self._to.flush()
        return self._answer()

    def _answer(self) -> Any:
        is_good, result = pickle.load(self._from)
        if not is_good:
            raise result
        return result


def serve(path: str, max_pages: int | None) -> None:
    answers = sys.stdout.buffer
    store = SqliteStore(Path(path), max_pages=max_pages)
    answer: tuple[bool, Any] = (True, READY)
    while True:
        pickle.dump(answer, answers)
        answers.flush()
        try:
            name, args, kwargs = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            member = getattr(store, name)
            answer = (True, member(*args, **kwargs) if callable(member) else member)
        except StorageError as error:
            answer = (False, error)
