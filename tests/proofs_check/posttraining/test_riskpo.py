"""The oracles of RiskPO's claims are themselves right, and the paper's Theorem 2 is conditional."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose

from polytheory.proofs_check.posttraining.probe import probes, toy, with_theta
from polytheory.proofs_check.posttraining.risk_claims import ALPHA, BETA, MEASURES, W_MIX, W, _slope, _value
from polytheory.reference.posttraining.risk import entropy_slope, law_quantile, weight

WORKED = toy("ones")


def envelope(r, p, level):
    """``int_0^level q_s ds`` as a maximum over thresholds [rockafellar2000, Theorem 1]: some atom attains it."""
    return max(level * q - p @ np.maximum(q - r, 0.0) for q in r)


@settings(max_examples=25)
@given(probe=probes())
def test_measures_are_maxima_over_thresholds(probe):
    r, p = probe.reward, probe.p
    low, both, mean = envelope(r, p, ALPHA), envelope(r, p, BETA), p @ r
    expected = {
        "mean": mean, "cvar": low / ALPHA, "rvar": (both - low) / (BETA - ALPHA), "mvar": (1 + W) * low + both - low,
        "mvar_released": (W_MIX * low / ALPHA + (both - low) / (BETA - ALPHA)) / (1 + W_MIX),
        "seeking": (W_MIX * (mean - both) / (1 - BETA) + (both - low) / (BETA - ALPHA)) / (1 + W_MIX),
    }  # fmt: skip
    assert_allclose([_value(r, p, m) for m in MEASURES], [expected[m] for m in MEASURES], rtol=0, atol=1e-12)


@settings(max_examples=10)
@given(probe=probes(max_length=2))
@pytest.mark.parametrize("measure", MEASURES)
def test_slopes_are_derivatives(measure, probe):
    direction, h = np.cos(np.arange(probe.theta.size)).reshape(probe.theta.shape), 1e-5
    exact = _slope(probe.reward, probe.p[:, None, None] * probe.lm.scores(probe.theta), probe.p, measure)
    ahead, behind = (
        _value(probe.reward, with_theta(probe, probe.theta + s * h * direction).p, measure) for s in (1, -1)
    )
    # weights of at most (1 + w) / alpha: third derivatives below 10^3 times h^2, roundings over h
    assert_allclose((exact * direction).sum(), (ahead - behind) / (2 * h), rtol=0, atol=1e-7)


def test_theorem_2_is_conditional():
    """The order of the theorem needs tails that are more probable than the average, in log; else MVaR adds less entropy."""
    r, p = WORKED.reward, WORKED.p
    mvar = weight(r, law_quantile(r, p, ALPHA), law_quantile(r, p, BETA), measure="mvar", w=W)
    assert_allclose([-entropy_slope(p, r), -entropy_slope(p, mvar)], [-0.124300, -0.071689], rtol=0, atol=5e-7)
    lowest = r == r.min()
    assert p[lowest] @ np.log(p[lowest]) / p[lowest].sum() < p @ np.log(p) - 0.5  # rare ones among the sequences
    r, p = np.arange(-3.0, 4.0), np.array([0.19, 0.13, 0.1, 0.1, 0.1, 0.19, 0.19])
    mvar = weight(r, law_quantile(r, p, ALPHA), law_quantile(r, p, BETA), measure="mvar", w=W)
    assert -entropy_slope(p, mvar) < -entropy_slope(p, r) - 0.1  # both tails are probable: the order holds


def test_on_a_jump_the_two_sides_differ():
    """Why a level on a jump is refused: the derivative of the quantile integral there depends on the direction."""
    r, level, h = np.array([0.0, 1.0, 2.0]), 0.5, 1e-6
    p = np.array([0.25, 0.25, 0.5])
    move = np.array([1.0, -1.0, 0.0])  # P(R <= 1) stays on the level
    shift = np.array([0.0, 1.0, -1.0])  # P(R <= 1) leaves it
    for direction, sides in ((move, (-1.0, -1.0)), (shift, (0.0, -1.0))):
        ahead, here, behind = (envelope(r, p + s * h * direction, level) for s in (1, 0, -1))
        found = ((ahead - here) / h, (here - behind) / h)
        assert_allclose(found, sides, rtol=0, atol=1e-8)
