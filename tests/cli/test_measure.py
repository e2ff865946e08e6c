"""``measure`` prints every complexity measure of a class."""

from __future__ import annotations

import json

import pytest

from polytheory.cli.main import call


def test_the_numbers_of_the_worked_example(capsys):
    assert call(["measure", "--env", "layered-two-state", "--class", "everything", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    expected = {
        "policies": 64, "best value": 0.4586666667, "spanning capacity": 4, "sunflower number": 4, "coverability": 1.6,
        "coverability of pairs": 3.2, "concentrability": 2.0, "concentrability of pairs": 4.0,
        "pushforward concentrability": 2.0, "pushforward coverability": 1.7, "completeness error": 0.0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_a_table_of_a_model_that_is_unrolled(capsys):
    assert call(["measure", "--env", "two-state", "--horizon", "3", "--class", "linear-threshold"]) == 0
    out = capsys.readouterr().out
    assert all(
        word in out for word in ("spanning capacity", "sunflower number", "completeness error", "unrolled(two-state)")
    )


def test_what_is_too_large_says_so(capsys):
    words = "measure --env layered-two-state --env-set horizon=7 --class random --class-set size=30"
    assert call(words.split()) == 0
    assert "too large to compute" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--env two-state --class one-ton", "--horizon"),
        ("--env layered-two-state --class one-tun", "did you mean 'one-ton'?"),
        ("--env layered-two-state --class one-ton --class-set size=2", "takes no option 'size'"),
    ],
)
def test_bad_input_is_one_line(capsys, words, told):
    assert call(["measure", *words.split()]) == 2
    assert told in capsys.readouterr().err
