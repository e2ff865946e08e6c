"""Compositions on the token MDP: rooms in lock-step over the relatives of GRPO, rounds, empty steps, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from polytheory import models
from polytheory.access import Online
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit
from polytheory.reference.posttraining import base, composition
from polytheory.reference.posttraining.grpo import Grpo
from polytheory.reference.posttraining.softmax import TabularSoftmax
from polytheory.scaled.posttraining import grpo as scaled
from polytheory.scaled.posttraining.composition import Use
from polytheory.scaled.posttraining.composition import evaluate as scaled_evaluate
from polytheory.scaled.posttraining.softmax import TabularSoftmax as Batched

ODD = models.make("token-mdp")
ONES = models.make("token-mdp", reward="ones-minus-half-length")
RELATIVES = {
    "grpo": (ONES, {"updates": 3, "prompts": 2}),
    "dr-grpo": (ODD, {"scale": "none", "normalisation": "constant", "dual": 3.0, "kl": "k2"}),
    "dapo": (ODD, {"dynamic": True, "rounds": 4, "group_size": 3, "normalisation": "token_mean", "beta": 0.0}),
    "overlong": (ONES, {"overlong": 2, "max_length": 3, "normalisation": "token_sum", "step_size": 0.05}),
    "gspo": (ONES, {"surrogate": "gspo", "updates": 3, "kl": "k1"}),
    "kl in score": (ONES, {"advantage": "rloo", "surrogate": "reinforce", "kl": "in_score", "beta": 0.3}),
    "cispo": (ONES, {"surrogate": "cispo", "correction": "mask", "kl": "rho_k3", "updates": 2}),
    "rloo": (ONES, {"surrogate": "reinforce", "advantage": "rloo", "normalisation": "seq_sum", "correction": "truncate",
                    "correction_unit": "sequence"}),
    "batch": (ODD, {"scale": "batch", "group_size": 2, "prompts": 3}),
}  # fmt: skip


def reference(model, steps, replica, **settings):
    made = Grpo(policy=TabularSoftmax.zeros(model.S, model.A), **settings)
    access = Online(model)
    state, infos = made.init(access, 3, replica), []
    for _ in range(steps):
        state, info = made.step(state, access)
        infos.append(info)
    return state, infos, access


def batched(model, steps, n, **settings):
    made = scaled.Grpo(policy=Batched.zeros(model.S, model.A), **settings)
    access = Online(model).replicate(n)
    state, infos = made.init(access, 3), []
    for _ in range(steps):
        state, info = made.step(state, access)
        infos.append(info)
    return state, infos, access


@pytest.mark.parametrize("relative", RELATIVES)
def test_rooms_run_in_lock_step(relative):
    model, settings = RELATIVES[relative]
    state, infos, _ = batched(model, 12, 3, step_size=settings.pop("step_size", 1.0), **settings)
    for i in range(3):
        alone, own, _ = reference(model, 12, i, step_size=0.05 if relative == "overlong" else 1.0, **settings)
        # 12 steps of a few hundred roundings each
        assert_allclose(state.theta[i].numpy(), alone.theta, rtol=1e-11, atol=1e-12)
        for mine, theirs in zip(own, infos, strict=True):
            assert_allclose([theirs[k][i] for k in mine], list(mine.values()), rtol=1e-10, atol=1e-12)


def test_dynamic_sampling_refills_and_stops():
    settings = {"dynamic": True, "group_size": 2, "beta": 0.0, "step_size": 1.0}
    _, infos, _ = reference(ODD, 20, 0, **settings)
    _, more, access = reference(ODD, 20, 0, rounds=8, **settings)
    assert {info["rows"] for info in infos} == {0.0, 2.0}
    assert sum(info["rows"] for info in more) > sum(info["rows"] for info in infos)
    assert all(info["rows"] <= 2 for info in more)
    assert 20 * 2 < access.meter.total("episodes") < 20 * 2 * 8


def test_a_step_without_rows_moves_nothing_but_the_clock():
    settings = {"dynamic": True, "group_size": 2, "beta": 0.5}
    bandit = models.make("token-mdp", max_length=1)
    start = np.zeros((bandit.S, bandit.A))
    start[0, 0] = 40.0  # always the same token: no group has scores that differ
    made = Grpo(policy=TabularSoftmax(start.ravel(), bandit.S, bandit.A), **settings)
    access = Online(bandit)
    state, info = made.step(made.init(access, 0), access)
    assert info["rows"] == 0.0
    assert state.t == 1
    assert_array_equal(state.theta, start.ravel())
    twin = scaled.Grpo(policy=Batched(torch.tensor(start).reshape(1, -1), bandit.S, bandit.A), **settings)
    many = access.replicate(2)
    after, told = twin.step(twin.init(many, 0), many)
    assert_array_equal(after.theta.numpy(), np.tile(start.ravel(), (2, 1)))
    assert_array_equal(told["rows"], [0.0, 0.0])


def test_part_state_is_carried_from_step_to_step():
    registry = base.PARTS

    @registry.part(Kind.MONITOR, reads=("score",), writes=("seen",), unit=Unit.SEQUENCE, name="counts_rows_for_a_test")
    def counts_rows_for_a_test(columns, state):
        seen = (0 if state is None else state["seen"]) + len(columns["score"])
        return {**columns, "seen": columns["score"] * 0 + seen}, {"seen": seen}

    @dataclasses.dataclass(frozen=True, eq=False)
    class Counting(Grpo):
        def recipe(self):
            return (composition.Use("counts_rows_for_a_test", stateful=True), *super().recipe())

    try:
        made, access = Counting(policy=TabularSoftmax.zeros(ODD.S, ODD.A)), Online(ODD)
        state = made.init(access, 0)
        for _ in range(3):
            state, _ = made.step(state, access)
        assert state.memory == {"counts_rows_for_a_test": {"seen": 24}}
    finally:
        del registry._parts["counts_rows_for_a_test"]


def test_a_recipe_that_reads_what_nobody_wrote_is_refused_when_made():
    @dataclasses.dataclass(frozen=True, eq=False)
    class Backwards(Grpo):
        def recipe(self):
            return super().recipe()[::-1]

    with pytest.raises(ColumnError, match=r"reads column 'advantages'.*group_advantages"):
        Backwards(policy=TabularSoftmax.zeros(ODD.S, ODD.A))


@pytest.mark.parametrize("room", ["reference", "scaled"])
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"group_size": 1}, SettingError, "at least 2 completions"),
        ({"prompts": 0}, SettingError, "prompts = 0"),
        ({"step_size": 0.0}, SettingError, "step_size = 0.0"),
        ({"beta": -1.0}, SettingError, "beta = -1.0"),
        ({"overlong": 2}, SettingError, "set max_length"),
        ({"kl": "k4"}, UnknownNameError, "unknown kl 'k4'"),
        ({"surrogate": "ppo"}, UnknownNameError, "unknown surrogate 'ppo'"),
        ({"normalisation": "sum"}, UnknownNameError, "unknown normalisation"),
        ({"correction": "cut"}, UnknownNameError, "unknown correction"),
    ],
)
def test_settings_are_checked(room, settings, error, message):
    cls, policy = (Grpo, TabularSoftmax) if room == "reference" else (scaled.Grpo, Batched)
    with pytest.raises(error, match=message):
        cls(policy=policy.zeros(ODD.S, ODD.A), **settings)


def test_replicas_must_fit_the_policy():
    made = scaled.Grpo(policy=Batched(torch.zeros(2, ODD.S * ODD.A, dtype=torch.float64), ODD.S, ODD.A))
    with pytest.raises(SettingError, match="give 1 row or 3"):
        made.init(Online(ODD).replicate(3), 0)


@pytest.mark.parametrize("room", ["reference", "scaled"])
def test_a_world_without_horizon_is_refused(room):
    endless = models.make("two-state")
    cls, policy = (Grpo, TabularSoftmax) if room == "reference" else (scaled.Grpo, Batched)
    access = Online(endless) if room == "reference" else Online(endless).replicate(2)
    with pytest.raises(SettingError, match="two-state has no horizon; completions must end"):
        cls(policy=policy.zeros(endless.S, endless.A)).init(access, 0)


def test_averages_do_not_lose_the_digits_of_the_terms():
    n, t = 3, 1000  # terms 1, 1 and 2 are exact in bfloat16, 1 / 3000 and the mean 4 / 3 are not
    columns = {
        "mask": torch.ones(n, t, dtype=torch.bool), "advantages": torch.tensor([1.0, 1.0, 2.0]),
        "log_probs": -torch.ones(n, t, dtype=torch.bfloat16),
    }  # fmt: skip
    for normalisation in ("seq_mean", "token_mean"):
        loss = scaled_evaluate(columns, [Use("reinforce")], normalisation=normalisation)
        assert abs(float(loss) - 4 / 3) < 1e-5  # 3000 additions in float32
