"""Objectives of sampled returns: by hand, and the coverage of their intervals where the law is known."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.errors import ObjectiveError, SettingError
from polytheory.lab.estimates import judged
from polytheory.models.objectives import objective

ATOMS, PROBS = np.array([0.0, 1.0, 3.0, 8.0]), np.array([0.1, 0.3, 0.4, 0.2])


def test_cvar_by_hand():
    # worst quarter of eight returns: the mean of 0 and 1. Beside the stock -1 the utilities are -4 for the 0 and else 0, so
    # that the standard error is sd / sqrt 8 with sd^2 = (3.5^2 + 7 * 0.5^2) / 7 = 2
    found = judged(objective("cvar:0.25"), np.array([0.0, 1, 2, 3, 4, 5, 6, 7]), level=0.95)
    assert found.value == pytest.approx(0.5, abs=1e-14)
    # the kinks -1 and -2 are equally good; the smaller stock comes first: utilities -8, -4 and 0
    sd = np.std([-8.0, -4, 0, 0, 0, 0, 0, 0], ddof=1)
    assert found.high - found.value == pytest.approx(1.959963984540054 * sd / np.sqrt(8), rel=1e-9)


@pytest.mark.parametrize(
    "text", ["mean", "cvar:0.25", "optimistic-cvar:0.25", "mean-cvar:0.5:0.3", "threshold:3", "entropic:0.5"]
)
def test_intervals_cover(text):
    judge, rng = objective(text), np.random.default_rng(0)
    truth = float(judge.of_return(ATOMS, PROBS))
    runs, n = 300, 400
    covered = 0
    for _ in range(runs):
        found = judged(judge, rng.choice(ATOMS, n, p=PROBS))
        covered += found.low <= truth <= found.high
    # 300 runs that cover with probability 0.95 give at least 270 but for a chance of 4e-4; 5 of 300 are allowed for the
    # approximation by a normal law
    assert covered >= 265
    assert covered < runs, "an interval that never misses is too wide to be one of 95 per cent (chance 2e-7)"


def test_what_has_no_interval():
    with pytest.raises(SettingError, match="at least 2"):
        judged(objective("mean"), np.array([1.0]))
    with pytest.raises(ObjectiveError, match="mixtures"):
        judged(objective("quantile:0.5"), np.arange(3.0))
