"""Block MDPs: observations decode, and the observed process is the latent one seen through its emissions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from model_oracles import dense, policy_value
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.conformance import strategies
from polytheory.errors import ModelError, NotStochasticError, ShapeError
from polytheory.models import BlockMDP, RewardAtoms, TabularMDP, make

LATENT = make("two-state")


@given(block=strategies.block_mdps())
def test_decoding_inverts_emission(block):
    for s, x in np.argwhere(block.emission > 0):
        assert block.decode(np.array([x]))[0] == s


@given(block=strategies.block_mdps())
def test_values_are_those_of_the_latent_state(block):
    """Observations of one latent state have its value under every policy that looks at the latent state only."""
    observed, latent = block.to_tabular(), block.decode(np.arange(block.X))
    scale = 1 / (1 - block.latent.gamma)
    for a in range(block.latent.A):
        mine = policy_value(observed, np.full(block.X, a))
        hidden = policy_value(block.latent, np.full(block.latent.S, a))
        # a solve with condition number at most 2 / (1 - gamma), values at most 1 / (1 - gamma)
        assert_allclose(mine, hidden[latent], rtol=0, atol=1e-14 * scale**2)


@given(block=strategies.block_mdps())
def test_start_and_moves_lump_to_the_latent_ones(block):
    observed, latent = block.to_tabular(), block.decode(np.arange(block.X))
    lump = np.eye(block.latent.S)[latent]
    assert_allclose(observed.mu @ lump, block.latent.mu, rtol=0, atol=1e-15)
    assert_allclose(dense(observed) @ lump, dense(block.latent)[latent], rtol=0, atol=1e-15)
    for x, a in np.ndindex(block.X, observed.A):
        if not observed.terminal[x]:  # within a latent state, observations come by the emission
            expected = dense(block.latent)[latent[x], a][latent] * block.emission[latent, np.arange(block.X)]
            assert_allclose(dense(observed)[x, a], expected, rtol=0, atol=1e-15)


def test_staged_and_sparse_latent_models():
    staged = TabularMDP(np.stack([LATENT.P, LATENT.P[::-1]]), LATENT.r, LATENT.mu, horizon=2)
    block = BlockMDP(staged, np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    observed = block.to_tabular()
    assert observed.is_staged
    assert_allclose(observed.P[1, 0, 0], [0.35, 0.35, 0.3], rtol=1e-15)
    river = make("river", S=3)
    assert_array_equal(dense(BlockMDP(river, np.eye(3)).to_tabular()), dense(river))


@pytest.mark.parametrize(
    ("emission", "error", "message"),
    [
        ([[0.5, 0.5], [0.0, 1.0]], ModelError, r"observation 1 is emitted by latent states \[0, 1\]"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], ModelError, r"observation 2 is emitted by latent states \[\]"),
        ([[0.9, 0.0], [0.0, 1.0]], NotStochasticError, r"emission\[0\] sums to 0\.9"),
        ([[1.0]], ShapeError, r"emission must be \[S, X\] with S = 2; got \[1, 1\]"),
    ],
)
def test_bad_emissions(emission, error, message):
    with pytest.raises(error, match=message):
        BlockMDP(LATENT, np.array(emission))


def test_rewards_that_observations_would_hide_are_refused():
    by_transition = TabularMDP(LATENT.P, np.zeros((2, 2, 2)), LATENT.mu, gamma=0.9)
    law = RewardAtoms(np.zeros(1), np.ones((2, 2, 1)))
    by_chance = TabularMDP(LATENT.P, np.zeros((2, 2)), LATENT.mu, gamma=0.9, reward_law=law)
    for latent in (by_transition, by_chance, make("cliffwalking"), make("taxi")):
        with pytest.raises(ModelError, match="pays by transition or by chance"):
            BlockMDP(latent, np.eye(latent.S))
