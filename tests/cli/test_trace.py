"""``trace``: from words to a printed update."""

from __future__ import annotations

import json

import pytest

from polytheory.cli.main import call


def test_the_steps_are_printed(capsys):
    words = "planning --env two-state --steps 2 stop=sup"
    assert call(["trace", *words.split()]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ValueIteration on two-state (S = 2, A = 2, gamma = 0.8), seed 0\n")
    assert "0 + 0.8*(0.2*0.1 + 0.8*1)  0.656       *" in out  # .8 * (.02 + .8) = .656
    assert out.rstrip().endswith("ended after step 2: the steps that were asked for are made")


def test_one_state_and_later_steps(capsys):
    words = "planning --env frozenlake --env-set gamma=0.9 --after 5 --state 14"
    assert call(["trace", *words.split()]) == 0
    out = capsys.readouterr().out
    assert "\nstep 6\n" in out
    rows = [line.split()[0] for line in out.splitlines() if "0.9*(" in line]
    assert rows == ["14"] * 4


def test_json_holds_every_quantity(capsys):
    words = "trace n-pg-igt --env two-state truncation=4 --steps 2 --json"
    assert call(words.split()) == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [row["step"] for row in rows] == [1, 2]
    after = {q["name"]: q["value"] for q in rows[1]["after"]}
    momentum = next(c for c in rows[1]["calls"] if c["part"] == "direction")["calls"][-1]
    values = {q["name"]: q["value"] for q in (*momentum["arguments"], *momentum["result"])}
    # (1 - eta) d + eta g, on each of the four parameters
    for d, g, new in zip(values["d"], values["g"], values["momentum"], strict=True):
        assert abs((1 - values["eta"]) * d + values["eta"] * g - new) <= 1e-14
    assert after["d"] == values["momentum"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("planning --env two-state --state 2", "the states are 0 to 1"),
        ("planning --env two-state gama=1", "gama"),
        ("planning --env two-state --steps 0", "at least 1 step"),
        ("plannin --env two-state", "planning"),
    ],
)
def test_bad_words_are_told_in_one_line(capsys, words, said):
    assert call(["trace", *words.split()]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1
