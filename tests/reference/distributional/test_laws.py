"""Laws: merging, distances against SciPy, tails, and refusals."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
from scipy.stats import energy_distance, wasserstein_distance

from polytheory.errors import NotStochasticError, SettingError, ShapeError
from polytheory.models import laws as L


def test_equal_atoms_are_merged_and_sorted():
    made = L.law([3, 1, 3, 2], [F(1, 4), F(1, 4), F(1, 2), F(0)])
    assert made.as_dict() == {1: F(1, 4), 3: F(3, 4)}


def test_floats_merge_up_to_rounding():
    assert len(L.law([0.1 + 0.2, 0.3], [0.5, 0.5])) == 1
    assert len(L.law([0.3, 0.3 + 1e-9], [0.5, 0.5])) == 2


def test_vector_atoms():
    made = L.law([[1, 2], [0, 5], [1, 2]], [0.25, 0.5, 0.25])
    assert made.as_dict() == {(0, 5): 0.5, (1, 2): 0.5}
    assert made.mean.tolist() == [0.5, 3.5]


def test_distances_agree_with_scipy():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (L.law(rng.integers(0, 9, 5) / 4, rng.dirichlet(np.ones(5))) for _ in range(2))
        other = wasserstein_distance(a.atoms, b.atoms, a.probs, b.probs)
        assert float(L.wasserstein(a, b)) == pytest.approx(other, abs=1e-13)
        # SciPy's energy distance is sqrt(2) times Cramer's
        assert L.cramer(a, b) * 2**0.5 == pytest.approx(energy_distance(a.atoms, b.atoms, a.probs, b.probs), abs=1e-7)


def test_push_mix_and_tail_by_hand():
    made = L.mix([F(1, 4), F(3, 4)], [L.delta(F(2)), L.push(L.law([0, 4], [F(1, 2), F(1, 2)]), 1, F(1, 2))])
    assert made.as_dict() == {1: F(3, 8), 2: F(1, 4), 3: F(3, 8)}
    assert L.lower_mean(made, F(1, 2)) == (F(3, 8) + 2 * F(1, 8)) / F(1, 2)
    assert L.quantile(made, F(1, 2)) == 2
    assert L.histogram(made, np.array([0.0, 2.0, 4.0])).tolist() == [0.375, 0.625]


@pytest.mark.parametrize(
    ("atoms", "probs", "error"),
    [
        ([1, 2], [0.5], ShapeError),
        ([1, 2], [0.5, 0.6], NotStochasticError),
        ([1.0, np.inf], [0.5, 0.5], NotStochasticError),
    ],
)
def test_refusals(atoms, probs, error):
    with pytest.raises(error):
        L.law(atoms, probs)


@pytest.mark.parametrize("tau", [0, -1, 1.5])
def test_shares_outside_are_refused(tau):
    with pytest.raises(SettingError, match="lies in"):
        L.lower_mean(L.delta(1), tau)
    with pytest.raises(SettingError, match="lies in"):
        L.quantile(L.delta(1), tau)
