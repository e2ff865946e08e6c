"""Estimators on one trajectory and over all trajectories of the worked instance, by two routes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from policy_gradient_instances import GAMMA, all_trajectories, exact_gradient, exact_return, policy_at, probabilities

from polytheory.errors import UnknownNameError
from polytheory.scaled.policy_gradient import estimators
from polytheory.scaled.policy_gradient.estimators import (
    curvature_term,
    hvp_estimate,
    importance_ratio,
    outer_product_term,
    pg_estimate,
    rewards_to_go,
)
from polytheory.scaled.policy_gradient.means import mean_hvp_backward, mean_hvp_forward, mean_score
from polytheory.trajectories import Trajectories

PRINTED = 5e-11  # the worked numbers are printed with ten decimals
U = torch.tensor([[0.6, 0.7]], dtype=torch.float64)
ONE = Trajectories(
    torch.tensor([[0, 1, 1, 0]]), torch.tensor([[1, 0, 1, 1]]), torch.tensor([[0.0, 0.5, 1.0, 0.0]]).double(),
    torch.ones(1, 4, dtype=torch.bool),
)  # fmt: skip


def test_one_trajectory():
    policy = policy_at(0.3, -0.5)
    assert_allclose(pg_estimate(policy, ONE, gamma=GAMMA)[0], [0.4425797825, 0.0057316764], atol=PRINTED)
    whole = pg_estimate(policy, ONE, gamma=GAMMA, kind="reinforce")[0]
    assert_allclose(whole, [0.8851595650, 0.2547154089], atol=PRINTED)
    ones = torch.ones(1, 4, dtype=torch.float64)
    assert_allclose(policy.score_sum(ONE.states, ONE.actions, ones)[0], [0.8511149664, 0.2449186624], atol=PRINTED)
    expected = [0.1493470134, -0.2724547200]
    assert_allclose(hvp_estimate(policy, ONE, U, gamma=GAMMA)[0], expected, atol=PRINTED)


@pytest.mark.parametrize("route", [mean_hvp_forward, mean_hvp_backward])
def test_one_trajectory_by_automatic_differentiation(route):
    policy = policy_at(0.3, -0.5)
    assert_allclose(route(policy, ONE, U, gamma=GAMMA)[0], [0.1493470134, -0.2724547200], atol=PRINTED)
    weights = rewards_to_go(ONE.rewards, ONE.mask, gamma=GAMMA)
    assert_allclose(mean_score(policy, ONE, weights)[0], [0.4425797825, 0.0057316764], atol=PRINTED)


def test_means_over_all_trajectories():
    policy = policy_at(0.3, -0.5)
    p, traj = all_trajectories(4)
    law = probabilities(policy, p, traj)[:, None]
    assert_allclose(law.sum(), 1, rtol=1e-13)
    # 256 products of a few numbers of size 1: 1e-13 is rounding; the exact gradient comes from linear algebra
    gradient = exact_gradient(policy.theta, 4)[0]
    assert_allclose(gradient, [0.0789553313, 0.2489592134], atol=PRINTED)
    for kind in ("gpomdp", "reinforce"):
        g = pg_estimate(policy, traj, gamma=GAMMA, kind=kind)
        assert_allclose((law * g).sum(0), gradient, atol=1e-13)
    assert_allclose((law * pg_estimate(policy, traj, gamma=GAMMA) ** 2).sum(), 0.8315206433, atol=PRINTED)
    hessian = torch.autograd.functional.hessian(lambda x: exact_return(x, 4), policy.theta[0])
    Bu = hvp_estimate(policy, traj, U, gamma=GAMMA)
    assert_allclose((law * Bu).sum(0), hessian @ U[0], atol=1e-13)
    assert_allclose((law * Bu).sum(0), [0.0019348192, 0.0893977466], atol=PRINTED)
    assert_allclose((law * Bu**2).sum(), 0.5945696807, atol=PRINTED)


def test_wrong_signs_and_missing_parts_are_seen():
    """The mistakes that published code makes give other means: the test above would catch them."""
    policy = policy_at(0.3, -0.5)
    p, traj = all_trajectories(4)
    law = probabilities(policy, p, traj)[:, None]
    outer = (law * outer_product_term(policy, traj, U, gamma=GAMMA)).sum(0)
    curvature = (law * curvature_term(policy, traj, U, gamma=GAMMA)).sum(0)
    assert_allclose(curvature - outer, [-0.2369, -0.6112], atol=5e-5)
    assert_allclose(curvature / U[0], [-0.1957920, -0.3727049], atol=5e-8)


def test_a_state_baseline_keeps_the_mean():
    policy = policy_at(0.3, -0.5)
    p, traj = all_trajectories(3)
    law = probabilities(policy, p, traj)[:, None]
    b = torch.tensor([0.7, -1.3], dtype=torch.float64)[traj.states]
    plain = pg_estimate(policy, traj, gamma=GAMMA)
    with_b = pg_estimate(policy, traj, gamma=GAMMA, baseline=b)
    assert_allclose((law * with_b).sum(0), (law * plain).sum(0), atol=1e-13)
    assert (with_b - plain).abs().max() > 0.1


def test_importance_ratios_are_ratios_of_products():
    a, b = policy_at(0.3, -0.5), policy_at(0.9, 0.2)
    p, traj = all_trajectories(4)
    p_a, p_b = probabilities(a, p, traj), probabilities(b, p, traj)
    w = importance_ratio(b, a, traj)
    assert_allclose(w, p_b / p_a, rtol=1e-13)
    # E w = 1 and the variance of the worked pair, with trajectories from a
    assert_allclose((p_a * w).sum(), 1, rtol=1e-13)


def test_masked_steps_do_not_count():
    rng = np.random.default_rng(0)
    policy = policy_at(0.3, -0.5)
    k, pad = 4, 3
    junk = Trajectories(
        torch.cat([ONE.states, torch.tensor(rng.integers(2, size=(1, pad)))], 1),
        torch.cat([ONE.actions, torch.tensor(rng.integers(2, size=(1, pad)))], 1),
        torch.cat([ONE.rewards, torch.full((1, pad), torch.nan).double()], 1),
        torch.arange(k + pad)[None] < k,
    )
    for kind in ("gpomdp", "reinforce"):
        expected = pg_estimate(policy, ONE, gamma=GAMMA, kind=kind)
        assert_allclose(pg_estimate(policy, junk, gamma=GAMMA, kind=kind), expected, rtol=1e-14)
    expected = hvp_estimate(policy, ONE, U, gamma=GAMMA)
    for route in (hvp_estimate, mean_hvp_forward, mean_hvp_backward):
        assert_allclose(route(policy, junk, U, gamma=GAMMA), expected, rtol=1e-12)


def test_unknown_kind():
    with pytest.raises(UnknownNameError, match="gpomdp"):
        pg_estimate(policy_at(0.0, 0.0), ONE, gamma=GAMMA, kind="gpomd")
    assert estimators.KINDS == ("gpomdp", "reinforce")
