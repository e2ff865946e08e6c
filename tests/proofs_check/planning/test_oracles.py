"""The oracles of planning's claims against numbers worked by hand, and their own refusal of wrong answers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from polytheory.errors import NotSolvedError
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.planning import oracles
from polytheory.proofs_check.planning.instances import puterman, staged_worked
from polytheory.reference.planning import rational


def half() -> TabularMDP:
    """gamma = 1/2; state 0 pays 1 and stays or moves for free to state 1, which pays 3."""
    return TabularMDP([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [[1, 0], [3, 3]], [0.5, 0.5], gamma=0.5)


def test_optimal_value_is_exact():
    assert oracles.optimal_value(half()) == [Fraction(3), Fraction(6)]  # move: 0 + 6 / 2; stay: 2


def test_policy_value_is_exact():
    assert oracles.policy_value(half(), np.array([0, 0])) == [Fraction(2), Fraction(6)]


def test_exact_q_follows_the_definition():
    assert oracles.exact_q(half(), [2, Fraction(1, 3)]) == [[2, Fraction(1, 6)], [Fraction(19, 6)] * 2]


def test_distance_is_exact_and_infinite_for_nan():
    assert oracles.distance(np.array([1.0, 2.5]), [Fraction(1), Fraction(2)]) == Fraction(1, 2)
    assert oracles.distance(np.array([np.nan, 2.0]), [Fraction(1), Fraction(2)]) > 1e300 / 2


def test_a_wrong_optimum_is_refused(monkeypatch):
    def wrong(model, weights):
        found = rational.exact_optimum(model, weights)
        return rational.ExactSolution([x + 1 for x in found.v], found.actions, found.occupancy, found.slack, 1)

    monkeypatch.setattr(oracles, "exact_optimum", wrong)
    with pytest.raises(NotSolvedError, match="Bellman's equation"):
        oracles.optimal_value(puterman())


def test_best_staged_return_by_hand():
    (model,) = staged_worked()
    assert [oracles.best_staged_return(model, s) for s in range(2)] == pytest.approx([3.655, 2.88], abs=1e-14)
