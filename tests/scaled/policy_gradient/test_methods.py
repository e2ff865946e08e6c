"""The methods against worked traces with exact gradients, their limits, and their settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from policy_gradient_instances import (
    GAMMA,
    all_trajectories,
    exact_gradient,
    exact_return,
    policy_at,
    probabilities,
    two_state,
)

from polytheory.access import Online
from polytheory.conformance.resume import assert_resume_exact
from polytheory.errors import SettingError, UnknownNameError
from polytheory.scaled.policy_gradient import harpg
from polytheory.scaled.policy_gradient.estimators import hvp_estimate
from polytheory.scaled.policy_gradient.harpg import Harpg, NHarpg
from polytheory.scaled.policy_gradient.n_pg_igt import NPgIgt
from polytheory.scaled.policy_gradient.peers import Hapg, IsMbpg, MomentumPg, NormalisedSgd, SrvrPg, StormPg, VanillaPg
from polytheory.scaled.policy_gradient.softmax import one_logit_per_state
from polytheory.scaled.policy_gradient.steps import interpolate, lookahead, normalised_step

PRINTED = 5e-11  # the worked numbers are printed with ten decimals
ALL = (NPgIgt, Harpg, NHarpg, VanillaPg, NormalisedSgd, MomentumPg, StormPg, IsMbpg, SrvrPg, Hapg)


def exactly(method):
    """The method with the exact gradient of the infinite horizon in place of samples."""
    return type(method.__name__, (method,), {"gradient": lambda self, theta, traj, access: exact_gradient(theta)})


def trace(method, steps):
    access = Online(two_state()).replicate(1)
    algorithm = exactly(method)(policy_at(0.3, -0.5), truncation=1, gamma0=0.5)
    state, thetas = algorithm.init(access, 0), []
    for _ in range(steps):
        state, _ = algorithm.step(state, access)
        thetas.append(state.theta[0].numpy())
    return np.array(thetas), state


def test_trace_of_n_pg_igt():
    thetas, _ = trace(NPgIgt, 4)
    expected = [
        (0.4672925395, -0.0288172263), (0.5664228495, 0.2894347065), (0.6381125403, 0.5289354127),
        (0.6950288984, 0.7206657654),
    ]  # fmt: skip
    assert_allclose(thetas, expected, atol=PRINTED)
    assert_allclose(exact_return(torch.tensor(thetas[-1]), None), 2.572016592664, atol=5e-13)


def test_trace_of_n_harpg_with_exact_differences(monkeypatch):
    def exact_difference(method, state, access):
        return exact_gradient(state.theta) - exact_gradient(state.theta_prev), None

    monkeypatch.setattr(harpg, "hessian_aided_difference", exact_difference)
    thetas, state = trace(NHarpg, 4)
    expected = [
        (0.4672925395, -0.0288172263), (0.5656792188, 0.2896653830), (0.6364466765, 0.5294402085),
        (0.6925111588, 0.7214213894),
    ]  # fmt: skip
    assert_allclose(thetas, expected, atol=PRINTED)
    assert_allclose(exact_return(torch.tensor(thetas[-1]), None), 2.572027103906, atol=5e-13)
    assert_allclose(state.d, exact_gradient(state.theta_prev), atol=1e-15)


def test_hessian_aided_difference_is_exact_in_the_mean():
    a, b = policy_at(0.3, -0.5).theta, policy_at(0.9, 0.2).theta
    p, traj = all_trajectories(4)

    def mean_at(q):
        policy = one_logit_per_state(2).with_theta(interpolate(b, a, q))
        law = probabilities(policy, p, traj)[:, None]
        return (law * hvp_estimate(policy, traj, b - a, gamma=GAMMA)).sum(0)

    # the integrand is smooth on a segment of length 1: 20 Gauss-Legendre nodes are exact to rounding
    nodes, weights = np.polynomial.legendre.leggauss(20)
    mean = sum(w / 2 * mean_at((x + 1) / 2) for x, w in zip(nodes, weights, strict=True))
    assert_allclose(mean, (exact_gradient(b, 4) - exact_gradient(a, 4))[0], atol=1e-13)
    assert_allclose(mean, [-0.0054091544, 0.0648401603], atol=PRINTED)
    assert_allclose(mean_at(0.5), [-0.0055490291, 0.0673147470], atol=PRINTED)  # the midpoint alone is not


def test_lookahead_of_the_worked_pair():
    a, b = policy_at(0.3, -0.5).theta, policy_at(0.9, 0.2).theta
    assert_allclose(lookahead(b, a, 0.5)[0], [1.5, 0.9], atol=1e-15)
    assert_allclose(exact_gradient(lookahead(b, a, 0.5), 4)[0], [0.0571214489, 0.3021275582], atol=PRINTED)


def test_normalised_steps_have_the_length_asked_for():
    d = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-100, 0.0]], dtype=torch.float64)
    theta = torch.ones(3, 2).double()
    moved = normalised_step(theta, d, 0.5) - theta
    assert_allclose(moved, [[0.3, 0.4], [0, 0], [0.5, 0]], atol=1e-15)


@pytest.mark.parametrize("method", [NPgIgt, NHarpg, MomentumPg])
def test_full_momentum_weight_is_plain_normalised_ascent(method):
    """eta = 1 for all t turns the methods into normalised policy gradient, draw for draw."""
    access = Online(two_state()).replicate(4)
    settings = {"truncation": 6, "gamma0": 0.3, "schedule": "constant"}
    one, plain = method(one_logit_per_state(2), **settings), NormalisedSgd(one_logit_per_state(2), **settings)
    object.__setattr__(plain, "name", one.name)  # the same random numbers
    a, b = one.init(access, 1), plain.init(access, 1)
    for _ in range(5):
        a, _ = one.step(a, access)
        b, _ = plain.step(b, access)
    assert_allclose(a.theta, b.theta, atol=1e-14)


@pytest.mark.parametrize("method", ALL)
def test_resume_is_exact(method):
    settings = {"truncation": 6, "gamma0": 0.3, "batch": 2}
    run = assert_resume_exact(
        lambda: method(one_logit_per_state(2), **settings), lambda: Online(two_state()).replicate(3), 4
    )
    assert run.state.t == 8
    assert run.policy.pi.shape == (3, 2, 2)


def test_episodes_are_counted():
    access = Online(two_state()).replicate(2)
    method = Harpg(one_logit_per_state(2), truncation=6, batch=3)
    state = method.init(access, 0)
    for _ in range(3):
        state, _ = method.step(state, access)
    assert access.meter.episodes.tolist() == [15, 15]  # one batch, then two a step


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma0": 0.0}, "gamma0 = 0"), ({"gamma0": np.inf}, "gamma0 = inf"), ({"eta0": 0.0}, "eta0 = 0"),
        ({"eta0": 1.1}, "eta0 = 1"), ({"batch": 0}, "batch = 0"), ({"truncation": 0}, "truncation = 0"),
    ],
)  # fmt: skip
def test_settings_out_of_range(settings, message):
    with pytest.raises(SettingError, match=message):
        NPgIgt(one_logit_per_state(2), **{"truncation": 5, **settings})


def test_unknown_names_and_wrong_numbers_of_rows():
    with pytest.raises(UnknownNameError, match="theorem"):
        NPgIgt(one_logit_per_state(2), 5, schedule="theorems")
    with pytest.raises(UnknownNameError, match="reinforce"):
        NPgIgt(one_logit_per_state(2), 5, estimator="reinforced")
    with pytest.raises(SettingError, match="period = 0"):
        SrvrPg(one_logit_per_state(2), 5, period=0)
    with pytest.raises(SettingError, match="k = 0"):
        IsMbpg(one_logit_per_state(2), 5, k=0.0)
    two = one_logit_per_state(2).with_theta(torch.zeros(2, 2).double())
    with pytest.raises(SettingError, match="3 replicas"):
        NPgIgt(two, 5).init(Online(two_state()).replicate(3), 0)
    with pytest.warns(UserWarning, match="first normalised step"):
        NPgIgt(one_logit_per_state(2), 5, gamma0=30.0)
