"""Networks: the surrogate's derivatives are those of the exact problem, on tables that a network can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from polytheory.access import Online
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models import make
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.alignment.instances import two_layers
from polytheory.reference.alignment import bilevel
from polytheory.reference.planning.planning import return_of
from polytheory.reference.policy_gradient.exact import enumerate_trajectories
from polytheory.reference.policy_gradient.softmax import TabularSoftmax
from polytheory.reward_design import world_of
from polytheory.scaled.alignment.deep import CoordinateNetwork, DeepParl, StateNetwork
from polytheory.trajectories import Trajectories

CASE = two_layers()
S, A = 4, 2
ROWS = 2**14  # copies of enumerated trajectories: probabilities of the instance below are multiples of 1 / 2^14


class Table(torch.nn.Module):
    """One number for each state and action: the network whose derivatives are known in closed form."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))

    def forward(self, states):
        return self.values[states]


def tables(theta, r):
    return StateNetwork(Table(theta), S), StateNetwork(Table(r), S)


def whole_batch():
    """Every trajectory as often as it is likely, under the uniform policy of an episode of two steps."""
    p, traj = enumerate_trajectories(CASE.model, TabularSoftmax.zeros(S, A), 2)
    counts = p * ROWS
    assert_allclose(counts, counts.round(), atol=1e-9)
    chosen = np.repeat(np.arange(len(p)), counts.round().astype(int))
    columns = (traj.states, traj.actions, traj.rewards, traj.mask)
    return Trajectories(*(torch.from_numpy(np.asarray(x)[chosen]) for x in columns))


def test_the_surrogate_has_the_exact_derivatives():
    world, r = world_of(CASE.model), CASE.features @ CASE.nu
    theta = np.zeros((S, A))
    policy, reward = tables(theta, r)
    learner = DeepParl(policy, reward, tau=CASE.tau)
    traj = whole_batch()
    at, nu = policy.theta.requires_grad_(), reward.theta.requires_grad_()
    slope = torch.autograd.grad(learner.surrogate(at, nu, traj, world.gamma), at, create_graph=True)[0][0]
    low = bilevel.lower_derivatives(world.P, world.mu, r, theta, gamma=world.gamma, tau=CASE.tau)
    # the baseline of a row leaves that row out: a mean over all but one of ROWS, off by a part of 1 / ROWS
    assert_allclose(slope.detach(), low.gradient.ravel(), atol=10 / ROWS)
    u = torch.linspace(-1, 1, S * A, dtype=torch.float64)
    hvp = torch.autograd.grad((slope * u).sum(), at, retain_graph=True)[0][0]
    assert_allclose(hvp, low.hessian @ u.numpy(), atol=10 / ROWS)
    mixed = torch.autograd.grad((slope * u).sum(), nu)[0][0]
    by_reward = np.eye(S * A).reshape(S, A, S * A)
    exact = bilevel.mixed_pullback(world.P, world.mu, by_reward, theta, u.numpy().reshape(S, A), gamma=world.gamma)
    assert_allclose(mixed, exact, atol=10 / ROWS)


def test_the_distribution_term_is_the_exact_one():
    """At logits that are no optimum: the Hessian and the mixed derivative are those of the place."""
    world, r = world_of(CASE.model), CASE.features @ CASE.nu
    theta = np.zeros((S, A))
    policy, reward = tables(theta, r)
    learner = DeepParl(policy, reward, tau=CASE.tau, damping=0.5, cg_steps=50)
    access = Online(CASE.model).replicate(1)
    b = np.linspace(0.5, -1, S * A).reshape(S, A)
    b -= b.mean(axis=1, keepdims=True)
    found = learner.distribution_term(learner.init(access, 0), whole_batch(), torch.tensor(b.ravel()), world.gamma)
    low = bilevel.lower_derivatives(world.P, world.mu, r, theta, gamma=world.gamma, tau=CASE.tau)
    z = np.linalg.solve(0.5 * np.eye(S * A) - low.hessian, b.ravel()).reshape(S, A)
    exact = bilevel.mixed_pullback(world.P, world.mu, np.eye(S * A).reshape(S, A, S * A), theta, z, gamma=world.gamma)
    assert np.abs(exact).max() > 0.05
    assert_allclose(found, exact, atol=10 / ROWS)


def grid():
    cells = np.array([divmod(s, 3) for s in range(9)]) - 1.0
    return make("gridworld", rows=3, columns=3, gamma=0.9, terminal_goal=False), cells


def test_networks_learn_from_choices():
    model, cells = grid()
    networks = [StateNetwork(CoordinateNetwork(cells, model.A, 16, seed=i), model.S) for i in (0, 1)]
    learner = DeepParl(*networks, tau=0.2, truncation=8, lower_rate=0.05, alpha=0.02, lower_steps=5, lower_batch=16)
    access = Online(model).replicate(1)
    state = learner.init(access, 3)
    while state.t < 12:
        state, info = learner.step(state, access)
    assert info == {"labels": 12 * 16, "iterations": 12}
    assert torch.isfinite(state.nu).all()
    before = return_of(model, TabularPolicy.uniform(model.S, model.A))
    table = learner.policy.with_theta(state.theta).table()[0].numpy()
    assert return_of(model, TabularPolicy(table)) > before


def test_the_term_is_what_the_ablation_leaves_out():
    model, cells = grid()
    networks = [StateNetwork(CoordinateNetwork(cells, model.A, 8, seed=i), model.S) for i in (0, 1)]
    slopes = {}
    for term in ("implicit", "identity", "none"):
        learner = DeepParl(*networks, truncation=4, lower_steps=1, lower_batch=4, term=term)
        access = Online(model).replicate(1)
        state = learner.init(access, 0)
        while state.t < 3:
            state, _ = learner.step(state, access)
        slopes[term] = state.gradient
    assert all(not torch.equal(slopes[a], slopes[b]) for a, b in (("implicit", "none"), ("identity", "none")))


def test_bad_settings():
    networks = tables(np.zeros((S, A)), np.zeros((S, A)))
    for settings, message in (
        ({"tau": 0.0}, "tau"),
        ({"upper_batch": 1}, "upper_batch"),
        ({"damping": -1.0}, "damping"),
    ):
        with pytest.raises(SettingError, match=message):
            DeepParl(*networks, **settings)
    with pytest.raises(UnknownNameError, match="implicit"):
        DeepParl(*networks, term="hessian")
    with pytest.raises(SettingError, match="replicate"):
        DeepParl(*networks).init(Online(CASE.model).replicate(2), 0)
    assert replace(DeepParl(*networks), tau=0.3).tau == 0.3
