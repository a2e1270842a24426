"""Feeds a decoder with so many inputs, and says what it did that no decoder may do.

The rule: a value or a refusal, within a bounded time and memory; and what has one form is written again as it was read.
"""

from __future__ import annotations

import os
import random
import resource
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

from tests.fuzz.decoders import Decoder
from tests.fuzz.inputs import Inputs

INPUT_S = 0.1  # of processor time, for one input of at most 70 KB: a hundred times what the slowest takes
GROWTH_KIB = 96 * 1024  # of memory while one decoder is fed; what an input of 70 KB can become is a few MB
SAME_PLACE = 3  # findings of one kind and place that are kept


@dataclass(frozen=True, slots=True)
class Finding:
    """`why` and the input that shows it."""

    decoder: str
    why: str
    data: bytes
    details: str = ""


@dataclass(slots=True)
class Outcome:
    """How one decoder did."""

    inputs: int = 0
    refused: int = 0
    took_s: float = 0.0
    slowest_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.inputs += other.inputs
        self.refused += other.refused
        self.took_s += other.took_s
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        known = {finding.why for finding in self.findings}
        self.findings += [finding for finding in other.findings if finding.why not in known]

    def __str__(self) -> str:
        each_us = self.took_s / max(self.inputs, 1) * 1e6
        refused = self.refused / max(self.inputs, 1)
        return f"{self.inputs:9} inputs, {refused:4.0%} refused, {each_us:6.1f} us each, the slowest {self.slowest_s * 1000:6.1f} ms"


def judge(name: str, decoder: Decoder, data: bytes) -> tuple[bool, Finding | None]:
    """Whether one input was refused, and what was wrong with how it was read."""
    try:
        value = decoder.read(data)
    except decoder.refusals:
        return True, None
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever else is raised is what we look for, also a panic of a library
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} at {os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119 - a name, not a file
        return False, Finding(name, place, data, "".join(traceback.format_exception(error)))
    if decoder.write is not None and (written := decoder.write(value)) != data:
        return False, Finding(name, "what was read is written in another form", data, written.hex())
    return False, None


def feed(name: str, decoder: Decoder, count: int, rng: random.Random) -> Outcome:
    """So many inputs. Raises nothing: what is wrong is in the outcome."""
    inputs = Inputs(decoder.seeds, decoder.shape, rng)
    outcome = Outcome()
    kept: Counter[str] = Counter()
    began, grown_kib = time.perf_counter(), _peak_kib()
    for _ in range(count):
        data = inputs.make()
        started = time.perf_counter()
        refused, finding = judge(name, decoder, data)
        took_s = time.perf_counter() - started
        outcome.refused += refused
        if took_s > INPUT_S:
            took_s = _again_s(decoder, data)  # perhaps others had the processor
            if took_s > INPUT_S:
                finding = Finding(name, "it takes too long", data, f"{took_s:.3f} s")
        outcome.slowest_s = max(outcome.slowest_s, took_s)
        if finding is not None:
            kept[finding.why] += 1
            if kept[finding.why] <= SAME_PLACE:
                outcome.findings.append(finding)
    grown_kib = _peak_kib() - grown_kib
    if grown_kib > GROWTH_KIB:
        outcome.findings.append(Finding(name, f"memory grew by {grown_kib} KiB", b""))
    outcome.inputs, outcome.took_s = count, time.perf_counter() - began
    return outcome


def _again_s(decoder: Decoder, data: bytes) -> float:
    """What one input takes of the processor, at best."""
    best_s = float("inf")
    for _ in range(3):
        started = time.process_time()
        judge("", decoder, data)
        best_s = min(best_s, time.process_time() - started)
    return best_s


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
