"""Advantages: both rooms agree on generated groups, order does not matter, groups too small are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from posttraining_batches import batches, rows_of, tensors

from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.reference.posttraining import advantages as reference
from polytheory.scaled.posttraining import advantages as scaled

CALLS = [
    ("group_advantages", {}),
    ("group_advantages", {"ddof": 0, "eps": 0.0}),
    ("group_advantages", {"scale": "none"}),
    ("group_advantages", {"scale": "batch", "eps": 1e-6}),
    ("rloo_advantages", {}),
    ("reinforce_advantages", {"baseline": 0.25}),
    ("gae_advantages", {"gamma": 0.9, "lam": 0.8}),
]


@pytest.mark.parametrize(("name", "settings"), CALLS)
@given(columns=batches(), seed=st.integers(0, 99))
def test_rooms_agree_and_order_does_not_matter(name, settings, columns, seed):
    a = getattr(reference, name)(columns, **settings)["advantages"]
    b = getattr(scaled, name)(tensors(columns), **settings)["advantages"]
    assert b.dtype == torch.float64
    assert_allclose(a, b.numpy(), rtol=1e-12, atol=1e-13)
    order = np.random.default_rng(seed).permutation(len(columns["mask"]))
    moved = getattr(reference, name)(rows_of(columns, order), **settings)["advantages"]
    assert_allclose(moved, a[order], rtol=1e-12, atol=1e-13)


@given(columns=batches())
def test_returns_are_what_values_should_be(columns):
    found = reference.gae_advantages(columns)
    to_go = np.where(columns["mask"], columns["score"][:, None], 0.0)  # gamma = lambda = 1: the score, from everywhere
    assert_allclose(np.where(columns["mask"], found["returns"], 0.0), to_go, rtol=0, atol=1e-12)


def test_the_batch_deviation_is_over_all_scores():
    columns = {"score": np.array([0.0, 1.0, 4.0, 4.0]), "group": np.array([0, 0, 1, 1])}
    a = reference.group_advantages(columns, scale="batch", eps=0.0)["advantages"]
    assert_allclose(a, np.array([-0.5, 0.5, 0, 0]) / np.std(columns["score"], ddof=1), rtol=1e-14)


@pytest.mark.parametrize("room", [reference, scaled])
def test_refusals(room):
    alone = {"score": np.array([0.0, 1.0, 1.0]), "group": np.array([3, 5, 3])}
    alone = tensors(alone) if room is scaled else alone
    for part in (room.group_advantages, room.rloo_advantages):
        with pytest.raises(ColumnError, match=r"group 5 has 1 completion\(s\), the baseline needs 2"):
            part(alone)
    with pytest.raises(UnknownNameError, match="did you mean 'group'"):
        room.group_advantages(alone, scale="groups")
    with pytest.raises(SettingError, match="ddof is 0 or 1"):
        room.group_advantages(alone, ddof=2)
    with pytest.raises(SettingError, match=r"lam = 1\.5"):
        room.gae_advantages(alone, lam=1.5)
    with pytest.raises(ColumnError, match="column 'score' is missing"):
        room.rloo_advantages({})
