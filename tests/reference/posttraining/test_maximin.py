"""RPO's minimiser, the minimax and the maximin policy are one; numbers of the theory; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory.errors import SettingError
from polytheory.reference.posttraining import maximin as theory

WINS = np.array([[0.0, 6, 1], [2, 0, 2], [1, 1, 0]])
REF, BASE = np.array([0.4, 0.4, 0.2]), np.array([0.7, 0.3, 0.0])
DATA = theory.Preferences(WINS, REF, BASE, 0.5, 0.3)
POLICY = [0.7564197, 0.1925641, 0.0510161]


def test_three_problems_have_one_solution():
    rpo = theory.minimise_rpo(DATA)
    pi, r, value = theory.minimax(DATA)
    other, _, lower = theory.maximin(DATA)
    assert_allclose(rpo, POLICY, rtol=0, atol=5e-8)  # quoted to seven digits
    assert_allclose(pi, rpo, rtol=0, atol=1e-9)
    assert_allclose(other, rpo, rtol=0, atol=1e-5)  # a line search on values sees half of the digits
    assert_allclose([value, lower], 0.5984390095, rtol=0, atol=1e-10)
    assert_allclose(r - r[0], [0, -0.6840836, -1.0016536], rtol=0, atol=5e-8)
    assert_allclose(theory.population_rpo(rpo, DATA), 0.7358826193, rtol=0, atol=1e-10)


def test_without_the_sft_term_it_is_dpo():
    data = theory.Preferences(WINS, REF, BASE, 0.5, 0.0)
    dpo = theory.minimise_rpo(data)
    assert_allclose(dpo, [0.7876170, 0.1500312, 0.0623518], rtol=0, atol=1e-7)  # seven digits, the rest cut off
    assert_allclose(theory.population_rpo(dpo, data), 0.6294975854, rtol=0, atol=1e-10)


def test_bound_of_the_theorem():
    assert_allclose(theory.gap_bound(1.0, 10**4, 2.0, 0.5, np.log(2000)), 1.1720859, rtol=0, atol=5e-8)


def test_base_outside_of_the_reference_is_refused():
    with pytest.raises(SettingError, match="response 0 has base > 0 but ref = 0"):
        theory.Preferences(WINS, np.array([0.0, 0.8, 0.2]), BASE, 0.5, 0.3)
