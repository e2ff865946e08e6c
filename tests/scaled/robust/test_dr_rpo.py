"""DR-RPO in torch: replicas in lock-step with the reference for every kind of set, and single precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from polytheory.access import Online
from polytheory.errors import UnknownNameError
from polytheory.models.factor_ambiguity import KINDS
from polytheory.models.robust_problems import simulated_linear
from polytheory.reference.robust import dr_rpo as reference
from polytheory.reference.robust import factor_duals
from polytheory.scaled.robust import dr_rpo as scaled

SETTINGS = ({}, {"eta": 0.0}, {"moving_reference": True, "lam": 0.5}, {"centred": True, "pessimistic": True})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_replicas_are_runs_of_the_reference(kind, known):
    model = simulated_linear()
    world = Online(model.to_tabular(), known_rewards=known)
    for i, settings in enumerate(SETTINGS):
        options = {"phi": model.phi if i % 2 == 0 else None, "kind": kind, "radius": 0.3, **settings}
        many, batch = scaled.DrRpo(**options), world.replicate(2)
        state = many.init(batch, 0)
        for _ in range(5):
            state, _ = many.step(state, batch)
        for replica in range(2):
            learner, own = reference.DrRpo(**options), world.fresh()
            one = learner.init(own, 0, replica)
            for _ in range(5):
                one, _ = learner.step(one, own)
            assert np.array_equal(state.N[replica].numpy(), one.N)
            assert_allclose(state.f[replica].numpy(), one.f, atol=1e-12)
            scale = 1 + np.abs(one.log_weights).max()
            assert_allclose(state.log_weights[replica].numpy() / scale, one.log_weights / scale, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_duals_agree_on_rows_that_are_no_laws(kind):
    rng = np.random.default_rng(0)
    W, v, radius = rng.normal(size=(3, 4, 6)) / 3, rng.uniform(0, 3, (3, 6)), rng.uniform(0.1, 0.9, 4)
    found = scaled.factor_values(*(torch.tensor(x) for x in (W, v, radius)), kind=kind, top=3.0)
    for i in range(3):
        assert_allclose(found[i], factor_duals.factor_values(W[i], v[i], radius, kind=kind, top=3.0), atol=1e-12)


@pytest.mark.parametrize("kind", ["tv", "penalised-tv", "penalised-kl", "penalised-chi2"])
def test_single_precision_of_duals(kind):
    rng = np.random.default_rng(0)
    W, v, radius = rng.dirichlet(np.ones(6), (2, 4)), rng.uniform(0, 3, (2, 6)), rng.uniform(0.1, 0.9, 4)
    long, short = (
        scaled.factor_values(*(torch.tensor(x, dtype=dtype) for x in (W, v, radius)), kind=kind, top=3.0)
        for dtype in (torch.float64, torch.float32)
    )
    assert short.dtype == torch.float32
    # 6 terms of size 3, squared at most, divided by 4 lam >= 0.4: 2^-24 * 6 * 9 / 0.4 and a factor 4
    assert_allclose(short, long, atol=4 * 2**-24 * 6 * 9 / 0.4)


def test_the_same_settings_are_refused():
    with pytest.raises(UnknownNameError):
        scaled.RobustLsvi(kind="l1")
