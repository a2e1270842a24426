"""`python -m tests.fuzz --inputs 10000000`: every decoder, from all processors; exit 1 where one did what no decoder may do.

The inputs are shared out among the decoders; those that open files or check signatures get fewer. `--seed` gives the same inputs again, and
an input that was found is written to `.fuzz/`, where `--again FILE` tries it. Where atheris is installed, each decoder is also fed by it:
it sees which lines an input reaches, and looks for others (`--atheris INPUTS`).
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import random
import secrets
import sys
import time
from pathlib import Path

from tests.fuzz import coverage
from tests.fuzz.campaign import Finding, Outcome, feed, judge
from tests.fuzz.decoders import Decoder, network
from tests.fuzz.files import files
from tests.fuzz.kept import kept

SLOW_SHARE = 0.1  # of the inputs that a quick decoder gets
PIECE = 20_000  # inputs of one piece of work
TELL_S = 30.0  # how often it says how far it is
FOUND = Path(".fuzz")


def every_decoder() -> dict[str, Decoder]:
    return network() | files() | kept()


def shares(decoders: dict[str, Decoder], inputs: int) -> dict[str, int]:
    """How many inputs each gets: `inputs` in all, or a few more."""
    weight = {name: SLOW_SHARE if decoder.slow else 1.0 for name, decoder in decoders.items()}
    return {name: int(inputs * one / sum(weight.values())) + 1 for name, one in weight.items()}


def _piece(work: tuple[str, int, int]) -> tuple[str, Outcome]:
    name, count, seed = work
    return name, feed(name, every_decoder()[name], count, random.Random(seed))


def main() -> int:
    options = _parser().parse_args()
    if options.again:
        return _again(options.again)
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    began = time.monotonic()
    decoders = {name: decoder for name, decoder in every_decoder().items() if name in (options.only or every_decoder())}
    pieces = _pieces(shares(decoders, options.inputs), seed)
    planned = sum(count for _, count, _ in pieces)
    print(f"seed {seed}: {planned} inputs for {len(decoders)} decoders", flush=True)
    whole: dict[str, Outcome] = {name: Outcome() for name in decoders}
    told = began
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for name, outcome in pool.imap_unordered(_piece, pieces):
            whole[name].add(outcome)
            now = time.monotonic()
            if now - told > TELL_S:
                told = now
                print(f"{now - began:5.0f} s: {_inputs(whole)} inputs", flush=True)
            if options.minutes and now - began > options.minutes * 60:
                print(f"the time is over: {_inputs(whole)} of {planned} inputs were tried", flush=True)
                break
    print("\n".join(f"{name:20} {outcome}" for name, outcome in whole.items()))
    found = [finding for outcome in whole.values() for finding in outcome.findings]
    print(f"{_inputs(whole)} inputs in {time.monotonic() - began:.0f} s, {len(found)} findings")
    if options.atheris and importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: no inputs that look for lines")
    elif options.atheris:
        found += coverage.look(shares(decoders, options.atheris), seed, processes=options.processes)
    for finding in found:
        _keep(finding)
    return 1 if found else 0


def _inputs(whole: dict[str, Outcome]) -> int:
    return sum(one.inputs for one in whole.values())


def _pieces(counts: dict[str, int], seed: int) -> list[tuple[str, int, int]]:
    """Work for the processes: decoder, how many inputs, and from which seed."""
    rng = random.Random(seed)
    pieces = [
        (name, min(PIECE, count - at), rng.randrange(2**63)) for name, count in sorted(counts.items()) for at in range(0, count, PIECE)
    ]
    rng.shuffle(pieces)  # so that each has had its share where the time is over before the end
    return pieces


def _keep(finding: Finding) -> None:
    FOUND.mkdir(exist_ok=True)
    file = FOUND / f"{finding.decoder.replace(' ', '-')}-{secrets.token_hex(4)}"
    file.write_bytes(finding.data)
    print(f"{finding.decoder}: {finding.why}\n{finding.details}\nagain: python -m tests.fuzz --again {file}")


def _again(file: Path) -> int:
    """One input once more."""
    name = file.name.rpartition("-")[0].replace("-", " ")
    decoder = next(one for known, one in every_decoder().items() if known.replace("-", " ") == name)
    _, finding = judge(name, decoder, file.read_bytes())
    print(finding.details if finding else "nothing is wrong with it")
    return 1 if finding else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Feed every decoder with almost right inputs.")
    parser.add_argument("--inputs", type=int, default=10_000_000, help="in all (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=list(every_decoder()), metavar="NAME", help="only this decoder; may be repeated")
    parser.add_argument("--atheris", type=int, default=0, help="inputs more that atheris makes, where it is installed")
    parser.add_argument("--minutes", type=float, default=0.0, help="end after so long, and say how many were tried")
    parser.add_argument("--seed", type=int, help="of the inputs; without it a fresh one, which is printed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--again", type=Path, metavar="FILE", help="try one input that was found")
    return parser


if __name__ == "__main__":
    sys.exit(main())
