"""From tidy results to findings: which rows count, which lines there are, and what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.studies import Question, answer, questions

BUDGETS = (100, 200, 400, 800)


def sweep(slopes=(0.5, 1.0), seeds=6, noise=0.1) -> pl.DataFrame:
    """Two algorithms, every T a cell, rows along each run: regret is exactly ``t^slope`` times a factor of its run."""
    rows = []
    for name, slope in zip(("A", "B"), slopes, strict=True):
        for T in BUDGETS:
            for seed in range(seeds):
                factor = np.exp(np.random.default_rng([T, seed]).normal(0, noise) - noise**2 / 2)
                rows += [
                    {"study": "s", "method": "m", "algorithm": name, "environment": "e", "env.H": 5, "algo.episodes": T,
                     "budget": T, "room": "scaled", "seed": seed, "step": t, "episodes": t, "regret": factor * t**slope,
                     "suboptimality": factor / t**slope, "other": None if name == "A" else 1.0}
                    for t in (1, 10, 50, T)
                ]  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def test_the_last_rows_of_every_budget_make_a_line_for_each_algorithm():
    found = answer(Question(y="regret", x="budget", theorem={"A": 0.5}, fit=True), sweep())
    assert [s.label for s in found.shown.curve.series] == ["A", "B", "theorem: T^0.5"]
    a, b = found.exponents["A"], found.exponents["B"]
    assert a.low <= 0.5 <= a.high < b.low <= 1.0 <= b.high
    assert (a.start, a.stop, a.points, a.seeds) == (100, 800, 4, 6)
    assert found.shown.findings[0].startswith("A: theorem says T^0.5; measured T^0.")
    expected = np.mean([np.exp(np.random.default_rng([800, s]).normal(0, 0.1) - 0.005) for s in range(6)]) * 800**0.5
    assert found.shown.curve.series[0].y[-1] == pytest.approx(expected, rel=1e-12)


def test_along_a_run_a_row_is_a_run():
    one = sweep(noise=0.2).filter(pl.col("budget") == 800)
    found = answer(Question(y="regret", x="episodes", fit=True), one)
    assert found.exponents["A"].slope == pytest.approx(0.5, abs=1e-12)  # the factor of a run leaves its own slope alone
    assert found.exponents["A"].high - found.exponents["A"].low <= 1e-9
    with pytest.raises(SettingError, match=r"mixes several values of algo\.episodes; put it into lines"):
        answer(Question(y="regret", x="episodes", lines=["algorithm"]), sweep())


def test_episodes_until_good_enough():
    one = sweep(slopes=(1.0, 1.0)).filter(pl.col("budget") == 800)
    found = answer(Question(y="suboptimality", x="eps", eps=[0.5, 0.05, 1e-9]), one)
    assert found.shown.curve.series[0].y == [10.0, 50.0, None] or found.shown.curve.series[0].y[:2] == [50.0, 10.0]
    assert "100% at 1e-09" in " ".join(found.shown.notes)


def test_several_measures_labels_and_rows_that_count():
    q = Question(
        y=["regret", "suboptimality"],
        x="budget",
        where={"algorithm": "A"},
        labels={"regret": "sum", "suboptimality": "last"},
    )
    found = answer(q, sweep())
    assert [s.label for s in found.shown.curve.series] == ["sum", "last"]
    assert not found.exponents


def test_orders_are_checked_and_what_is_not_ordered_is_said():
    q = Question(y="regret", x="budget", orders=[["A", "B"], ["B", "A"]], unordered=[["A", "B"]])
    lines = answer(q, sweep()).shown.findings
    assert lines[0].startswith("A below B at the end: yes; difference of interquartile means -")
    assert lines[1].startswith("B below A at the end: no, it is above")
    assert lines[2].startswith("A and B: no order is claimed (here:")
    with pytest.raises(UnknownNameError, match="unknown line 'C'"):
        answer(Question(y="regret", x="budget", orders=[["A", "C"]]), sweep())


def test_a_line_that_cannot_be_fitted_says_why_and_the_others_stay():
    found = answer(Question(y="regret", x="budget", fit=True), sweep(seeds=3))
    assert not found.exponents
    assert "3 seeds; an interval needs at least 5" in found.refused["A"]


def test_exponential_law_takes_the_base():
    k = range(1, 9)
    rows = [
        {"study": "s", "method": "m", "algorithm": "VI", "environment": "e", "seed": s, "step": t, "error": 0.9**t}
        for t in k for s in range(2)
    ]  # fmt: skip
    found = answer(Question(y="error", x="step", law="exponential", theorem=0.9, log="y"), pl.DataFrame(rows))
    assert found.exponents["VI"].agrees
    assert "theorem says 0.9^step; measured 0.9^step" in found.shown.findings[0]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ([{"y": "regret", "xx": "budget"}], "unknown key of a figure 'xx'"),
        ([{"x": "budget"}], "a figure without y"),
        ({"y": "regret"}, "figure is no list"),
        ([{"y": "regret", "x": "eps"}], "needs x = 'eps' and a list of eps"),
        ([{"y": "regret", "law": "powr"}], "did you mean 'power'"),
        ([{"y": "regret", "log": "z"}], "say which axes"),
        ([{"y": "regret", "start": "20"}], "a number is needed"),
    ],
)
def test_bad_questions(table, text):
    with pytest.raises((SettingError, UnknownNameError), match=text):
        questions(table)


def test_columns_that_are_not_there():
    with pytest.raises(UnknownNameError, match="unknown column of the results 'regrets'; did you mean 'regret'"):
        answer(Question(y="regrets", x="budget"), sweep())
    with pytest.raises(SettingError, match="no row of the results has regret with"):
        answer(Question(y="regret", x="budget", where={"algorithm": "Z"}), sweep())
