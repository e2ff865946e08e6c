"""The scaled planners are the reference, replica by replica."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import polytheory.reference.planning.planning as reference
import polytheory.scaled.planning.planning as scaled
from polytheory.access import KnownModel
from polytheory.errors import DiscountError, ModelError, NotSolvedError, SettingError, UnknownNameError
from polytheory.models import make

GAMMAS = (0.0, 0.9, 0.99)
CASES = [
    ("ValueIteration", 9, {}),
    ("ValueIteration", 9, {"stop": "sup"}),
    ("ModifiedPolicyIteration", 3, {"order": 7}),
    ("PolicyIteration", 3, {}),
]


def garnets(sparse: bool):
    return [make("garnet", S=20, A=3, successors=4, gamma=g, seed=i, sparse=sparse) for i, g in enumerate(GAMMAS)]


def staged():
    return [make("random-linear", S=6, A=3, horizon=4, seed=i) for i in range(3)]


def run(made, access, steps, *replica):
    state, infos = made.init(access, 0, *replica), []
    for _ in range(steps):
        state, info = made.step(state, access)
        infos.append(info)
    return state, infos


def assert_lockstep(models, access, name, steps, settings):
    state, infos = run(getattr(scaled, name)(**settings), access, steps)
    for i, model in enumerate(models):
        own = KnownModel(model)
        single, wanted = run(getattr(reference, name)(**settings), own, steps)
        for field, x in vars(single).items():
            y = getattr(state, field)
            y = y[i].numpy() if isinstance(y, torch.Tensor) else y
            # the design's 1e-13 for sums of this length, amplified by 1 / (1 - gamma) in solves and midpoints
            scale = 1e-13 / max(1 - model.gamma, 0.01)
            assert_allclose(y, x, rtol=scale, atol=scale * (1 + np.max(np.abs(x))), err_msg=f"{name}.{field}")
        assert wanted[-1].keys() == infos[-1].keys()
        assert own.meter.backups[0] == access.meter.backups[i]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("name", "steps", "settings"), CASES)
def test_batches_of_models(name, steps, settings, sparse):
    models = garnets(sparse)
    assert_lockstep(models, scaled.ManyModels(models), name, steps, settings)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("name", "steps", "settings"), CASES)
def test_replicas_of_one_model(name, steps, settings, sparse):
    model = garnets(sparse)[2]
    assert_lockstep([model] * 3, KnownModel(model).replicate(3), name, steps, settings)


def test_backward_induction():
    assert_lockstep(staged(), scaled.ManyModels(staged()), "BackwardInduction", 4, {})
    assert_lockstep(staged()[:1] * 2, KnownModel(staged()[0]).replicate(2), "BackwardInduction", 2, {})


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("name", "steps", "settings"), CASES)
def test_float32_bound_covers_its_own_rounding(name, steps, settings, sparse):
    models = garnets(sparse)
    made = getattr(scaled, name)(**settings, dtype="float32")
    state, _ = run(made, scaled.ManyModels(models), 4 * steps)
    assert state.v.dtype == torch.float32
    for i, model in enumerate(models):
        exact = reference.solve(model, method="policy-iteration", tol=1e-9)
        error = np.max(np.abs(state.v[i].double().numpy() - exact.v))
        assert 0 < error <= state.bound[i] + exact.bound


def test_float32_refuses_what_it_cannot_certify():
    access = scaled.ManyModels(garnets(False))
    made = scaled.ValueIteration(dtype="float32", tol=1e-6)
    state, _ = run(made, access, 60)
    with pytest.raises(NotSolvedError, match="or use float64"):
        made.done(state)


def test_done_waits_for_the_slowest_replica():
    access, made = scaled.ManyModels(garnets(False)), scaled.ValueIteration(tol=1e-8)
    state, _ = run(made, access, 2)
    assert state.bound[0] <= 1e-8 < state.bound[2]  # gamma = 0 is solved by one sweep
    assert not made.done(state)


def test_policy_takes_the_greedy_action():
    models = garnets(False)
    made, access = scaled.ValueIteration(), scaled.ManyModels(models)
    state, _ = run(made, access, 5)
    probs = made.policy(state).probs(None, 0, torch.arange(20).repeat(3))
    assert torch.equal(probs.argmax(-1).reshape(3, 20), scaled.greedy_actions(state.q))
    assert torch.equal(probs.sum(-1), torch.ones(60, dtype=torch.float64))


def test_bad_input_is_typed():
    small, large = make("garnet", S=5, successors=2), make("garnet", S=6, successors=2)
    finite = make("garnet", S=5, successors=2, horizon=3)
    with pytest.raises(ModelError, match="needs one"):
        scaled.ManyModels([small, large])
    with pytest.raises(ModelError, match="at least one"):
        scaled.ManyModels([])
    with pytest.raises(DiscountError, match="BackwardInduction"):
        scaled.ValueIteration().init(scaled.ManyModels([finite]), 0)
    with pytest.raises(DiscountError, match="horizon"):
        scaled.BackwardInduction().init(scaled.ManyModels([small]), 0)
    with pytest.raises(UnknownNameError, match="float64"):
        scaled.PolicyIteration(dtype="float65")
    with pytest.raises(SettingError, match="tol"):
        scaled.ValueIteration(tol=float("nan"))
    with pytest.raises(SettingError, match="order"):
        scaled.ModifiedPolicyIteration(order=0)


def test_low_precision_products_are_refused():
    access = scaled.ManyModels(garnets(False))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(SettingError, match="highest"):
            run(scaled.ValueIteration(dtype="float32"), access, 1)
    finally:
        torch.set_float32_matmul_precision(before)
