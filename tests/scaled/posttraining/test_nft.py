"""NFT in torch: lock-step with the reference over its settings, both rooms term by term, max_v, low precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from posttraining_batches import batch, batches, loss_and_gradient

from polytheory import models
from polytheory.access import Online
from polytheory.errors import ColumnError
from polytheory.reference.posttraining import nft as reference
from polytheory.scaled.posttraining import nft as scaled

ODD = models.make("token-mdp")
SETTINGS = {
    "paper": {"updates": 4},
    "root": {"weight": "root_odds", "eps": 0.1, "group_size": 4, "prompts": 2, "rounds": 3, "updates": 2},
    "refresh": {"refresh": 3, "updates": 2, "normalisation": "seq_mean"},
    "packed": {"packed": True, "updates": 2, "group_size": 5},
    "rft": {"negatives": "none", "weight": "one"},
    "contrast": {"negatives": "contrast", "normalisation": "seq_sum", "step_size": 0.1},
    "soft": {"soft": True, "group_size": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_rooms_run_in_lock_step(name):
    chosen = {"step_size": 1.0, **SETTINGS[name]}
    twin = scaled.Nft(policy=scaled.TabularSoftmax.zeros(ODD.S, ODD.A), **chosen)
    access = Online(ODD).replicate(3)
    states = [twin.init(access, 3)]
    infos = []
    for _ in range(10):
        state, info = twin.step(states[-1], access)
        states.append(state)
        infos.append(info)
    assert float(states[-1].theta.abs().max()) > 0.1
    for i in range(3):
        made, alone = reference.Nft(policy=reference.TabularSoftmax.zeros(ODD.S, ODD.A), **chosen), Online(ODD)
        state = made.init(alone, 3, i)
        for many, theirs in zip(states[1:], infos, strict=True):
            state, own = made.step(state, alone)
            # 10 steps of a few hundred roundings each
            assert_allclose(many.theta[i].numpy(), state.theta, rtol=1e-11, atol=1e-12)
            assert_allclose(many.theta_old[i].numpy(), state.theta_old, rtol=1e-11, atol=1e-12)
            assert_allclose([theirs[k][i] for k in own], list(own.values()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("negatives", ["implicit", "none", "contrast"])
@settings(max_examples=10)
@given(
    columns=batches(), weight=st.sampled_from(["complement", "root_odds", "one"]), eps=st.sampled_from([1.0, 0.3, 1e-3])
)
def test_closed_form_and_autograd_agree_on_both_sides_of_the_bound(negatives, columns, weight, eps):
    chosen = {"weight": weight, "eps": eps, "negatives": negatives}
    value, gradient = loss_and_gradient("reference", "nft", columns, **chosen)
    other, autograd = loss_and_gradient("scaled", "nft", columns, **chosen)
    # the same formula; at x near eps = 1e-3 a rounding of x is 1e3 times as large
    assert_allclose(other, value, rtol=1e-9, atol=1e-11)
    assert_allclose(autograd, gradient, rtol=1e-9, atol=1e-11)


def test_max_v_keeps_value_and_gradient():
    x = torch.tensor([2.0, 0.5, -3.0, -2e8], dtype=torch.float64, requires_grad=True)
    y = scaled.max_v(x, 0.75)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert_array_equal(y.detach().numpy(), [2.0, 0.75, 0.75, 0.75])
    assert_array_equal(slope.numpy(), np.ones(4))
    low = torch.tensor([-600.0, -3e4], dtype=torch.bfloat16)
    assert_array_equal(scaled.max_v(low, 1.0).float().numpy(), [1.0, 1.0])
    printed = (low.clamp(min=1.0) - low) + low  # why it is not written like this
    assert (printed != 1.0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("r_hat", [0.001, 0.5, 0.999])
def test_finite_up_to_ratios_of_a_thousand(dtype, r_hat):
    gap = torch.tensor([-7.0, 0.0, 3.0, 7.0], dtype=dtype)[:, None].requires_grad_(True)
    for verdict in (0.0, 0.5, 1.0):
        columns = {
            "mask": torch.ones(4, 1, dtype=torch.bool), "verdict": torch.full((4,), verdict), "r_hat": torch.full((4,), r_hat),
            "log_probs": gap, "log_probs_old": torch.zeros_like(gap),
        }  # fmt: skip
        terms = scaled.nft(columns, eps=1.0)
        (slope,) = torch.autograd.grad(terms.sum(), gap)
        assert terms.dtype == dtype
        assert bool(torch.isfinite(terms).all())
        assert bool(torch.isfinite(slope).all())
        assert bool((slope != 0).all()) or verdict == 0.5


def test_verdicts_filter_and_packing_agree_with_the_reference():
    columns = {k: x for k, x in batch(4, 5).items() if k in ("mask", "group")}
    columns["score"] = batch(4, 5)["verdict"]
    inside = {k: torch.from_numpy(x) for k, x in columns.items()}
    ours, theirs = reference.group_verdicts(columns), scaled.group_verdicts(inside)
    for prompts in (None, 2):
        kept, other = reference.mixed_groups(ours, prompts=prompts), scaled.mixed_groups(theirs, prompts=prompts)
        packed, same = reference.pack_verdicts(kept), scaled.pack_verdicts(other)
        back = scaled.unpack_verdicts(
            {**same, "advantages": torch.where(same["mask"], same["advantages"][:, None], 0.0)}
        )
        for name in ("r_hat", "verdict", "group", "advantages"):
            assert_allclose(same[name].numpy(), packed[name], rtol=1e-15)
        assert_allclose(back["r_hat"].numpy(), kept["r_hat"], rtol=1e-14)
        assert_array_equal(back["verdict"].numpy(), kept["verdict"])


def one(verdict, r_hat):
    zero = torch.zeros(1, 1, dtype=torch.float64)
    return {
        "mask": zero == 0, "verdict": torch.tensor([verdict]), "r_hat": torch.tensor([r_hat]), "log_probs": zero,
        "log_probs_old": zero, "score": torch.tensor([verdict]), "group": torch.zeros(1, dtype=torch.int64),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scaled.group_verdicts(one(-1.0, 0.5)), "score -1.0 of row 0 is no verdict"),
        (lambda: scaled.group_verdicts(one(1.0, 0.5)), "has 1 completion"),
        (lambda: scaled.nft(one(1.0, 1.0)), r"r_hat = 1.0 of row 0; it must lie in \(0, 1\)"),
        (lambda: scaled.nft(one(float("nan"), 0.5)), "score nan"),
        (lambda: scaled.pack_verdicts(one(0.5, 0.5)), "no verdict"),
        (lambda: scaled.unpack_verdicts({**one(0.0, 0.5), "advantages": torch.zeros(1)}), "no packed verdict"),
    ],
)
def test_bad_columns_are_refused(call, message):
    with pytest.raises(ColumnError, match=message):
        call()
