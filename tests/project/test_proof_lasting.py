"""Which successes last, of made-up episodes."""

from __future__ import annotations

from studies.proof_lasting import lasting, longest


def test_a_throw_is_a_moment_and_a_drop_is_no_success_at_the_end() -> None:
    never, thrown = [False] * 12, [False] * 5 + [True] * 3 + [False] * 4
    dropped, held = [False] * 2 + [True] * 8 + [False] * 2, [False] * 6 + [True] * 6
    assert lasting([never, thrown, dropped, held]) == {"episodes": 4, "ever": 3, "end": 1, "moment": 1}
    assert [longest(one) for one in (never, thrown, dropped, held)] == [0, 3, 8, 6]


def test_a_success_with_a_gap_is_as_long_as_its_longer_part() -> None:
    assert longest([True, True, False, True]) == 2
    assert lasting([[True, False] * 6])["moment"] == 1
