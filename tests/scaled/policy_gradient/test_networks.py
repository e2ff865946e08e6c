"""Networks learn on CartPole, and a resumed run is the run that was never stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from polytheory.access import Key, Requests
from polytheory.access.gymnasium import VectorEnvs
from polytheory.conformance.resume import assert_resume_exact
from polytheory.scaled.policy_gradient.harpg import Harpg
from polytheory.scaled.policy_gradient.n_pg_igt import NPgIgt
from polytheory.scaled.policy_gradient.torch_policy import TorchPolicy
from polytheory.streams import row_ids

# each of the two tests below would pass with this probability if training did not change the law of the return
LEVEL = 1e-4


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))


def returns(policy, access):
    """Undiscounted returns of 64 fresh episodes: independent of the training ones."""
    rows = Requests(row_ids(0, np.arange(64)), 100)
    return access.rollouts(policy, rows, Key(0, "evaluation", 0)).rewards.sum(1).numpy()


@pytest.mark.parametrize(("method", "gamma0"), [(NPgIgt, 0.3), (Harpg, 0.002)])
def test_cartpole_is_learnt(method, gamma0):
    access = VectorEnvs("CartPole-v1", 16)
    algorithm = method(TorchPolicy(network()), truncation=100, gamma0=gamma0, batch=16)
    state = algorithm.init(access, 0)
    before = returns(algorithm.policy(state), access)
    for _ in range(15):
        state, _ = algorithm.step(state, access)
    after = returns(algorithm.policy(state), access)
    assert mannwhitneyu(after, before, alternative="greater").pvalue < LEVEL
    assert np.median(after) > np.median(before)


@pytest.mark.parametrize("method", [NPgIgt, Harpg])
def test_resume_is_exact(method):
    run = assert_resume_exact(
        lambda: method(TorchPolicy(network()), truncation=10, gamma0=0.01, batch=2),
        lambda: VectorEnvs("CartPole-v1", 2),
        2,
    )
    assert run.state.theta.shape == (1, 4 * 32 + 32 + 32 * 2 + 2)
