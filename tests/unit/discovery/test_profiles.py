"""The times that fit a network."""

from __future__ import annotations

import pytest

from skerry.discovery.profiles import PROFILES, profile_of
from skerry.errors import UsageError


def test_a_suspicion_lasts_longer_in_a_larger_formation() -> None:
    times = [PROFILES["lan"].least_suspicion_s(nodes) for nodes in (1, 2, 30, 200, 1000)]
    assert times[:3] == [2.0, 2.0, 2.0]
    assert times[2] < times[3] < times[4] < 4.2


def test_the_profiles_differ_in_patience_and_each_lets_helpers_answer_in_time() -> None:
    patience = [PROFILES[name].probe_limit_s + PROFILES[name].suspicion_s for name in ("local", "lan", "wan")]
    assert patience == sorted(patience)
    assert all(profile.direct_s + profile.relay_s < profile.probe_limit_s for profile in PROFILES.values())


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    assert profile_of("wan").name == "wan"
    with pytest.raises(UsageError, match="moon") as refused:
        profile_of("moon")
    assert "lan, wan, local" in refused.value.hint
