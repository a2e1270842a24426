"""Inputs that look for lines which no other has reached: atheris, where it is installed, changes inputs as `inputs.py` does and keeps those
that lead somewhere new.

Each decoder has a process of its own: libFuzzer ends the process it runs in. `python -m tests.fuzz.coverage NAME INPUTS SEED` is one.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.campaign import Finding, judge
from tests.fuzz.inputs import Inputs

LONGEST_S = 600  # for one decoder, whatever it does
FOUND = 77  # the exit status of libFuzzer where an input was found
ROOT = Path(__file__).resolve().parents[2]


def look(counts: dict[str, int], seed: int, *, processes: int) -> list[Finding]:
    """So many inputs for each decoder; what was found."""
    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(lambda one: _look(one[0], one[1], seed), counts.items()))
    print(f"atheris: {sum(counts.values())} inputs more, {sum(found is not None for found in done)} findings")
    return [found for found in done if found is not None]


def _look(name: str, count: int, seed: int) -> Finding | None:
    with tempfile.TemporaryDirectory(prefix="skerry-atheris-") as folder:
        command = [sys.executable, "-m", "tests.fuzz.coverage", name, str(count), str(seed), folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False, cwd=ROOT)
        if done.returncode == 0:
            return None
        kept = [file for file in Path(folder).iterdir() if file.is_file()]
        return Finding(name, f"found by atheris ({done.returncode})", kept[0].read_bytes() if kept else b"", done.stderr[-3000:])


def main() -> None:
    """Of one decoder."""
    name, count, seed, folder = sys.argv[1:]
    import atheris

    with atheris.instrument_imports(include=["skerry"]):
        from tests.fuzz.__main__ import every_decoder
    decoder = every_decoder()[name]

    def changed(data: bytes, size_max: int, number: int) -> bytes:
        rng = random.Random(number)
        inputs = Inputs(decoder.seeds, decoder.shape, rng)
        if rng.random() < 0.7:
            with contextlib.suppress(*decoder.refusals):  # only what can be read can be changed field by field
                return inputs.changed(data)[:size_max]
        mutated: bytes = atheris.Mutate(data, size_max)
        return mutated

    def one(data: bytes) -> None:
        _, finding = judge(name, decoder, data)
        if finding is not None:
            raise AssertionError(f"{finding.why}\n{finding.details}")

    valid = Path(folder) / "valid"
    valid.mkdir()
    for number, seed_input in enumerate(decoder.seeds):
        (valid / str(number)).write_bytes(seed_input)
    options = [f"-runs={count}", f"-seed={int(seed) % 2**31 or 1}", "-max_len=70000", "-timeout=10", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(valid)], one, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
