"""RiskPO as a run: rooms in lock-step with their trackers, exact resume, permutations that belong to rows and are uniform."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from polytheory import models
from polytheory.access import Online
from polytheory.conformance.resume import assert_resume_exact
from polytheory.reference.posttraining.riskpo import LEVELS, RiskPo, TabularSoftmax
from polytheory.run import run
from polytheory.scaled.posttraining import riskpo as scaled
from polytheory.scaled.posttraining.riskpo import TabularSoftmax as Batched

MODEL = models.make("token-mdp", reward="ones-minus-half-length")
SMALL = {"prompts": 4, "bundle_size": 2, "group_size": 5, "step_size": 1.0}
VARIANTS = {
    "main": {},
    "easy": {"beta": 0.9, "credit": "std", "natural": True},
    "released": {"measure": "mvar_released", "surrogate": "ppo_clip", "normalisation": "token_mean", "shuffle": False},
    "cvar": {"measure": "cvar", "quantiles": "mix", "updates": 3},
    "mean": {"measure": "mean", "baseline": "bundle", "credit": "uniform"},
    "seeking": {"measure": "seeking", "baseline": "tracked", "credit": "score", "convention": "inf"},
    "all-levels": {"measure": "rvar", "alpha": 0.0, "beta": 1.0, "quantiles": "batch", "standardise": False},
    "single-prompts": {"bundle_size": 1},
    "rounds": {"rounds": 2},
}


def reference(replica, steps, **settings):
    made, access = RiskPo(policy=TabularSoftmax.zeros(MODEL.S, MODEL.A), **{**SMALL, **settings}), Online(MODEL)
    state = made.init(access, 3, replica)
    for _ in range(steps):
        state, _ = made.step(state, access)
    return state


def batched(**settings):
    return scaled.RiskPo(policy=Batched.zeros(MODEL.S, MODEL.A), **{**SMALL, **settings})


@pytest.mark.parametrize("variant", VARIANTS)
def test_rooms_run_in_lock_step(variant):
    made, access = batched(**VARIANTS[variant]), Online(MODEL).replicate(3)
    state = made.init(access, 3)
    for _ in range(10):
        state, _ = made.step(state, access)
    for i in range(3):
        alone = reference(i, 10, **VARIANTS[variant])
        # 10 steps of a few hundred roundings each
        assert_allclose(state.theta[i].numpy(), alone.theta, rtol=1e-11, atol=1e-12)
        assert_array_equal(
            state.memory[i]["risk_advantages"]["quantiles"].numpy(), alone.memory["risk_advantages"]["quantiles"]
        )


@pytest.mark.parametrize("room", ["reference", "scaled"])
def test_resume_is_exact_and_the_tracker_matters(room):
    def make():
        policy = TabularSoftmax if room == "reference" else Batched
        cls = RiskPo if room == "reference" else scaled.RiskPo
        return cls(policy=policy.zeros(MODEL.S, MODEL.A), **SMALL)

    def access():
        return Online(MODEL) if room == "reference" else Online(MODEL).replicate(2)

    whole = assert_resume_exact(make, access, 4, seed=5)
    memory = whole.state.memory if room == "reference" else whole.state.memory[1]
    q = np.asarray(memory["risk_advantages"]["quantiles"])
    assert q.shape == LEVELS.shape
    # a run that lost its tracker half way would end elsewhere
    made, world = make(), access()
    state = made.init(world, 5)
    for i in range(8):
        if i == 4:
            state = dataclasses.replace(state, memory={} if room == "reference" else [{}, {}])
        state, _ = made.step(state, world)
    assert np.abs(np.asarray(state.theta) - np.asarray(whole.state.theta)).max() > 1e-6


def columns_of(made, access, replica, step):
    state = made.init(access, 0, replica)
    state.t = step
    return made.sample_round(state, access, 0)


def test_permutations_are_uniform_and_independent():
    made = RiskPo(policy=TabularSoftmax.zeros(MODEL.S, MODEL.A), prompts=500, bundle_size=2, group_size=3)
    shuffle = np.concatenate([columns_of(made, Online(MODEL), 0, t)["shuffle"] for t in range(4)]).reshape(-1, 3)
    kinds = np.argsort(shuffle, axis=1) @ [100, 10, 1]
    counts = np.unique(kinds, return_counts=True)[1]
    assert len(counts) == 6
    # 2000 permutations of 6 kinds: chi^2 of 5 degrees of freedom, error level 1e-3
    assert ((counts - 2000 / 6) ** 2 / (2000 / 6)).sum() < 20.5
    pairs = np.unique(np.stack([kinds[0::2], kinds[1::2]], axis=1), axis=0, return_counts=True)[1]
    assert len(pairs) == 36
    # 1000 pairs of 36 kinds: 35 degrees of freedom, error level 1e-3
    assert ((pairs - 1000 / 36) ** 2 / (1000 / 36)).sum() < 66.6


def test_shuffles_belong_to_rows():
    """The same completion has the same place whatever else is sampled with it, and as any replica."""
    few, many = (RiskPo(policy=TabularSoftmax.zeros(MODEL.S, MODEL.A), prompts=n, group_size=4) for n in (5, 10))
    small, large = (columns_of(x, Online(MODEL), 1, 7) for x in (few, many))
    assert_array_equal(small["shuffle"], large["shuffle"][:20])
    assert_array_equal(large["bundle"], np.repeat([0, 1], 20))
    twin = scaled.RiskPo(policy=Batched.zeros(MODEL.S, MODEL.A), prompts=5, group_size=4)
    world = Online(MODEL).replicate(2)
    state = twin.init(world, 0)
    state.t = 7
    assert_array_equal(twin.sample_round(state, world, 0)["shuffle"][20:].numpy(), small["shuffle"])
    as_sampled = RiskPo(policy=TabularSoftmax.zeros(MODEL.S, MODEL.A), prompts=5, group_size=4, shuffle=False)
    assert_array_equal(columns_of(as_sampled, Online(MODEL), 0, 0)["shuffle"], np.arange(20.0))


def test_it_learns():
    """From the uniform policy the mean score rises in the paper's main and easy settings."""
    for settings in ({}, {"beta": 0.9, "credit": "std", "natural": True}):
        made = RiskPo(
            policy=TabularSoftmax.zeros(MODEL.S, MODEL.A), prompts=10, group_size=6, step_size=1.0, **settings
        )
        ended = run(made, Online(MODEL), steps=60, seed=1, progress=False)
        scores = [value for _, _, name, value in ended.history.rows() if name == "mean_return"]
        # the standard error of a mean of 60 completions is below 0.12; four of them and more
        assert np.mean(scores[-5:]) > np.mean(scores[:5]) + 0.5


def test_bundles_of_unequal_groups_in_one_batch():
    columns = {
        "score": torch.arange(10.0), "group": torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 3, 3]),
        "bundle": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1]), "shuffle": torch.arange(10.0),
    }  # fmt: skip
    formed = scaled.form_bundles(columns, size=2)
    assert formed["bundle_score"].tolist() == [2.0, 4.0, 2.0, 4.0, 11.0, 13.0, 15.0, 11.0, 13.0, 15.0]
    found, _ = scaled.risk_advantages(formed, None, measure="mean", baseline="bundle", standardise=False)
    assert found["bundle_advantages"].tolist() == [-1.0, 1.0, -1.0, 1.0, -2.0, 0.0, 2.0, -2.0, 0.0, 2.0]
