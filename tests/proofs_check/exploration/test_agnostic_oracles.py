"""The oracles themselves, on models whose numbers are known by hand."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from polytheory.policy_classes import everything, tons
from polytheory.proofs_check.exploration import agnostic_oracles as oracles
from polytheory.proofs_check.exploration.agnostic_instances import case_of

CASE = case_of("layered-two-state", tons(3, 2, 2))


def test_values_of_the_one_tons():
    expected = [0.18533333, 0.07866667, 0.18533333, 0.09533333, 0.21533333, 0.12666667, 0.22533333]
    assert_allclose(oracles.values(CASE), expected, rtol=0, atol=5e-9)


def test_episodes_and_worlds_are_laws():
    e = oracles.episodes(CASE, CASE.probs)
    assert_allclose(e.prob.sum(), 1, rtol=1e-14)
    assert len({(*s, *a) for s, a in zip(e.states.tolist(), e.actions.tolist(), strict=True)}) == len(e.prob)
    prob, after, roots = oracles.deterministic_worlds(CASE)
    assert_allclose(prob.sum(), 1, rtol=1e-14)
    assert len(prob) == len({x.tobytes() for x in after}) == 256
    assert not roots.any()


def test_the_optimum_is_the_best_of_all_policies():
    best, policy = oracles.optimum(CASE)
    everyone = case_of("layered-two-state", everything(3, 2, 2))
    assert_allclose(best[0, 0], oracles.values(everyone).max(), rtol=1e-14)
    assert policy.tolist() == [[1, 1], [1, 1], [0, 1]]


def test_action_values_and_visits_fit_together():
    q = oracles.q_by_paths(CASE, CASE.probs)
    assert_allclose(q[0, 0].mean(), oracles.value(CASE, CASE.probs), rtol=1e-13)
    assert_allclose(q[2], CASE.r[2], rtol=1e-13)
    assert_allclose(oracles.visits(CASE, CASE.probs).sum(axis=1), 1, rtol=1e-13)
    assert_allclose(oracles.greedy_loss(CASE, q, np.zeros((3, 2), dtype=int))[2], [0, 1 / 3], rtol=0, atol=1e-15)


def test_episodes_that_end_early_count_once():
    case = case_of("error-amplification", tons(3, 2, 2), horizon=3, last=0.1)
    e = oracles.episodes(case, case.probs)
    assert_allclose(e.prob.sum(), 1, rtol=1e-14)
    assert set(e.mask.sum(axis=1).tolist()) == {1, 2, 3}
