"""Since when a home claims its name."""

from __future__ import annotations

from skerry.node.naming import claim
from skerry.sim.disk import SimDisk


def test_a_claim_is_as_old_as_the_day_on_which_the_name_was_taken() -> None:
    store = SimDisk().open()
    assert claim(store, "alpha", now_ms=100) == 100
    assert claim(store, "alpha", now_ms=900) == 100
    assert claim(store, "beta", now_ms=1000) == 1000
    assert claim(store, "alpha", now_ms=2000) == 2000, "who gives a name up comes last when it takes it again"
