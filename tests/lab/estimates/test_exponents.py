"""Exponents: the fit, its interval and its checks against other routes; coverage; mutants."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from simulations import broken, is_at_least, is_at_most

from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.estimates import exponents, logs
from polytheory.lab.estimates.exponents import curvature_weights, fit, pure_error_test, slope_weights
from polytheory.lab.estimates.logs import mean_logs, passage_logs
from polytheory.lab.estimates.passage import Passages, passages

X = 2.0 ** np.arange(4, 11)
Z = np.log(X)
RUNS = 200


def law(seed, n=12, *, slope=0.5, sigma=0.3, extra=0.0):
    """Runs with mean exactly ``x^slope + extra``: lognormal factors of mean 1."""
    noise = np.random.default_rng([seed, n]).normal(0, sigma, (n, len(X)))
    return (X**slope + extra) * np.exp(noise - sigma**2 / 2)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=9, unique_by=lambda x: round(x, 1)), st.integers(0, 2**32))
def test_weights_are_those_of_least_squares(points, seed):
    z, y = np.array(points), np.random.default_rng(seed).normal(size=len(points))
    # both are least squares of a Vandermonde matrix whose points are 0.1 apart at least, condition (10 / 0.1)^2 at most
    size = 1 + np.abs(slope_weights(z)).max() + np.abs(curvature_weights(z)).max()
    assert_allclose(slope_weights(z) @ y, np.polyfit(z, y, 1)[0], rtol=0, atol=1e-10 * size)
    assert_allclose(curvature_weights(z) @ y, np.polyfit(z, y, 2)[0], rtol=0, atol=1e-10 * size)


def error_by_derivatives(y, w, *, paired):
    """Standard error of ``w . log mean`` from how it moves when a run gets more weight (complex steps)."""
    total, n = 0.0, len(y)
    for i in range(n):
        push = (1e-30j * n) * (np.arange(n) == i)[:, None]
        for j in [slice(None)] if paired else [slice(j, j + 1) for j in range(y.shape[1])]:
            weight = np.ones(y.shape, dtype=complex)
            weight[:, j] += push
            moved = w @ np.log((weight * y).sum(0) / weight.sum(0))
            total += (moved.imag / 1e-30) ** 2
    return np.sqrt(total / (n * (n - 1)))


def errors_hold(module=logs) -> bool:
    y, w = law(3), slope_weights(Z)
    found = [module.mean_logs(y, paired=p, resamples=10).contrast(w).scale for p in (True, False)]
    return np.allclose(found, [error_by_derivatives(y, w, paired=p) for p in (True, False)], rtol=0, atol=1e-12)


def test_standard_errors_by_another_route():
    assert errors_hold()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.sqrt(n * (n - 1.0))", "np.sqrt(n * n)"),
        ("np.sqrt(n * (n - 1.0))", "np.sqrt(n - 1.0)"),
        ("    if paired:\n        w =", "    if not paired:\n        w ="),
    ],
)
def test_standard_errors_catch(old, new):
    assert not errors_hold(broken("logs", old, new))


def test_gaps_of_unpaired_points_count_as_fewer_runs():
    y = law(5)
    short = y.copy()
    short[7:, 2] = np.nan
    alone = mean_logs(y[:7], paired=False, resamples=10)
    found = mean_logs(short, paired=False, resamples=10)
    assert found.value[2] == pytest.approx(alone.value[2], abs=1e-14)
    assert found.seeds == 7
    assert np.linalg.norm(found.influence[:, 2]) == pytest.approx(np.linalg.norm(alone.influence[:, 2]), rel=1e-12)


def coverage(module, *, paired=True, n=12):
    """Hits of the interval of the exponent 0.5 and false alarms of the curvature."""
    hits = alarms = 0
    siblings = getattr(module, "__siblings__", {})  # of a mutant: classes of one fresh copy
    take = siblings.get("polytheory.lab.estimates.exponents", exponents).fit
    for r in range(RUNS):
        found = take(X, module.mean_logs(law(r, n), paired=paired, resamples=400), stated=0.5, begins=False)
        hits, alarms = hits + found.agrees, alarms + (found.curvature_p <= 0.05)
    return hits, alarms


@pytest.mark.parametrize("paired", [True, False])
def test_coverage_and_level(paired):
    hits, alarms = coverage(logs, paired=paired)
    # the error of bootstrap-t is of order 1 / n; n = 12
    assert is_at_least(hits, RUNS, 0.95 - 1 / 12)
    assert is_at_most(hits, RUNS, 0.95 + 1 / 24)
    assert is_at_most(alarms, RUNS, 0.05 + 1 / 24)


def test_coverage_catches_a_denominator_forgotten_in_the_resamples():
    mutant = broken("logs", "- 1) / (n - 1.0)", "- 1)")
    assert not is_at_least(coverage(mutant)[0], RUNS, 0.95 - 1 / 12)


@pytest.mark.parametrize("studentised", [True, False])
def test_p_value_is_the_level_at_which_the_interval_reaches(studentised):
    errors = np.sort(np.random.default_rng(0).exponential(1.0, 1999) - 0.6)  # skew, so that a swapped tail shows
    found = logs.Contrast(2.0, 0.3 if studentised else 1.0, errors, studentised)
    for end in found.interval(0.9):
        assert found.p_value(end) == pytest.approx(0.1, abs=3 / 2000)
    low, high = found.interval(0.9)
    assert (high - 2.0 > 2.0 - low) is not studentised  # the pivot turns the long tail round
    mutant = broken("logs", "estimate - float(high) * self.scale", "estimate + float(low) * self.scale")
    turned = mutant.Contrast(2.0, 0.3, errors, True)
    assert turned.p_value(turned.interval(0.9)[0]) != pytest.approx(0.1, abs=3 / 2000)


def test_a_term_of_lower_order_moves_the_start_and_not_too_far():
    found = fit(X, mean_logs(law(1, 40, sigma=0.05, extra=4.0), paired=False), stated=0.5)
    assert found.skipped
    assert found.curvature[1] > found.curvature[0] > 0
    assert "asymptotics not reached below x = " in str(found)


def too_late(module) -> int:
    """How often the law is said to begin after it does: it holds from the third point on."""
    late = 0
    for r in range(RUNS):
        y = law(r, 12)
        y[:, :2] *= 3.0
        late += len(module.fit(X, mean_logs(y, paired=False, resamples=300), alpha=0.1).skipped) > 2
    return late


def test_the_law_is_said_to_begin_too_late_at_most_at_the_level():
    assert is_at_most(too_late(exponents), RUNS, 0.1 + 1 / 24)  # the second term is the curvature test's own error
    greedy = broken("exponents", "next((i for i, value in enumerate(p) if value > alpha), None)", "int(np.argmax(p))")
    assert not is_at_most(too_late(greedy), RUNS, 0.1 + 1 / 24)


def test_small_x_may_be_the_asymptotic_end():
    eps = 1 / X
    y = (eps**-2 + 300.0) * np.exp(np.random.default_rng(0).normal(0, 0.05, (20, len(X))))
    found = fit(eps, mean_logs(y, paired=False), stated=-2.0, towards="small", names=("eps", "N"))
    assert found.stop == eps.min()
    assert found.skipped[0] == eps.max()
    assert found.agrees
    assert "theorem says eps^-2; measured eps^-" in str(found)
    assert "not reached above eps" in str(found)


def test_exponential_law_and_runs_without_chance():
    k = np.arange(1.0, 9.0)
    found = fit(k, mean_logs(np.tile(0.9**k, (2, 1)), paired=True), stated=float(np.log(0.9)), law="exponential")
    assert found.slope == pytest.approx(np.log(0.9), abs=1e-13)
    assert found.low == found.high == found.slope
    assert found.stated_p == 1.0
    assert found.begins
    assert "measured 0.9^x [0.9, 0.9]" in str(found)
    assert_allclose(found.at(k), 0.9**k, rtol=1e-12)
    assert fit(k, mean_logs(np.tile(0.9**k, (2, 1)), paired=True), stated=-0.1, law="exponential").stated_p == 0.0


def test_pure_error_test_is_a_comparison_of_two_regressions():
    y = np.log(law(0, 6))
    y[4:, 3] = np.nan
    here = ~np.isnan(y)
    rows = np.broadcast_to(Z, y.shape)[here]
    column = np.broadcast_to(np.arange(len(Z)), y.shape)[here]

    def left(design):
        return float(np.linalg.norm(y[here] - design @ np.linalg.lstsq(design, y[here], rcond=None)[0]) ** 2)

    line, free = left(np.stack([np.ones(len(rows)), rows], axis=1)), left(np.eye(len(Z))[column])
    degrees = len(rows) - len(Z)
    expected = (line - free) / (len(Z) - 2) / (free / degrees)
    assert pure_error_test(Z, y)[0] == pytest.approx(expected, rel=1e-10)
    for old, new in (("/ (k - 2),", "/ (k - 1),"), ("n.sum() - k)\n    if", "n.sum())\n    if")):
        assert broken("exponents", old, new).pure_error_test(Z, y)[0] != pytest.approx(expected, rel=1e-3)


def test_pure_error_test_has_its_level_and_sees_wiggles():
    alarms = sum(pure_error_test(Z, np.log(law(r, 5)))[1] <= 0.05 for r in range(RUNS))
    assert is_at_most(alarms, RUNS, 0.05)
    assert alarms > 0
    assert pure_error_test(Z, np.log(law(0, 30, sigma=0.1)) + 0.2 * (-1.0) ** np.arange(len(Z)))[1] < 1e-6


EPS = np.array([0.4, 0.2, 0.1, 0.05])


def decaying(seed, n=25, cut=20.0):
    """Suboptimality ``c_i / sqrt(t)``, so that N(eps) = (c_i / eps)^2; some runs are cut off early at random."""
    g = np.random.default_rng([seed, n])
    at = np.unique(np.round(np.geomspace(1, 2000, 160)))
    y = np.exp(g.normal(0, 0.3, (n, 1))) / np.sqrt(at)
    y[at > g.exponential(2000 * cut, (n, 1)) + 1] = np.nan
    return [passages(at, y, eps) for eps in EPS]


def test_exponent_of_passages_with_censored_runs():
    found = fit(EPS, passage_logs(decaying(0)), stated=-2.0, towards="small", names=("eps", "N"))
    assert found.low <= -2.0 <= found.high
    heavy = [x for s in range(5) for x in [decaying(s, 40, cut=0.7)]]
    assert all(not x[-1].observed.all() for x in heavy)
    slopes = [fit(EPS, passage_logs(x, resamples=300), towards="small", begins=False) for x in heavy]
    # dropping the censored runs keeps those with small N at small eps: the law looks flatter than it is
    dropped = [[Passages(p.times[x[-1].observed], p.observed[x[-1].observed]) for p in x] for x in heavy]
    flat = [fit(EPS, passage_logs(x, resamples=300), towards="small", begins=False) for x in dropped]
    assert all(f.low <= -2.0 <= f.high for f in slopes)
    assert np.mean([f.intercept for f in flat]) < np.mean([f.intercept for f in slopes])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mean_logs(law(0, 4), paired=True), "4 seeds; an interval needs at least 5"),
        (lambda: mean_logs(-law(0), paired=True), "a logarithm needs numbers >= 0"),
        (lambda: mean_logs(law(0) * (X > 20), paired=True), "point 0 is 0 in every run"),
        (lambda: fit(X[:2], mean_logs(law(0)[:, :2], paired=True)), "2 points for 2 values"),
        (lambda: fit(-X, mean_logs(law(0), paired=True)), "> 0 for a power law"),
        (lambda: fit(X, mean_logs(law(0), paired=True), level=1.0), "level = 1"),
        (lambda: passage_logs([Passages(np.full(6, 9.0), np.zeros(6, dtype=bool))] * 3), "100% of the runs are censored"),
        (lambda: mean_logs(np.where(X > 20, law(0), np.nan), paired=True), "no value at some point"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused_in_one_line(call, text):
    with pytest.raises(SettingError, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_unknown_names_and_plain_fields():
    with pytest.raises(UnknownNameError, match="did you mean 'power'"):
        fit(X, mean_logs(law(0), paired=True), law="powers")
    assert {"slope", "low", "high", "stated_p"} <= {f.name for f in dataclasses.fields(exponents.Exponent)}
