"""RPO: eta = 0 is DPO, displacement, data drawn once, lock-step, resumption, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from polytheory import models
from polytheory.access import Online
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.reference.posttraining import rpo as reference
from polytheory.run import run
from polytheory.scaled.posttraining import rpo as scaled
from polytheory.scaled.posttraining.pairs import dpo

MODEL = models.make("token-mdp", reward="ones-minus-half-length")
CASES = {
    "cumulative": {"prompts": 16, "beta": 0.5, "eta": 0.2},
    "sum": {"prompts": 8, "beta": 0.3, "eta": 0.1, "sft": "sum", "updates": 2},
    "average": {"prompts": 16, "beta": 0.5, "eta": 0.2, "sft": "average", "baseline": True},
    "collected": {"prompts": 16, "beta": 0.5, "collector": True},
}


def made(room, case):
    softmax = room.TabularSoftmax
    settings, start = dict(CASES[case]), softmax.zeros(MODEL.S, MODEL.A)
    for name in ("baseline", "collector"):
        if settings.get(name):
            tilt = np.sin(np.arange(MODEL.S * MODEL.A))
            theta = tilt if room is reference else torch.from_numpy(tilt)[None]
            settings[name] = start.with_theta(theta)
    return room.Rpo(policy=start, step_size=1.0, **settings)


@pytest.mark.parametrize("case", CASES)
def test_rooms_run_in_lock_step_and_ask_once(case):
    many = run(made(scaled, case), Online(MODEL).replicate(3), steps=8, seed=5)
    for i in range(3):
        alone = run(made(reference, case), Online(MODEL), steps=8, seed=5, replica=i)
        assert_allclose(many.state.theta[i].numpy(), alone.state.theta, atol=1e-12)
        for name in ("loss", "chosen_log_prob", "rejected_log_prob", "reward_margin", "accuracy"):
            assert_allclose(many.history.column(name)[:, i], alone.history.column(name)[:, 0], atol=1e-11)
        per_pair = 3 if "baseline" in CASES[case] else 2
        assert alone.meter.total("episodes") == per_pair * CASES[case]["prompts"] == many.meter.episodes[i]


@pytest.mark.parametrize("room", [reference, scaled])
def test_resumed_equals_uninterrupted_bit_for_bit(room, tmp_path):
    def access():
        return Online(MODEL) if room is reference else Online(MODEL).replicate(2)

    whole = run(made(room, "average"), access(), steps=6)
    run(made(room, "average"), access(), steps=2, checkpoint=tmp_path)
    again = run(made(room, "average"), access(), steps=6, checkpoint=tmp_path)
    assert_array_equal(np.asarray(whole.state.theta), np.asarray(again.state.theta))
    assert whole.meter.total("episodes") == again.meter.total("episodes")


def columns(lengths=(1, 3), seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(3)[None] < torch.tensor(lengths)[:, None]
    now, ref = (-torch.rand(len(lengths), 3, generator=g, dtype=torch.float64) for _ in range(2))
    return {
        "mask": mask, "pairs": torch.tensor([[0, 1], [1, 0]]), "log_probs": now.to(dtype).requires_grad_(True),
        "log_probs_ref": ref.to(dtype),
    }  # fmt: skip


def test_without_eta_it_is_dpo_to_the_bit():
    data = columns()
    ours, theirs = scaled.rpo(data, beta=0.7, eta=0.0), dpo(data, beta=0.7)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(x.sum(), data["log_probs"])[0] for x in (ours, theirs)]
    assert torch.equal(*gradients)
    numpy = {k: v.detach().numpy() for k, v in data.items()}
    assert_array_equal(reference.rpo(numpy, beta=0.7, eta=0.0).value, reference.dpo(numpy, beta=0.7).value)


def test_sum_and_average_differ_by_the_length():
    data = columns()
    plain = dpo(data, beta=0.7)
    total, average = (scaled.rpo(data, beta=0.7, eta=0.4, sft=sft) - plain for sft in ("sum", "average"))
    assert_allclose((total / average).detach(), [1.0, 3.0], rtol=1e-12)


def descend(eta, steps=200, step=0.5, beta=0.1):
    """One pair on three responses that share features [shi2024]: probabilities and margin after the steps."""
    features = torch.tensor([[1.0, 1.0], [2.0, 0.2], [0.5, 2.2]], dtype=torch.float64)
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    ref = torch.full((3, 1), 1 / 3, dtype=torch.float64).log()
    data = {"mask": torch.ones(3, 1, dtype=torch.bool), "pairs": torch.tensor([[0, 1]]), "log_probs_ref": ref}
    for _ in range(steps):
        log_pi = torch.log_softmax(features @ w, 0)
        loss = scaled.rpo({**data, "log_probs": log_pi[:, None]}, beta=beta, eta=eta).sum()
        (slope,) = torch.autograd.grad(loss, w)
        w = (w - step * slope).detach().requires_grad_(True)
    log_pi = torch.log_softmax(features @ w, 0)
    log_pi = log_pi.detach()
    return log_pi.exp().tolist(), float(log_pi[0] - log_pi[1])


def test_dpo_displaces_the_chosen_response_and_rpo_does_not():
    pi, margin = descend(0.0)
    assert_allclose(pi, [0.002431, 0.000003, 0.997566], atol=1e-6)  # published digits of the toy problem
    assert margin == pytest.approx(6.758712, abs=1e-6)
    kept, wider = descend(1.0)
    assert kept[0] > 1 / 3 > pi[0]
    assert wider > 0


@pytest.mark.parametrize("room", [reference, scaled])
def test_a_reference_that_does_not_cover_the_baseline_is_refused(room):
    data = columns()
    data["log_probs_ref"][0, 0] = -torch.inf
    data = {k: v.detach() for k, v in data.items()}
    if room is reference:
        data = {k: v.numpy() for k, v in data.items()}
    with pytest.raises(ColumnError, match="row 0 has probability 0 under the reference"):
        room.rpo(data)
    with pytest.raises(ColumnError, match="base must name"):
        room.base_rows({**data, "base": data["pairs"][:, 0] + 5})


@pytest.mark.parametrize("room", [reference, scaled])
@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"beta": 0.0}, SettingError, "beta = 0.0"),
        ({"eta": -1.0}, SettingError, "eta = -1.0"),
        ({"sft": "mean"}, UnknownNameError, "average"),
        ({"group_size": 4}, SettingError, "group_size = 4"),
        ({"rounds": 2}, SettingError, "rounds = 2"),
    ],
)
def test_bad_settings_are_refused_before_any_work(room, settings, error, text):
    with pytest.raises(error, match=text):
        room.Rpo(policy=room.TabularSoftmax.zeros(MODEL.S, MODEL.A), **settings)
