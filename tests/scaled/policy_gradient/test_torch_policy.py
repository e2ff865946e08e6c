"""Networks as policies: batch means by automatic differentiation against sums over samples, and weights put back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polytheory.access import Key, Requests
from polytheory.access.gymnasium import VectorEnvs
from polytheory.errors import PolicyError, SettingError
from polytheory.scaled.policy_gradient.estimators import rewards_to_go
from polytheory.scaled.policy_gradient.means import mean_hvp, mean_hvp_backward, mean_hvp_forward, mean_pg
from polytheory.scaled.policy_gradient.n_pg_igt import NPgIgt
from polytheory.scaled.policy_gradient.torch_policy import TorchPolicy, flat_parameters
from polytheory.streams import row_ids
from polytheory.trajectories import Trajectories


def network(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).to(dtype)


def batch(n=5, t=6, seed=1):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([6, 3, 1, 0, 5])[:n]
    return Trajectories(
        torch.randn(n, t, 4, generator=g).double(), torch.randint(3, (n, t), generator=g),
        torch.randn(n, t, generator=g).double(), torch.arange(t)[None] < lengths[:, None],
    )  # fmt: skip


def by_sample(policy, traj, u, gamma):
    """One trajectory at a time, Hessian of its surrogate formed in full: the slow oracle."""
    total = torch.zeros_like(u)
    gs, ss = [], []
    for i in range(traj.n):
        k = int(traj.mask[i].sum())
        psi = [sum(gamma**h * float(traj.rewards[i, h]) for h in range(t, k)) for t in range(k)]

        def log_p(theta, i=i, k=k):
            return policy.with_theta(theta[None]).log_probs(traj.states[i : i + 1, :k], traj.actions[i : i + 1, :k])[0]

        def phi(theta, log_p=log_p, psi=psi):
            return (log_p(theta) * torch.tensor(psi, dtype=torch.float64)).sum()

        theta = policy.theta[0].detach()
        g = torch.autograd.functional.jacobian(phi, theta)
        s = torch.autograd.functional.jacobian(lambda x, log_p=log_p: log_p(x).sum(), theta) @ u[0]
        total[0] += g * s + torch.autograd.functional.hessian(phi, theta) @ u[0]
        gs.append(g)
        ss.append(s)
    return torch.stack(gs).mean(0), total / traj.n, torch.stack(gs).mean(0) * torch.stack(ss).mean()


def test_means_are_means_over_samples():
    policy, traj, gamma = TorchPolicy(network()), batch(), 0.9
    u = torch.randn(1, policy.theta.shape[1], generator=torch.Generator().manual_seed(3)).double()
    g, Bu, product_of_means = by_sample(policy, traj, u, gamma)
    # sums of some hundred terms of size 1 in float64
    assert_close(mean_pg(policy, traj, gamma=gamma)[0], g, rtol=1e-12, atol=1e-13)
    for route in (mean_hvp, mean_hvp_forward, mean_hvp_backward):
        assert_close(route(policy, traj, u, gamma=gamma), Bu, rtol=1e-12, atol=1e-13)
    # the product of batch means, a known mistake, is far away
    psi = rewards_to_go(traj.rewards, traj.mask, gamma=gamma)
    curvature = policy.hvp_sum(traj.states, traj.actions, psi, u).mean(0)
    assert (curvature + product_of_means - Bu[0]).abs().max() > 1e-2


def test_layers_without_forward_mode():
    net = network()
    fast, slow = TorchPolicy(net), TorchPolicy(net, forward_mode=False)
    u = torch.ones_like(fast.theta)
    assert slow.with_theta(slow.theta).forward_mode is False
    assert_close(mean_hvp(slow, batch(), u, gamma=0.9), mean_hvp(fast, batch(), u, gamma=0.9), rtol=1e-12, atol=1e-13)


def test_rows_are_weighted():
    policy, traj = TorchPolicy(network()), batch()
    w = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0]).double()
    rows = policy.score_sum(traj.states, traj.actions, rewards_to_go(traj.rewards, traj.mask, gamma=0.9))
    expected = (w[:, None] * rows).mean(0)
    assert_close(mean_pg(policy, traj, gamma=0.9, row_weights=w)[0], expected, rtol=1e-12, atol=1e-13)


def test_other_parameters_leave_the_module_alone():
    net = network()
    policy = TorchPolicy(net)
    before = flat_parameters(net.parameters())
    other = policy.with_theta(policy.theta + 1)
    obs = torch.ones(1, 4).double()
    assert not torch.allclose(other.probs(None, 0, obs), policy.probs(None, 0, obs))
    assert torch.equal(flat_parameters(net.parameters()), before)
    with policy.at(policy.theta + 1):
        assert_close(net(obs), other.logits(obs))
    assert torch.equal(flat_parameters(net.parameters()), before)
    other.commit()
    assert torch.equal(flat_parameters(net.parameters()), before + 1)


class Reads(VectorEnvs):
    """Notes the module's own weights while it samples; raises at a given call."""

    def __init__(self, net, fail_at=None):
        super().__init__("CartPole-v1", 2)
        self.net, self.fail_at, self.seen = net, fail_at, []

    def rollouts(self, policy, requests, key):
        self.seen.append(flat_parameters(self.net.parameters()))
        if len(self.seen) - 1 == self.fail_at:
            raise OSError("the sampler lost its connection")
        return super().rollouts(policy, requests, key)


def small_net():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 2)


def test_sampling_happens_at_the_lookahead_and_weights_come_back():
    net = small_net()
    own = flat_parameters(net.parameters())
    access = Reads(net, fail_at=2)
    method = NPgIgt(TorchPolicy(net), truncation=20, batch=2, gamma0=0.5)
    state = method.init(access, 0)
    states = [state]
    for _ in range(2):
        state, _ = method.step(state, access)
        states.append(state)
        assert torch.equal(flat_parameters(net.parameters()), own)
    with pytest.raises(OSError, match="lost its connection"):
        method.step(state, access)
    assert torch.equal(flat_parameters(net.parameters()), own), "weights must come back when sampling raises"
    for t, (s, seen) in enumerate(zip(states, access.seen, strict=True)):
        eta = (2 / (t + 2)) ** 0.8
        ahead = s.theta / eta + (1 - 1 / eta) * s.theta_prev  # the other form of the look-ahead
        assert_close(seen, ahead[0], rtol=1e-5, atol=1e-6)  # float32
        if t:
            assert (seen - s.theta[0]).abs().max() > 1e-2, "the sampler must not see the iterate itself"


def test_bad_input_is_named():
    net = small_net()
    with pytest.raises(PolicyError, match=r"\[1, 10\]"):
        TorchPolicy(net, torch.zeros(1, 3))
    frozen = small_net().requires_grad_(False)
    with pytest.raises(PolicyError, match="unfreeze"):
        TorchPolicy(frozen)

    class Two:
        replicas = 2

    with pytest.raises(SettingError, match="one replica"):
        NPgIgt(TorchPolicy(net), truncation=3).init(Two(), 0)


def test_frozen_parameters_stay_out_of_theta():
    net = network()
    net[0].requires_grad_(False)
    policy = TorchPolicy(net)
    assert policy.theta.shape == (1, 3 * 6 + 3)
    access_rows = Requests(row_ids(0, np.arange(2)), 3)
    assert access_rows.truncation == 3
    assert policy.log_probs(batch().states, batch().actions).shape == (5, 6)
    assert Key(0, "x", 0).step == 0
