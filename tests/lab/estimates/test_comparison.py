"""Comparisons with an error level: exact enumeration, coverage, mutants."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import mannwhitneyu, trim_mean
from simulations import broken, is_at_least, is_at_most

from polytheory.errors import SettingError
from polytheory.lab.estimates import bands, comparison, sequential
from polytheory.lab.estimates.comparison import compare, interquartile_mean
from polytheory.lab.estimates.sequential import decide, wealth

TASKS = np.array([0.0, 1.0, 5.0])
RUNS = 200


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 12])
def test_interquartile_mean_is_the_trimmed_mean(n):
    x = np.random.default_rng(n).normal(size=(3, n))
    assert_allclose(interquartile_mean(x), trim_mean(x, 0.25, axis=-1), rtol=1e-14)
    mutant = broken("comparison", "cut = n // 4", "cut = n // 3")
    assert n < 3 or n == 4 or not np.allclose(mutant.interquartile_mean(x), trim_mean(x, 0.25, axis=-1))


def test_wins_are_mann_whitneys_statistic():
    g = np.random.default_rng(0)
    a, b = g.integers(0, 4, (7, 1)).astype(float), g.integers(0, 4, (9, 1)).astype(float)
    expected = mannwhitneyu(a[:, 0], b[:, 0]).statistic / 63
    assert compare(a, b, resamples=10).wins.value == pytest.approx(expected, abs=1e-14)
    mutant = broken("comparison", "+ 0.5 * (x", "+ 0.0 * (x")
    assert mutant.compare(a, b, resamples=10).wins.value != pytest.approx(expected, abs=1e-3)


def hits(module, effect=1.0, n=10) -> tuple[int, int]:
    """Intervals that cover the true difference of a shift by ``effect``; verdicts that name the wrong one."""
    covered = wrong = 0
    for r in range(RUNS):
        g = np.random.default_rng([r, n])
        a, b = (g.normal(0, 1, (n, 3)) + TASKS + shift for shift in (effect, 0.0))
        found = module.compare(a, b, resamples=300)
        covered += found.difference.low <= effect <= found.difference.high
        wrong += found.better == "second"
    return covered, wrong


def test_coverage_of_the_difference():
    covered, wrong = hits(comparison)
    assert is_at_least(covered, RUNS, 0.95 - 1 / 20)  # percentile intervals: an error of order 1 / n, n = 10, both ends
    assert is_at_most(wrong, RUNS, 0.025)
    narrow = broken("comparison", "((1 - level) / 2, (1 + level) / 2)", "((2 - level) / 4, (2 + level) / 4)")
    assert not is_at_least(hits(narrow)[0], RUNS, 0.95 - 1 / 20)


def test_runs_are_resampled_within_their_task():
    """Two tasks that are constant, and different: within a task nothing varies, so the interval is a point."""
    a = np.tile([0.0, 10.0], (8, 1))
    found = compare(a, a + 1.0, resamples=50)
    assert found.difference.low == found.difference.high == -1.0
    assert found.better == "second"
    assert "second is better at error level 0.05" in str(found)
    mixed = broken("comparison", "np.take_along_axis(x[None], picks, axis=1)", "x.reshape(-1)[picks]")
    assert mixed.compare(a, a + 1.0, resamples=50).difference.low < -1.0


def paths(T, values=(-1.0, 1.0)):
    return np.array(list(product(values, repeat=T)))


def chance(values, p, T):
    """Probability of every path of independent draws."""
    weight = dict(zip(values, p, strict=True))
    return np.array([np.prod([weight[x] for x in path]) for path in product(values, repeat=T)])


def is_fair(module) -> bool:
    """The expected wealth under a mean of 0 is exactly 1 at every time, over all paths."""
    for values, p, T in (((-1.0, 1.0), (0.5, 0.5), 10), ((-0.5, 0.0, 1.0), (0.5, 0.25, 0.25), 7)):
        expected = chance(values, p, T) @ module.wealth(paths(T, values))
        # sums of 2187 terms at most, of wealth at most 1.5^10
        if not np.allclose(expected, 1.0, rtol=0, atol=2187 * 58 * 2.3e-16):
            return False
    return True


def test_wealth_is_a_fair_game_under_the_null():
    assert is_fair(sequential)
    assert (wealth(paths(10)) > 0).all()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mean = _before(np.cumsum(d, axis=-1))", "mean = np.cumsum(d, axis=-1)"),  # a bet that knows the outcome
        ("square = (0.25 + _before(np.cumsum(d**2, axis=-1)))", "square = (0.25 + np.cumsum(d**3 + 1, axis=-1))"),
        ("np.cumprod(1 + bet * d", "np.cumprod(1.01 + bet * d"),
    ],
)
def test_fairness_catches(old, new):
    assert not is_fair(broken("sequential", old, new))


def named(module, alpha) -> float:
    """Exact probability that a method is ever named although both are equal: 10 fair coins."""
    d = paths(10)
    verdicts = [module.decide(x, 0 * x, largest=1.0, alpha=alpha).better for x in d]
    return np.mean([v is not None for v in verdicts])


def test_error_level_by_enumeration():
    exact = named(sequential, 0.2)
    assert 0 < exact <= 0.2
    assert named(broken("sequential", "paths >= 2 / alpha", "paths >= 0.5 / alpha"), 0.2) > 0.2


def test_decision_against_a_plain_loop():
    g = np.random.default_rng(4)
    a, b = g.normal(1.0, 1, 200).clip(-2, 4), g.normal(0, 1, 200).clip(-2, 4)
    found = decide(a, b, largest=6.0, alpha=0.05)
    w, total, squares = 1.0, 0.0, 0.25
    for t, x in enumerate((a - b) / 6.0):
        bet = min(max((total / (t + 1)) / (squares / (t + 1)), 0.0), 0.5)
        w *= 1 + bet * x
        total, squares = total + x, squares + x * x
        if w >= 40:
            break
    assert (found.better, found.seeds) == ("first", t + 1)
    assert found.evidence[0] == pytest.approx(w, rel=1e-12)
    assert "the first is better after" in str(found)
    swapped = decide(b, a, largest=6.0)
    assert (swapped.better, swapped.seeds) == ("second", found.seeds)


def test_signs_need_no_bound_and_a_broken_bound_is_refused():
    a, b = np.full(30, 1e9), np.zeros(30)
    assert decide(a, b, how="sign").better == "first"
    with pytest.raises(SettingError, match=r"a difference of 1e\+09 exceeds largest = 2"):
        decide(a, b, largest=2.0)
    with pytest.raises(SettingError, match="pass a bound on the differences"):
        decide(a, b)


def inside(simultaneous: bool, module=bands) -> int:
    """How often the whole mean curve of random walks lies within the band."""
    total = 0
    for r in range(RUNS):
        y = np.cumsum(np.random.default_rng(r).normal(0, 1, (20, 30)), axis=1)
        found = module.band(y, simultaneous=simultaneous, resamples=400)
        total += bool(((found.low <= 0) & (found.high >= 0)).all())
    return total


def test_a_simultaneous_band_holds_the_whole_curve_and_a_pointwise_one_does_not():
    assert is_at_least(inside(True), RUNS, 0.95 - 1 / 20)  # n = 20
    assert not is_at_least(inside(False), RUNS, 0.95 - 1 / 20)
    at_one = broken("bands", "t.max(axis=1)", "t[:, -1]")
    assert not is_at_least(inside(True, at_one), RUNS, 0.95 - 1 / 20)


def test_pointwise_band_is_students_interval():
    from scipy.stats import ttest_1samp

    y = np.random.default_rng(0).normal(2, 1, (6, 4))
    found, oracle = bands.band(y), ttest_1samp(y, 0.0).confidence_interval(0.95)
    assert_allclose(found.low, oracle.low, rtol=1e-12)
    assert_allclose(found.high, oracle.high, rtol=1e-12)
    assert_allclose(bands.regret(np.ones((2, 3))), [[1, 2, 3], [1, 2, 3]], rtol=0)
    with pytest.raises(SettingError, match="needs at least 5 seeds"):
        bands.band(y[:4], simultaneous=True)
