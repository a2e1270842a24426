"""The older claim keeps a name; all names on show are different."""

from __future__ import annotations

from skerry.node.names import display_names

A, B, C = b"\xaa" * 32, b"\xbb" * 32, b"\xaa\xaa" + b"\xcc" * 30


def test_the_older_claim_keeps_the_name() -> None:
    assert display_names([(A, "alpha", 2), (B, "alpha", 1), (C, "gamma", 3)]) == {B: "alpha", A: "alpha~aaaa", C: "gamma"}


def test_of_two_claims_of_one_moment_the_lower_id_wins() -> None:
    assert display_names([(B, "alpha", 1), (A, "alpha", 1)]) == {A: "alpha", B: "alpha~bbbb"}


def test_ids_that_begin_alike_get_more_characters() -> None:
    assert display_names([(B, "alpha", 1), (A, "alpha", 2), (C, "alpha", 3)]) == {B: "alpha", A: "alpha~aaaa", C: "alpha~aaaacccc"}


def test_nobody_takes_a_name_by_looking_like_its_suffix() -> None:
    assert display_names([(B, "alpha~aaaa", 1), (C, "alpha", 2), (A, "alpha", 3)]) == {B: "alpha~aaaa", C: "alpha", A: "alpha~aaaaaaaa"}


def test_a_name_made_of_a_whole_id_does_not_hang() -> None:
    taken = [(bytes([number]) * 32, f"alpha~{A.hex()[: number * 4]}", 0) for number in range(1, 17)]
    assert display_names([*taken, (B, "alpha", 0), (A, "alpha", 1)])[A] == f"alpha~{A.hex()}"
