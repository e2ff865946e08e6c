"""Networks: the surrogate's derivatives are those of the exact problem, on tables that a network can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from polytheory.access import Online
from polytheory.conformance.resume import assert_resume_exact
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models import TabularMDP, make
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


def exact_curvature(term, theta, r, world):
    """``-hess V`` or ``tau F_x`` in closed form."""
    if term == "implicit":
        return -bilevel.lower_derivatives(world.P, world.mu, r, theta, gamma=world.gamma, tau=CASE.tau).hessian
    pi, z = np.full((S, A), 1 / A), bilevel.scores_of(np.full((S, A), 1 / A))
    x = np.linalg.solve(np.eye(S) - world.gamma * np.einsum("sa,say->sy", pi, world.P).T, world.mu)
    return CASE.tau * np.einsum("s,sa,sad,sae->de", x, pi, z, z)


def off_the_exact_term(term, **parts):
    """How far the distribution term of every trajectory is from a linear solve, at logits that are no optimum."""
    world, r = world_of(CASE.model), CASE.features @ CASE.nu
    theta = np.zeros((S, A))
    policy, reward = tables(theta, r)
    made = type("Changed", (DeepParl,), parts)
    learner = made(policy, reward, tau=CASE.tau, damping=0.25, cg_steps=50, term=term)
    access = Online(CASE.model).replicate(1)
    b = np.linspace(0.5, -1, S * A).reshape(S, A)
    b -= b.mean(axis=1, keepdims=True)
    found = learner.distribution_term(learner.init(access, 0), whole_batch(), torch.tensor(b.ravel()), world.gamma)
    z = np.linalg.solve(0.25 * np.eye(S * A) + exact_curvature(term, theta, r, world), b.ravel()).reshape(S, A)
    exact = bilevel.mixed_pullback(world.P, world.mu, np.eye(S * A).reshape(S, A, S * A), theta, z, gamma=world.gamma)
    assert np.abs(exact).max() > 0.05
    return np.abs(found.numpy() - exact).max()


# the baseline of a row leaves that row out: a mean over all but one of ROWS, off by a part of 1 / ROWS
@pytest.mark.parametrize("term", ["implicit", "fisher"])
def test_the_distribution_term_is_the_exact_one(term):
    assert off_the_exact_term(term) < 10 / ROWS


FISHER = DeepParl.fisher


@pytest.mark.parametrize(
    "wrong",
    [
        lambda self, theta, traj, gamma: FISHER(self, theta, traj, 1.0),
        lambda self, theta, traj, gamma: lambda p: -FISHER(self, theta, traj, gamma)(p),
        lambda self, theta, traj, gamma: lambda p: FISHER(self, theta, traj, gamma)(p) / self.tau,
        lambda self, theta, traj, gamma: lambda p: 0 * p,
    ],
    ids=["no discount", "sign", "no temperature", "identity"],
)
def test_a_wrong_fisher_matrix_is_seen(wrong):
    assert off_the_exact_term("fisher", fisher=wrong) > 3 * 10 / ROWS


def small_learner(**settings):
    """Tables of size 9 on the grid after some steps, and another batch."""
    model, _ = grid()
    zeros = np.zeros((model.S, model.A))
    policy, reward = (StateNetwork(Table(zeros), model.S) for _ in range(2))
    learner = DeepParl(
        policy, reward, **{"truncation": 6, "lower_steps": 2, "lower_batch": 8, "alpha": 0.1, **settings}
    )
    access = Online(model).replicate(1)
    state = learner.init(access, 1)
    while state.t < 6:
        state, _ = learner.step(state, access)
    return learner, state, learner.sample(state, access, "another", 16)


def test_only_the_fisher_matrix_is_definite_in_every_batch():
    learner, state, traj = small_learner()
    theta = state.theta.clone().requires_grad_()
    L = learner.surrogate(theta, state.nu, traj, 0.9)
    slope = torch.autograd.grad(L, theta, create_graph=True)[0][0]
    fisher, eye = learner.fisher(state.theta, traj, 0.9), torch.eye(theta.numel(), dtype=torch.float64)
    H = torch.stack([torch.autograd.grad((slope * e).sum(), theta, retain_graph=True)[0][0] for e in eye])
    F = torch.stack([fisher(e) for e in eye])
    largest = float(torch.linalg.eigvalsh(F).max())
    assert float(torch.linalg.eigvalsh(F).min()) > -1e-13 * largest  # rounding of an eigenvalue that is 0
    assert largest > 0.01
    assert float(torch.linalg.eigvalsh(-H).min()) < -0.01


def constant_part(**parts):
    """Derivative of the term along a reward of 1 everywhere, as a part of its length, from a batch of whole episodes."""
    learner, state, traj = small_learner()
    made = type("Changed", (DeepParl,), parts)(learner.policy, learner.reward, truncation=6)
    found = made.distribution_term(state, traj, torch.cos(torch.arange(36.0, dtype=torch.float64)), 0.9)
    return abs(float(found.sum())) / float(torch.linalg.vector_norm(found))


def test_a_constant_reward_has_no_hypergradient_in_any_batch():
    """All episodes are equally long, so that a constant earns each of them the same, and the baseline takes it away."""

    def without_nu(self, theta, nu, traj, gamma):
        whole = DeepParl.surrogate(self, theta, nu, traj, gamma)
        log_pi = self.log_probs(theta, traj)
        returns = (self.rewards(nu, traj) * 0.9 ** torch.arange(6)).flip(1).cumsum(1).flip(1)
        own = 1 - (log_pi - log_pi.detach()).exp()
        others = (returns.sum(0) - returns) / (len(returns) - 1)
        return whole - ((others - others.detach()) * own).sum(1).mean()

    assert constant_part() < 1e-12  # rounding
    assert constant_part(surrogate=without_nu) > 0.01


def grid():
    """Started anywhere: a policy that never sees the goal gets ties from the teacher, and learns nothing from them."""
    cells, made = (
        np.array([divmod(s, 3) for s in range(9)]) - 1.0,
        make("gridworld", rows=3, columns=3, terminal_goal=False),
    )
    return TabularMDP(made.P, made.r, np.full(9, 1 / 9), gamma=0.9), cells


@pytest.mark.parametrize("seed", [3, 4])
def test_networks_learn_from_choices(seed):
    model, cells = grid()
    networks = [StateNetwork(CoordinateNetwork(cells, model.A, 16, seed=i), model.S) for i in (0, 1)]
    learner = DeepParl(*networks, tau=0.2, truncation=8, lower_rate=0.04, alpha=0.02, lower_steps=8, lower_batch=16)
    access = Online(model).replicate(1)
    state = learner.init(access, seed)
    while state.t < 10:
        state, info = learner.step(state, access)
    assert info == {"labels": 10 * 16, "iterations": 10}
    assert torch.isfinite(state.nu).all()
    # halfway at least from the uniform policy to the best reward there is, 0 in the goal and -1 elsewhere
    best = -np.mean([(1 - 0.9**d) / 0.1 for d in 2 - cells.sum(axis=1)])  # d steps to the goal in the last corner
    before = return_of(model, TabularPolicy.uniform(model.S, model.A))
    table = learner.policy.with_theta(state.theta).table()[0].numpy()
    assert return_of(model, TabularPolicy(table)) > (before + best) / 2


def test_the_term_is_what_the_ablation_leaves_out():
    model, cells = grid()
    networks = [StateNetwork(CoordinateNetwork(cells, model.A, 8, seed=i), model.S) for i in (0, 1)]
    slopes = {}
    for term in ("fisher", "implicit", "identity", "none"):
        learner = DeepParl(*networks, truncation=4, lower_steps=1, lower_batch=4, term=term)
        access = Online(model).replicate(1)
        state = learner.init(access, 0)
        while state.t < 3:
            state, _ = learner.step(state, access)
        slopes[term] = state.gradient
    assert all(not torch.equal(slopes[a], slopes["none"]) for a in ("fisher", "implicit", "identity"))


def test_resumes_exactly_and_steps_are_functions_of_the_state():
    model, cells = grid()

    def learner():
        networks = [StateNetwork(CoordinateNetwork(cells, model.A, 8, seed=i), model.S) for i in (0, 1)]
        return DeepParl(*networks, truncation=4, lower_steps=1, lower_batch=4, upper_batch=4, curvature_batch=4)

    def access():
        return Online(model).replicate(1)

    whole = assert_resume_exact(
        learner, access, 5, seed=2
    )  # stopped before an upper step, with Adam's moments under way
    assert whole.state.t == 5
    again = [learner().step(whole.state, access())[0] for _ in range(2)]
    assert torch.equal(again[0].theta, again[1].theta)
    assert not torch.equal(again[0].theta, whole.state.theta)


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
