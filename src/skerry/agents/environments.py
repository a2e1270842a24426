"""Environments of agents' own: what an agent requires is installed beside Skerry, not into it.

Requirements come from the file itself (PEP 723) or from a requirements file. Each set of them gets one virtual environment in the home,
named by the hash of what is asked for and of the Python that runs it, and shared by the agents that ask for the same. What is not in it is
found where this node finds it, so that every agent can `import skerry`.

The rule: an environment is used only when it is complete; one whose making was cut short is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from blake3 import blake3

from skerry.errors import StorageError, UsageError

INSTALL_TIMEOUT_S = 600.0
SAID_LINES = 3  # of pip's last words, in the error
_COMPLETE = ".complete"
_INLINE = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")  # as PEP 723 gives it


class Environments:
    """The environments of one home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, requirements: str) -> str:
        """The interpreter of an environment that has `requirements` (lines as pip reads them). Raises UsageError with pip's reason."""
        digest = _digest(requirements)
        folder = self._folder / digest
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if not (folder / _COMPLETE).exists():
                await self._make(folder, requirements)
        return str(folder / "bin" / "python")

    async def keep_only(self, used: list[str]) -> None:
        """Remove those that nobody asks for any more; `used` are requirements."""
        kept = {_digest(requirements) for requirements in used}
        for folder in self._folder.glob("*"):
            if folder.name not in kept and not self._locks.get(folder.name, asyncio.Lock()).locked():
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _make(self, folder: Path, requirements: str) -> None:
        try:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            await _run([sys.executable, "-m", "venv", str(folder)], "an environment for the agent can't be made")
            wanted = folder / "requirements.txt"
            wanted.write_text(requirements)
            install = [
                str(folder / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-input",
                "-r",
                str(wanted),
            ]
            await _run(install, "what the agent requires can't be installed")
            site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
            (site / "zz-skerry.pth").write_text("".join(f"{path}\n" for path in _our_paths()))
            (folder / _COMPLETE).touch()
        except OSError as error:
            raise StorageError(
                f"{folder} can't be written: {error.strerror}", hint="free some space, or check the home's rights"
            ) from error


def inline_requirements(source: Path) -> str:
    """The requirements that a Python file states in itself (PEP 723), as lines; "" for none. Raises UsageError where they can't hold."""
    try:
        found = _INLINE.findall(source.read_text())
        match = _INLINE.search(source.read_text()) if len(found) == 1 else None
        if match is None:
            return ""
        content = "".join(line[2:] if line.startswith("# ") else line[1:] for line in match["content"].splitlines(keepends=True))
        block = tomllib.loads(content)
    except (ValueError, RecursionError) as error:  # also what is no text, and a number with too many digits
        raise UsageError(f"{source.name}: its script block is no TOML: {error}", hint="write it as PEP 723 says") from None
    wanted = block.get("requires-python")
    if isinstance(wanted, str) and not _python_fits(wanted):
        raise UsageError(
            f"{source.name} requires Python {wanted}, and this node runs on {platform.python_version()}",
            hint="run it on a node with such a Python",
        )
    lines = block.get("dependencies", [])
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UsageError(f"{source.name}: the dependencies of its script block are no list of texts", hint='write dependencies = ["name"]')
    return "".join(f"{line}\n" for line in lines)


def _python_fits(wanted: str) -> bool:
    """Whether this Python fits a specifier such as `>=3.11,<4`. What is not understood is left to pip."""
    ours = sys.version_info[:2]
    for clause in wanted.split(","):
        found = re.fullmatch(r"\s*(>=|<=|>|<|==)\s*(\d{1,9})(?:\.(\d{1,9}))?(?:\.\d+|\.\*)*\s*", clause)
        if found is None:
            continue
        theirs = (int(found[2]), int(found[3] or 0))
        fits = {">=": ours >= theirs, "<=": ours <= theirs, ">": ours > theirs, "<": ours < theirs, "==": ours == theirs}
        if not fits[found[1]]:
            return False
    return True


def _digest(requirements: str) -> str:
    named = f"{platform.python_version()} {sys.executable}\n{requirements}"
    return blake3(named.encode()).hexdigest()[:32]


def _our_paths() -> list[str]:
    """Where this process finds modules beyond the standard library."""
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return [path for path in sys.path if path and Path(path).is_dir() and path not in standard and not path.endswith("lib-dynload")]


async def _run(command: list[str], what: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        async with asyncio.timeout(INSTALL_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise UsageError(f"{what}: it took longer than {INSTALL_TIMEOUT_S:.0f} s", hint="try again, or ask for less") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        said = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
        telling = [line for line in said if line.startswith("ERROR")] or said
        raise UsageError(f"{what}: {' '.join(telling[-SAID_LINES:])[:500]}", hint="check the names and versions of its requirements")
