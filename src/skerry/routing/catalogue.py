"""Who offers what, kept as agent records come and go: for every question a pool of those that answer it.

Exact capabilities have a pool each. A question that ends in `*`, or that asks for attributes, gets one when it is first asked; the last
`VIEWS_MAX` of these are kept up to date with the rest. Whether a node may be believed is judged when somebody is chosen, because grants and
revocations come in any order.

The rule: registering twice does not double, what is withdrawn leaves nothing behind, and what is measured outlives a renewed record.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from skerry.agents.capability import matches
from skerry.routing.pool import Candidate, Option, Pool, Provider

CLOSEST_MAX = 3  # names offered where a capability is not known
VIEWS_MAX = 8  # questions beyond plain capabilities whose answers are kept; each costs every change a look

Source = tuple[bytes, str]  # node, agent id: whose offers they are
Where = tuple[tuple[str, str], ...]  # attributes that are asked for


class Catalogue:
    """All offers that this node knows of. `ours`: this node's id."""

    def __init__(self, ours: bytes = b"") -> None:
        self._ours = ours
        self._pools: dict[str, Pool] = {}
        self._sources: dict[Source, dict[str, Option]] = {}
        self._named: dict[str, set[Source]] = {}  # by agent id and by name
        self._views: OrderedDict[tuple[str, Where], Pool] = OrderedDict()
        self._sorted: list[str] = []

    def set(self, node: bytes, agent: str, candidates: Sequence[Candidate]) -> None:
        """Everything that an agent offers now; an empty list withdraws it."""
        source = (node, agent)
        held = self._sources.get(source)
        if held is None:
            if not candidates:
                return
            held = self._sources[source] = {}
        provider = next(iter(held.values())).provider if held else Provider(node, agent, candidates[0].formation)
        offered = {candidate.capability: candidate for candidate in candidates}  # a card may name one twice
        for capability in [capability for capability in held if capability not in offered]:
            self._withdraw(source, held.pop(capability))
        for capability, candidate in offered.items():
            option = held.get(capability)
            if option is None:
                option = held[capability] = Option(provider, candidate)
                self._admit(source, option)
            else:
                self._renew(source, option, candidate)
        if not held:
            del self._sources[source]

    def pool(self, query: str, where: Where = ()) -> Pool | None:
        """All that answer a question; None where nobody does."""
        if not where and not query.endswith("*"):
            return self._pools.get(query)
        key = (query, where)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = Pool(self._ours)
            for option in self._options(query):
                if _has(option.candidate.attributes, where):
                    view.add(option)
            if len(self._views) > VIEWS_MAX:
                _, oldest = self._views.popitem(last=False)
                for option in list(oldest.options):
                    oldest.drop(option)
        self._views.move_to_end(key)
        return view if view.options else None

    def pool_of(self, agent: str, query: str, where: Where = ()) -> Pool | None:
        """The same, of those alone that go by a name or an id."""
        found = [
            option
            for source in sorted(self._named.get(agent, ()))
            for capability, option in self._sources[source].items()
            if matches(query, capability) and _has(option.candidate.attributes, where)
        ]
        return Pool(self._ours).take_in(found) if found else None

    def options(self, query: str, where: Where = ()) -> list[Option]:
        """All that answer a question, in the order of capability, node and agent."""
        found = (option for option in self._options(query) if _has(option.candidate.attributes, where))
        return sorted(found, key=lambda option: (option.candidate.capability, option.provider.node, option.provider.agent))

    def find(self, query: str) -> list[Candidate]:
        """What they offer, in the same order."""
        return [option.candidate for option in self.options(query)]

    def capabilities(self) -> list[str]:
        """All capabilities that somebody offers, sorted."""
        return list(self._sorted)

    def closest(self, query: str) -> list[str]:
        """Known capabilities that somebody may have meant: those of a similar name, whatever their kind."""
        names = {capability: _name(capability) for capability in self._sorted}
        alike = difflib.get_close_matches(_name(query.rstrip("*")), list(dict.fromkeys(names.values())), n=CLOSEST_MAX)
        return [capability for name in alike for capability in self._sorted if names[capability] == name][:CLOSEST_MAX]

    def members(self, counts: Callable[[Provider], bool] = lambda provider: True) -> int:
        """How many agents offer something; only those that count."""
        return sum(counts(next(iter(held.values())).provider) for held in self._sources.values())

    def __len__(self) -> int:
        return len(self._sources)

    # --- keeping it so --------------------------------------------------------------------------------------------------------

    def _options(self, query: str) -> Iterator[Option]:
        if not query.endswith("*"):
            pool = self._pools.get(query)
            yield from pool.options if pool is not None else ()
            return
        prefix = query[:-1]
        for capability in self._sorted[bisect_left(self._sorted, prefix) :]:
            if not capability.startswith(prefix):
                return
            yield from self._pools[capability].options

    def _admit(self, source: Source, option: Option) -> None:
        capability = option.candidate.capability
        pool = self._pools.get(capability)
        if pool is None:
            pool = self._pools[capability] = Pool(self._ours)
            insort(self._sorted, capability)
        pool.add(option)
        option.provider.options.append(option)
        for (query, where), view in self._views.items():
            if matches(query, capability) and _has(option.candidate.attributes, where):
                view.add(option)
        for name in (source[1], option.candidate.name):
            self._named.setdefault(name, set()).add(source)

    def _withdraw(self, source: Source, option: Option) -> None:
        for pool in list(option.pools):
            pool.drop(option)
        option.provider.options.remove(option)
        capability = option.candidate.capability
        if not self._pools[capability].options:
            del self._pools[capability]
            del self._sorted[bisect_left(self._sorted, capability)]
        if not option.provider.options:
            for name in (source[1], option.candidate.name):
                self._forget_name(name, source)

    def _renew(self, source: Source, option: Option, candidate: Candidate) -> None:
        """Another record of what was offered before."""
        before, option.candidate = option.candidate, candidate
        if before.name != candidate.name:
            self._forget_name(before.name, source)
            self._named.setdefault(candidate.name, set()).add(source)
        if before.attributes == candidate.attributes:
            return
        for (query, where), view in self._views.items():
            fits = matches(query, candidate.capability) and _has(candidate.attributes, where)
            if fits and option not in view:
                view.add(option)
            elif not fits and option in view:
                view.drop(option)

    def _forget_name(self, name: str, source: Source) -> None:
        named = self._named.get(name, set())
        named.discard(source)
        if not named:
            self._named.pop(name, None)


def _has(attributes: dict[str, Any], where: Where) -> bool:
    """Whether all that is asked for is there, in any case; what is asked for may end in `*`."""
    return all(_fits(attributes.get(key), wanted) for key, wanted in where)


def _fits(value: Any, wanted: str) -> bool:
    if value is None:
        return False
    said = (str(value).lower() if isinstance(value, bool) else str(value)).casefold()
    return matches(wanted.casefold(), said)


def _name(capability: str) -> str:
    """What people remember of a capability, without its kind and without case."""
    return (capability.partition(":")[2] or capability).lower()
