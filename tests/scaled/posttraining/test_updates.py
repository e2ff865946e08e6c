"""N-PG-IGT and HARPG as updates: rooms in lock-step, exact resumption, second batches, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from polytheory import models
from polytheory.access import Online
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Kind
from polytheory.reference.posttraining import base, updates
from polytheory.reference.posttraining.grpo import Grpo
from polytheory.reference.posttraining.softmax import TabularSoftmax
from polytheory.run import run
from polytheory.scaled.posttraining import base as scaled_base
from polytheory.scaled.posttraining import grpo as scaled
from polytheory.scaled.posttraining import updates as scaled_updates
from polytheory.scaled.posttraining.softmax import TabularSoftmax as Batched

MODEL = models.make("token-mdp", reward="ones-minus-half-length")
SCORE = {"advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "beta": 0.0, "group_size": 4}
CASES = {
    "n-pg-igt": ("NPgIgt", {"gamma0": 0.5}, SCORE),
    "n-pg-igt of GRPO": ("NPgIgt", {"gamma0": 0.5, "eta0": 0.9, "schedule": "constant-momentum"}, {"group_size": 4}),
    "harpg": ("Harpg", {"gamma0": 0.5}, SCORE),
    "n-harpg": ("Harpg", {"gamma0": 0.5, "normalised": True}, SCORE),
    "filtered": ("Harpg", {"gamma0": 0.5}, {**SCORE, "group_size": 2, "dynamic": True}),
}


def reference(name, options, settings, **more):
    update = getattr(updates, name)(**options)
    return Grpo(policy=TabularSoftmax.zeros(MODEL.S, MODEL.A), update=update, **settings, **more)


def batched(name, options, settings, **more):
    update = getattr(scaled_updates, name)(**options)
    return scaled.Grpo(policy=Batched.zeros(MODEL.S, MODEL.A), update=update, **settings, **more)


@pytest.mark.parametrize("case", CASES)
def test_rooms_run_in_lock_step(case):
    many = run(batched(*CASES[case]), Online(MODEL).replicate(3), steps=10, seed=2)
    for i in range(3):
        alone = run(reference(*CASES[case]), Online(MODEL), steps=10, seed=2, replica=i)
        # ten steps of some hundred roundings; a normalised step magnifies those of a small direction
        assert_allclose(many.state.theta[i].numpy(), alone.state.theta, rtol=1e-10, atol=1e-10)
        for name in ("mean_return", "loss", "gradient_norm", "rows"):
            assert_allclose(many.history.column(name)[:, i], alone.history.column(name)[:, 0], atol=1e-9)
        if case != "filtered":  # replicas without a row still sample beside the others
            assert many.meter.episodes[i] == alone.meter.episodes[0]


def test_a_batch_without_a_row_moves_nothing():
    # at groups of two most groups score the same: first and second batches come out empty, of all replicas at once
    many = run(batched(*CASES["filtered"]), Online(MODEL).replicate(1), steps=15)
    alone = run(reference(*CASES["filtered"]), Online(MODEL), steps=15)
    assert 0.0 in alone.history.column("rows")
    # fifteen steps of some hundred roundings
    assert_allclose(many.state.theta[0].numpy(), alone.state.theta, rtol=1e-11, atol=1e-11)
    assert many.meter.episodes[0] > alone.meter.episodes[0]  # its second batches are sampled whatever the first


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("room", ["reference", "scaled"])
def test_resumed_equals_uninterrupted_bit_for_bit(case, room, tmp_path):
    made = (reference if room == "reference" else batched)(*CASES[case])

    def access():
        return Online(MODEL) if room == "reference" else Online(MODEL).replicate(2)

    whole = run(made, access(), steps=6)
    run(made, access(), steps=3, checkpoint=tmp_path)
    again = run(made, access(), steps=6, checkpoint=tmp_path)
    assert np.array_equal(np.asarray(whole.state.theta), np.asarray(again.state.theta))
    assert whole.history.column("loss").tolist() == again.history.column("loss").tolist()


def test_harpg_takes_two_batches_after_the_first():
    end = run(reference(*CASES["harpg"]), Online(MODEL), steps=5)
    assert end.meter.total("episodes") == 4 * (1 + 2 * 4)
    assert run(reference(*CASES["n-pg-igt"]), Online(MODEL), steps=5).meter.total("episodes") == 4 * 5


def test_normalised_steps_have_the_length_of_the_schedule():
    made, access = reference(*CASES["n-pg-igt"]), Online(MODEL)
    state = made.init(access, 0)
    for t in range(6):
        after, _ = made.step(state, access)
        assert np.linalg.norm(after.theta - state.theta) == pytest.approx(0.5 * 2 / (t + 2), rel=1e-12)
        state = after


def test_a_direction_of_zero_is_a_step_of_zero():
    flat = models.make("token-mdp", reward="ones-minus-half-length")
    made = Grpo(policy=TabularSoftmax.zeros(flat.S, flat.A), update=updates.NPgIgt(), **{**SCORE, "group_size": 2})
    access = Online(flat)
    state = made.init(access, 0)
    # equal scores: all advantages, and with them the direction, are 0
    made_up = {**made.sample(state, access)}
    made_up["score"] = np.zeros_like(made_up["score"])
    object.__setattr__(made, "sample", lambda state, access: made_up)
    after, info = made.step(state, access)
    assert info["gradient_norm"] == 0
    assert np.array_equal(after.theta, state.theta)
    assert after.t == 1


@pytest.mark.parametrize("case", ["n-pg-igt", "harpg"])
def test_they_learn(case):
    end = run(batched(*CASES[case]), Online(MODEL).replicate(8), steps=60)
    gained = end.history.column("mean_return")
    assert gained[-10:].mean() > gained[:5].mean() + 0.3


def test_both_rooms_register_the_same_updates():
    names = ("sgd", "n_pg_igt", "harpg")
    assert base.PARTS.names(Kind.UPDATE) == scaled_base.PARTS.names(Kind.UPDATE) == names


@pytest.mark.parametrize("make", [reference, batched])
@pytest.mark.parametrize(
    ("case", "error", "text"),
    [
        (("NPgIgt", {"eta0": 0.0}, SCORE), SettingError, "eta0 = 0.0"),
        (("NPgIgt", {"eta0": 1.5}, SCORE), SettingError, "eta0 = 1.5"),
        (("Harpg", {"gamma0": -1.0}, SCORE), SettingError, "gamma0"),
        (("Harpg", {"schedule": "cosine"}, SCORE), UnknownNameError, "theorem"),
        (("NPgIgt", {}, {**SCORE, "updates": 2}), SettingError, "updates = 2"),
        (("Harpg", {}, {}), SettingError, "surrogate='reinforce'"),
        (("Harpg", {}, {**SCORE, "normalisation": "token_mean"}), SettingError, "seq_sum"),
        (("Harpg", {}, {**SCORE, "beta": 0.1}), SettingError, "no KL loss"),
    ],
)
def test_bad_settings_are_refused_before_any_work(make, case, error, text):
    with pytest.raises(error, match=text):
        make(*case)


def test_token_advantages_have_no_such_hessian():
    with pytest.raises(SettingError, match="per token"):
        scaled_updates.ratio_surrogate.__wrapped__(torch.zeros(2, 3), torch.zeros(2, 3))
