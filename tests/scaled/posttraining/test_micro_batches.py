"""Micro-batches in both rooms: what is never split, and that no split changes a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from polytheory import models
from polytheory.access import Online
from polytheory.errors import SettingError
from polytheory.reference.posttraining import copg as reference_copg
from polytheory.reference.posttraining import grpo as reference_grpo
from polytheory.reference.posttraining import micro_batches as reference
from polytheory.reference.posttraining.softmax import TabularSoftmax
from polytheory.run import run
from polytheory.scaled.posttraining import copg as scaled_copg
from polytheory.scaled.posttraining import grpo as scaled_grpo
from polytheory.scaled.posttraining import micro_batches as scaled
from polytheory.scaled.posttraining.softmax import TabularSoftmax as Batched

MODEL = models.make("token-mdp", reward="ones-minus-half-length")
METHODS = {
    "grpo": ("Grpo", {"prompts": 4, "group_size": 2, "updates": 2}),
    "token mean": ("Grpo", {"prompts": 5, "group_size": 2, "normalisation": "token_mean", "beta": 0.0}),
    "gspo": ("Grpo", {"prompts": 3, "group_size": 3, "surrogate": "gspo"}),
    "refilled": ("Grpo", {"prompts": 3, "group_size": 2, "dynamic": True, "rounds": 2, "beta": 0.0}),
    "copg": ("Copg", {"prompts": 3, "group_size": 3}),
}


@st.composite
def tables(draw):
    """Groups in any order, sometimes bundles of groups, sometimes pairs across them."""
    n = draw(st.integers(1, 12))
    group = np.array(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    columns = {"mask": np.ones((n, 2), dtype=bool), "group": group if draw(st.booleans()) else np.sort(group)}
    if draw(st.booleans()):
        columns["bundle"] = columns["group"] // 2
    if draw(st.booleans()):
        rows = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
        columns["pairs"] = np.array(draw(st.lists(rows, max_size=5)), dtype=np.int64).reshape(-1, 2)
    return columns


def of_rooms(columns, size):
    """The micro-batches of either room, as NumPy."""
    inward = {name: torch.as_tensor(x) for name, x in columns.items()}
    theirs = [{k: x.numpy() for k, x in part.items()} for part in scaled.micro_batches(inward, size)]
    return {"reference": list(reference.micro_batches(columns, size)), "scaled": theirs}


@given(columns=tables(), size=st.integers(1, 13))
def test_no_unit_is_split_and_no_row_lost(columns, size):
    columns["row"] = np.arange(len(columns["mask"]))
    found = of_rooms(columns, size)
    for parts in found.values():
        assert [r for part in parts for r in part["row"].tolist()] == columns["row"].tolist()
        for name in {"group", "bundle"} & set(columns):
            owners = [set(part[name].tolist()) for part in parts]
            assert sum(map(len, owners)) == len(set(columns[name].tolist()))
        if "pairs" in columns:
            pairs = [part["row"][part["pairs"]] for part in parts]
            assert sorted(np.concatenate(pairs).tolist()) == sorted(columns["pairs"].tolist())
    assert [len(p["row"]) for p in found["reference"]] == [len(p["row"]) for p in found["scaled"]]


@given(columns=tables(), size=st.integers(1, 13))
def test_pieces_are_as_large_as_they_may_be(columns, size):
    """Greedy: two neighbours never fit into one; a piece beyond the size has no cut inside."""
    stops = reference.uncut(columns)
    parts = [len(p["mask"]) for p in reference.micro_batches(columns, size)]
    ends = np.cumsum(parts).tolist()
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        inside = [s for s in stops if begin < s < end]
        assert end - begin <= size or not inside
        following = [s for s in stops if s > end]
        assert not following or following[0] - begin > size


def made(room, method, **more):
    name, settings = METHODS[method]
    modules = {"Grpo": (reference_grpo, scaled_grpo), "Copg": (reference_copg, scaled_copg)}[name]
    module, policy = (modules[0], TabularSoftmax) if room == "reference" else (modules[1], Batched)
    return getattr(module, name)(policy=policy.zeros(MODEL.S, MODEL.A), step_size=1.0, **settings, **more)


@pytest.mark.parametrize("room", ["reference", "scaled"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 4])
def test_runs_do_not_depend_on_the_split(room, method, size):
    def theta(**more):
        access = Online(MODEL) if room == "reference" else Online(MODEL).replicate(2)
        end = run(made(room, method, **more), access, steps=6, seed=1)
        return np.asarray(end.state.theta), end.history.column("loss")

    for whole, pieced in zip(theta(), theta(micro_batch_size=size), strict=True):
        # six steps of sums in another order, some hundred terms of size 1 and below
        assert_allclose(pieced, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("room", ["reference", "scaled"])
def test_an_empty_micro_batch_is_refused(room):
    with pytest.raises(SettingError, match="micro_batch_size = 0"):
        made(room, "grpo", micro_batch_size=0)
