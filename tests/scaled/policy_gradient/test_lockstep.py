"""n replicas in torch are n reference runs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from polytheory import models
from polytheory.access import Online
from polytheory.reference.policy_gradient import harpg as reference_harpg
from polytheory.reference.policy_gradient import n_pg_igt as reference_n_pg_igt
from polytheory.reference.policy_gradient import peers as reference_peers
from polytheory.scaled.policy_gradient import harpg as scaled_harpg
from polytheory.scaled.policy_gradient import n_pg_igt as scaled_n_pg_igt
from polytheory.scaled.policy_gradient import peers as scaled_peers

REFERENCE = (reference_n_pg_igt, reference_harpg, reference_peers)
SCALED = (scaled_n_pg_igt, scaled_harpg, scaled_peers)
METHODS = {
    "NPgIgt": {}, "Harpg": {}, "NHarpg": {}, "VanillaPg": {}, "NormalisedSgd": {}, "MomentumPg": {}, "StormPg": {},
    "IsMbpg": {}, "SrvrPg": {"period": 4, "anchor_batch": 5}, "Hapg": {"period": 4, "anchor_batch": 5},
}  # fmt: skip
STEPS, REPLICAS, FIRST = 20, 2, 2
# a step adds a few hundred roundings of relative size 1e-16, which look-ahead and recursion amplify at most tenfold;
# a single different draw would show as 1e-3 or more
TOLERANCE = 1e-12


def of(modules, name):
    return next(getattr(m, name) for m in modules if hasattr(m, name))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("model", "truncation"), [("two-state", 8), ("frozenlake", 25)])
def test_replicas_are_reference_runs(name, model, truncation):
    world = models.make(model)
    # rewards of FrozenLake are rare: a baseline makes every episode move the parameters
    baseline = np.linspace(-0.1, 0.3, world.S) if model == "frozenlake" else None
    settings = {"truncation": truncation, "batch": 2, "gamma0": 0.5, "baseline": baseline, **METHODS[name]}
    access = Online(world)
    batched = access.replicate(REPLICAS)
    fast = of(SCALED, name)(scaled_harpg.TabularSoftmax.zeros(world.S, world.A), **settings)
    state = fast.init(batched, 3, FIRST)
    infos = []
    for _ in range(STEPS):
        state, info = fast.step(state, batched)
        infos.append(info)
    assert state.theta.abs().max() > 0.01, "nothing was learnt: this would compare zeros"
    for i in range(REPLICAS):
        slow = of(REFERENCE, name)(reference_harpg.TabularSoftmax.zeros(world.S, world.A), **settings)
        alone = access.fresh()
        mine = slow.init(alone, 3, FIRST + i)
        for t in range(STEPS):
            mine, info = slow.step(mine, alone)
            for key in info:
                assert_allclose(infos[t][key][i], info[key], rtol=0, atol=TOLERANCE * (1 + abs(info[key])), err_msg=key)
        for field in vars(mine):
            a, b = np.asarray(getattr(state, field)), np.asarray(getattr(mine, field))
            shown = a[i] if a.ndim else a
            assert_allclose(shown, b, rtol=TOLERANCE, atol=TOLERANCE, err_msg=field)
        assert_array_equal(batched.meter.transitions[i], alone.meter.total("transitions"))
        assert_array_equal(batched.meter.episodes[i], alone.meter.total("episodes"))
    assert (state.theta[0] != state.theta[1]).any(), "replicas must have their own random numbers"


def test_linear_features_too():
    world = models.make("two-state")
    access = Online(world)
    batched = access.replicate(2)
    settings = {"truncation": 8, "gamma0": 0.5}
    fast = scaled_harpg.Harpg(scaled_n_pg_igt.LinearSoftmax(*_torch(features(world))), **settings)
    slow = reference_harpg.Harpg(reference_harpg.LinearSoftmax(features(world), np.zeros(3)), **settings)
    state, mine = fast.init(batched, 5), slow.init(access, 5, 1)
    for _ in range(STEPS):
        state, _ = fast.step(state, batched)
        mine, _ = slow.step(mine, access)
    assert_allclose(state.theta[1], mine.theta, rtol=TOLERANCE, atol=TOLERANCE)


def features(world):
    return np.random.default_rng(0).normal(size=(world.S, world.A, 3))


def _torch(x):
    import torch

    return torch.tensor(x), torch.zeros(1, 3, dtype=torch.float64)
