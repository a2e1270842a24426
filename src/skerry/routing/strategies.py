"""Choose one: five plain functions over a pool.

    lowest-latency       of two drawn at random the one with the lower latency * (1 + load / places); agents of this node first while they
                         have a place free. Latency is a peak-aware average that fades, so that who was slow is tried again
    random               any
    round-robin          one after the other; whose turn it is belongs to the pool, so all clients of a node share it
    highest-reputation   the best score, which `reputation` knows; one of the best where several are
    least-loaded         the least to do: our own tasks there, and the queue that the agent's last reply told of

Who may not be asked now (`usable` says so) is drawn again. The caller asks first for those without blemish, then for the others: see
`choose`. Among so many that cannot be used that drawing finds nobody, they are looked through once.

The rule: whoever was measured last is not punished for having been measured, and a choice does not cost more because there are more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from skerry.errors import UsageError
from skerry.routing.pool import Option, Pool

DRAWS = 8  # then who can be used is looked for one by one: with half of them down, once in 256 choices
RANKS = 256  # steps of a score that are told apart
AGAIN_MAX = 4  # options found elsewhere in their order than they belong, in one choice
LAST = 32  # of those with equally little to do, so many that had something to do lately: they are at hand
FEW = 4  # of the best, so many are compared; of more, two that are drawn

Usable = Callable[[Option], bool]
Fraction = Callable[[], float]


class Strategy(StrEnum):
    LOWEST_LATENCY = "lowest-latency"
    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    HIGHEST_REPUTATION = "highest-reputation"
    LEAST_LOADED = "least-loaded"


def read_strategy(text: str) -> Strategy:
    """Raises UsageError that names them all."""
    try:
        return Strategy(text)
    except ValueError:
        raise UsageError(f"there is no strategy {text[:40]!r}", hint=f"one of {', '.join(Strategy)}") from None


def choose(
    strategy: Strategy,
    pool: Pool,
    *,
    usable: Usable,
    score: Callable[[Option], float],
    fraction: Fraction,
    now_s: float,
) -> Option | None:
    """One that is usable; None where nobody is. `fraction`: uniform in [0, 1); `score`: reputation, from 0 to 1."""
    if not pool.options:
        return None
    match strategy:
        case Strategy.LOWEST_LATENCY:
            return lowest_latency(pool, usable=usable, fraction=fraction, now_s=now_s)
        case Strategy.RANDOM:
            return draw(pool.near(fraction), usable, fraction) or draw(pool.options, usable, fraction)
        case Strategy.ROUND_ROBIN:
            return round_robin(pool, usable=usable)
        case Strategy.HIGHEST_REPUTATION:
            return highest_reputation(pool, usable=usable, score=score, fraction=fraction)
        case Strategy.LEAST_LOADED:
            return least_loaded(pool, usable=usable, fraction=fraction, now_s=now_s)


def lowest_latency(pool: Pool, *, usable: Usable, fraction: Fraction, now_s: float) -> Option | None:
    if pool.own:
        own = _quicker_of_two(pool.own, usable, fraction, now_s)
        if own is not None and (own.provider.load(now_s) < own.provider.places or len(pool.own) == len(pool.options)):
            return own
    return _quicker_of_two(pool.near(fraction), usable, fraction, now_s) or _quicker_of_two(pool.options, usable, fraction, now_s)


def round_robin(pool: Pool, *, usable: Usable) -> Option | None:
    options = pool.options
    count = len(options)
    for step in range(count):
        option = options[(pool.turn + step) % count]
        if usable(option):
            pool.turn = (pool.turn + step + 1) % count
            return option
    return None


def least_loaded(pool: Pool, *, usable: Usable, fraction: Fraction, now_s: float) -> Option | None:
    """What others gave an agent is forgotten with time, so its place in the order may be too high: each choice looks at one again."""
    order = pool.loads(now_s)
    again = pool.next_hand()
    if again is not None:
        order.put(again, again.provider.fill(now_s))
    for rank in order.ranks:
        option = draw(order.of(rank), usable, fraction, last=LAST)
        if option is not None:
            return option
    return None


def highest_reputation(pool: Pool, *, usable: Usable, score: Callable[[Option], float], fraction: Fraction) -> Option | None:
    """Scores change with time and with others' latency: who is drawn is looked at again, and one more with each choice."""

    def rank(option: Option) -> int:
        return int((1 - score(option)) * (RANKS - 1))

    order = pool.scores(rank)
    again = pool.next_hand()
    if again is not None:
        order.put(again, rank(again))
    moved = True
    for _ in range(AGAIN_MAX):
        if not moved:
            break
        moved = False
        for held in order.ranks:
            best = _best_of_few(order.of(held), usable, score, fraction)
            if best is None:
                continue
            if rank(best) == held:
                return best
            order.put(best, rank(best))
            moved = True
            break
    for held in order.ranks:
        found = draw(order.of(held), usable, fraction)
        if found is not None:
            return found
    return None


def draw(options: Sequence[Option], usable: Usable, fraction: Fraction, *, but: Option | None = None, last: int = 0) -> Option | None:
    """One at random that is usable, and not `but`; one of the `last` where that is given, if they can be used."""
    count = len(options)
    if not count:
        return None
    if count == 1:
        return options[0] if options[0] is not but and usable(options[0]) else None
    for _ in range(DRAWS):
        option = options[count - 1 - int(fraction() * (last if 0 < last < count else count))]
        if option is not but and usable(option):
            return option
    start = int(fraction() * count)
    for index in range(start, start + count):
        option = options[index % count]
        if option is not but and usable(option):
            return option
    return None


def _quicker_of_two(options: Sequence[Option], usable: Usable, fraction: Fraction, now_s: float) -> Option | None:
    one = draw(options, usable, fraction)
    if one is None or len(options) == 1:
        return one
    other = draw(options, usable, fraction, but=one)
    return other if other is not None and other.cost_s(now_s) < one.cost_s(now_s) else one


def _best_of_few(options: Sequence[Option], usable: Usable, score: Callable[[Option], float], fraction: Fraction) -> Option | None:
    if len(options) <= FEW:
        able = [option for option in options if usable(option)]
        return max(able, key=lambda option: (score(option), fraction()), default=None)
    one = draw(options, usable, fraction)
    other = draw(options, usable, fraction, but=one) if one is not None else None
    return other if other is not None and one is not None and score(other) > score(one) else one
