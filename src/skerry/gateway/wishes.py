"""How an HTTP caller says what OpenAI's API has no words for: headers, so that any client of that API can send them.

    X-Skerry-Strategy: least-loaded      X-Skerry-Priority: 8      X-Skerry-Where: quantization=Q4*, context_length=32768
    X-Skerry-Hedge: true                 X-Skerry-Restart: true    X-Skerry-Max-Latency: 500
    X-Skerry-Reach: contacts             how far a request may go to find its model; left out, no further than the formation

The rule: what can't be read is refused by its name, never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from skerry.errors import UsageError
from skerry.routing.strategies import read_strategy
from skerry.routing.task import Wishes, check_reach, read_where

PREFIX = "x-skerry-"
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}


def wishes_of(headers: Mapping[str, str]) -> Wishes:
    """Raises UsageError that names the header."""
    wishes: Wishes = {}
    if strategy := headers.get(PREFIX + "strategy"):
        wishes["strategy"] = read_strategy(strategy.strip().lower())
    if PREFIX + "hedge" in headers:
        wishes["hedge"] = _switch(headers, "hedge")
    if PREFIX + "restart" in headers:
        wishes["restart"] = _switch(headers, "restart")
    if PREFIX + "priority" in headers:
        wishes["priority"] = _number(headers, "priority")
    if PREFIX + "max-latency" in headers:
        wishes["max_latency_ms"] = _number(headers, "max-latency")
    if where := headers.get(PREFIX + "where"):
        wishes["where"] = read_where(where.split(","))
    if PREFIX + "reach" in headers:
        wishes["reach"] = check_reach(headers[PREFIX + "reach"].strip().lower())
    return wishes


def _switch(headers: Mapping[str, str], name: str) -> bool:
    said = headers[PREFIX + name].strip().lower()
    if said not in _SWITCHES:
        raise UsageError(f"the header X-Skerry-{name.title()} says {said[:40]!r}", hint="write true or false")
    return _SWITCHES[said]


def _number(headers: Mapping[str, str], name: str) -> int:
    said = headers[PREFIX + name].strip()
    if not (said.isascii() and said.isdigit() and len(said) <= 9):
        raise UsageError(f"the header X-Skerry-{name.title()} says {said[:40]!r}", hint="write a whole number")
    return int(said)
