"""CoPG in the scaled room: lock-step over its settings, the mistaken beta, sums in low precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from polytheory import models
from polytheory.access import Online
from polytheory.errors import ColumnError, SettingError
from polytheory.proofs_check._rooms import Room
from polytheory.proofs_check.posttraining.copg import ascend, bandit
from polytheory.proofs_check.posttraining.copg_claims import BETA_FOR_HALF
from polytheory.reference.posttraining import copg as reference
from polytheory.scaled.posttraining import copg as scaled

MODEL = models.make("token-mdp", reward="ones-minus-half-length")
SETTINGS = {
    "pairs": {"prompts": 2},
    "offline": {"sampling": "offline", "form": "objective", "group_size": 4, "updates": 3},
    "mixed": {"sampling": "mixed", "form": "detached", "group_size": 3, "prompts": 2},
    "ping-pong": {"sampling": "ping_pong", "group_size": 3, "centre": True, "period": 2, "rounds": 2},
    "frozen": {"refresh": None, "scale": "command_a"},
    "lagging": {"refresh": 2, "updates": 2},
}


def learner(room, inward, settings):
    tables = [0.5 * np.sin((i + 1.0) * np.arange(MODEL.S * MODEL.A)) for i in range(2)]
    behaviours = tuple(room.TabularSoftmax(inward(x), MODEL.S, MODEL.A) for x in tables)
    start = room.TabularSoftmax.zeros(MODEL.S, MODEL.A)
    return room.Copg(policy=start, beta=0.3, step_size=0.3, behaviours=behaviours, **settings)


@pytest.mark.parametrize("name", SETTINGS)
def test_rooms_agree_step_by_step(name):
    many = learner(scaled, lambda x: torch.from_numpy(x)[None], SETTINGS[name])
    access = Online(MODEL).replicate(2)
    state, infos = many.init(access, 3), []
    for _ in range(8):
        state, info = many.step(state, access)
        infos.append(info)
    one = learner(reference, lambda x: x, SETTINGS[name])
    for i in range(2):
        own = Online(MODEL)
        end = one.init(own, 3, i)
        for info in infos:
            end, theirs = one.step(end, own)
            assert set(theirs) == set(info)
            for key, value in theirs.items():
                assert_allclose(info[key][i], value, rtol=0, atol=1e-12)  # a few roundings a step
        assert_allclose(state.theta[i].numpy(), end.theta, rtol=0, atol=1e-12)
        assert_allclose(state.theta_old[i].numpy(), end.theta_old, rtol=0, atol=1e-12)
    assert float(state.theta.abs().max()) > 0.01


def test_beta_for_half_beta_ends_where_the_kl_counts_twice():
    case = bandit()
    right, wrong = (Room("scaled", "posttraining", "copg", b) for b in (None, BETA_FOR_HALF))
    ends = [
        ascend(case, lambda x, room=room: x.pulled(room, beta=0.5, form="objective")[1], 1.0) for room in (right, wrong)
    ]
    for end, beta in zip(ends, (0.5, 1.0), strict=True):
        law = np.exp(case.probe.reward / beta)
        assert_allclose(end, law / law.sum(), rtol=0, atol=1e-9)  # slopes below 1e-12, curvature above 1e-3


@pytest.mark.parametrize("part", ["copg", "copg_detached"])
def test_long_sums_keep_the_digits_of_float32(part):
    t = 4096
    gap = torch.tensor([0.25, -0.25])[:, None] / 1024  # over 4096 tokens 1 and -1
    ref = torch.full((2, t), -1.0)
    now = torch.full((2, t), -1.0, dtype=torch.bfloat16)
    mask = torch.ones(2, t, dtype=torch.bool)
    given = {
        "mask": mask, "log_probs": now, "log_probs_ref": ref - gap, "score": torch.tensor([0.5, 0.0]),
        "group": torch.zeros(2, dtype=torch.long), "pairs": torch.tensor([[0, 1]]),
    }  # fmt: skip
    # log-ratios sum to 1 and -1: gain 0.5, D = 2, beta = 0.5 leave a residual of -0.5
    residual = -0.5
    terms = scaled.PARTS[part](given, beta=0.5)
    assert terms.dtype == torch.bfloat16
    expected = [residual**2] if part == "copg" else [-residual * -float(t), residual * -float(t)]
    assert_allclose(terms.double().numpy(), expected, rtol=2**-8)  # one rounding at the end


def test_refusals():
    with pytest.raises(SettingError):
        scaled.Copg(policy=scaled.TabularSoftmax.zeros(2, 2), beta=0.0)
    given = {"group": torch.tensor([0, 0, 1])}
    with pytest.raises(ColumnError, match="group 1 has 1"):
        scaled.all_pairs(given)
    with pytest.raises(ColumnError, match="row 1 is not finite"):
        scaled.finite_scores({"score": torch.tensor([1.0, torch.inf])})


def test_pairs_of_unequal_groups_are_those_of_the_reference():
    group = np.array([4, 1, 4, 1, 4, 9, 9])
    ours, theirs = scaled.all_pairs({"group": torch.from_numpy(group)}), reference.all_pairs({"group": group})
    assert {tuple(x) for x in ours["pairs"].tolist()} == {tuple(x) for x in theirs["pairs"].tolist()}
    assert len(ours["pairs"]) == 5
