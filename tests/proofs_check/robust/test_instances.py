"""The programs behind the claims of robust planning against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.proofs_check.robust import instances


def test_programs_by_hand():
    row = instances.Row(np.array([1.0, 0.0]), np.array([0.5, 0.5]), 0.2)
    assert instances.l1_program(row) == pytest.approx(0.4)  # 0.1 moves
    assert instances.transport_program(row, np.array([[0.0, 2.0], [2.0, 0.0]])) == pytest.approx(
        0.4
    )  # 0.1 at a price of 2
    assert instances.interval_program(row, np.array([0.3, 0.0]), np.ones(2)) == pytest.approx(0.3)
    # q = (x, 1 - x): chi2 = 4 (x - 1/2)^2 = 0.2
    assert instances.conic_minimum(row, "chi2") == pytest.approx(0.5 - np.sqrt(0.05), abs=1e-7)


def test_a_game_by_hand():
    # nature must push both actions down: at level u it pays 2 (0.8 - u) + 2 (0.7 - u) = 0.4
    z, p = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.8, 0.2], [0.7, 0.3]])
    assert instances.game_program(z, p, 0.4) == pytest.approx(0.65)


def test_divergences_are_their_definitions():
    q, p = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    assert instances.divergence_of("kl", q, p) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert instances.divergence_of("chi2", q, p) == pytest.approx(0.25 + 0.0625 / 0.75)
    assert instances.divergence_of("kl", q, np.array([1.0, 0.0])) == float("inf")
