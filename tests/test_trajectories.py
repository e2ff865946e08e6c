"""Trajectories and the powers of the discount."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.conformance import strategies
from polytheory.trajectories import Trajectories, discounts


@given(rows=strategies.trajectories())
def test_sizes_are_those_of_the_mask(rows):
    assert rows.n == len(rows.actions)
    assert_array_equal(rows.lengths, [sum(map(bool, row)) for row in rows.mask])


def test_the_same_struct_holds_tensors_and_missing_columns():
    mask = torch.tensor([[True, False], [False, False]])
    rows = Trajectories(None, torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2), mask)
    assert rows.n == 2
    assert rows.lengths.tolist() == [1, 0]
    assert rows.states is rows.log_probs_sampler is rows.score is None
    assert rows.columns == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        rows.rewards = mask


def test_columns_are_not_shared():
    make = lambda: Trajectories(None, np.zeros((1, 1), dtype=int), np.zeros((1, 1)), np.ones((1, 1), dtype=bool))  # noqa: E731
    first, second = make(), make()
    first.columns["log_probs_old"] = np.zeros((1, 1))
    assert second.columns == {}


@given(gamma=st.sampled_from([0.0, 0.3, 0.9, 0.999, 1.0]), t=st.integers(0, 30))
def test_discounts_are_repeated_products(gamma, t):
    """`power` is right to about one rounding, the running product to t of them."""
    expected, factor = [], 1.0
    for _ in range(t):
        expected.append(factor)
        factor *= gamma
    assert_allclose(discounts(gamma, t), expected, rtol=(t + 2) * 2.0**-53, atol=0)
    if 0 < gamma < 1 and t > 1:  # a shift by one step is told apart
        shifted = discounts(gamma, t + 1)[1:]
        assert np.abs(shifted - expected).max() >= 0.99 * (1 - gamma)


def test_zero_discount_keeps_the_first_reward():
    assert_array_equal(discounts(0.0, 3), [1.0, 0.0, 0.0])
