"""Verifiers that give part of the score."""

from __future__ import annotations

from polytheory.models.text.verifiers import in_place


def test_in_place_is_a_share_of_the_longer_text():
    completions = ["012", "210", "01", "0123", "", "", "9012"]
    answers = ["012", "012", "012", "012", "012", "", "012"]
    assert in_place(completions, answer=answers) == [1.0, 1 / 3, 2 / 3, 3 / 4, 0.0, 1.0, 0.0]
