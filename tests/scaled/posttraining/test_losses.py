"""Every loss of the registry: three routes to its gradient, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from posttraining_batches import (
    LOSSES,
    REGISTRIES,
    batch,
    batches,
    counts_of,
    is_of_groups,
    is_of_pairs,
    loss_and_gradient,
    rows_of,
    tensors,
)

from polytheory.reference.posttraining.base import NORMALISATIONS
from polytheory.scaled.posttraining.base import PARTS
from polytheory.scaled.posttraining.pairs import pair_margin

ROOMS = ("reference", "scaled")
# their gradients are by definition not those of their values: a weight or a bound is held fixed
HELD = ("cispo", "nft", "copg_detached", "baseline_reinforce")
FEW = settings(max_examples=6)
TIGHT = {"rtol": 1e-10, "atol": 1e-12}  # the same sums in another order; terms of size 10^2 at most


@pytest.mark.parametrize("name", LOSSES)
@FEW
@given(columns=batches(), normalisation=st.sampled_from(NORMALISATIONS))
def test_closed_form_autograd_and_differences_agree(name, columns, normalisation):
    value, gradient = loss_and_gradient("reference", name, columns, normalisation=normalisation)
    other, autograd = loss_and_gradient("scaled", name, columns, normalisation=normalisation)
    assert_allclose(value, other, **TIGHT)
    assert_allclose(gradient, autograd, **TIGHT)
    if name in HELD:
        return
    rng, h = np.random.default_rng(0), 1e-6
    direction = rng.normal(size=gradient.shape)
    ahead, behind = (
        loss_and_gradient(
            "reference",
            name,
            {**columns, "log_probs": columns["log_probs"] + s * h * direction},
            normalisation=normalisation,
        )[0]
        for s in (1, -1)
    )
    # rounding of a loss of size |value| over 2h, third derivatives below 10^4 times h^2; at ratio 1 nothing is clipped
    slack = 1e-15 * (1 + abs(value) * 100) / h + 1e4 * h**2 * (1 + abs(value))
    kinks = name == "gspo" or abs(ahead - 2 * value + behind) > 1e-9 * (1 + abs(value))  # an edge within h
    if not kinks:
        assert_allclose((gradient * direction).sum(), (ahead - behind) / (2 * h), rtol=1e-6, atol=slack)


@FEW
@given(columns=batches())
def test_sequence_ratios_by_differences(columns):
    # wide clips keep clear of the edges that the default widths put right beside ratio 1
    widths = {"eps_low": 0.999, "eps_high": 1e6}
    _, gradient = loss_and_gradient("reference", "gspo", columns, **widths)
    direction, h = np.random.default_rng(1).normal(size=gradient.shape), 1e-6
    ahead, behind = (
        loss_and_gradient(
            "reference", "gspo", {**columns, "log_probs": columns["log_probs"] + s * h * direction}, **widths
        )[0]
        for s in (1, -1)
    )
    assert_allclose((gradient * direction).sum(), (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", LOSSES)
@FEW
@given(columns=batches(), normalisation=st.sampled_from(NORMALISATIONS), pieces=st.integers(2, 3))
def test_micro_batches_with_global_counts_change_nothing(room, name, columns, normalisation, pieces):
    whole, gradient = loss_and_gradient(room, name, columns, normalisation=normalisation)
    counts, total, pieced = counts_of(columns), 0.0, np.zeros_like(gradient)
    n = len(columns["pairs"] if is_of_pairs(name) else columns["mask"])
    split = np.array_split(np.arange(n), min(pieces, n))
    if is_of_groups(name):
        split = [np.flatnonzero(columns["group"] % pieces == i) for i in np.unique(columns["group"] % pieces)]
    for part in split:
        if is_of_pairs(name):  # a pair is never split: micro-batches share rows
            micro, rows = {**columns, "pairs": columns["pairs"][part]}, slice(None)
        else:
            micro, rows = rows_of(columns, part), part
        value, own = loss_and_gradient(room, name, micro, normalisation=normalisation, counts=counts)
        total += value
        pieced[rows] += own
    assert_allclose(total, whole, **TIGHT)
    assert_allclose(pieced, gradient, **TIGHT)


def test_local_counts_would_be_noticed():
    columns = batch(0, 2)
    whole, _ = loss_and_gradient("reference", "reinforce", columns, normalisation="token_mean")
    halves = np.array_split(np.arange(len(columns["mask"])), 2)
    local = [
        loss_and_gradient("reference", "reinforce", rows_of(columns, h), normalisation="token_mean")[0] for h in halves
    ]
    assert abs(sum(local) - whole) > 0.1 * abs(whole)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", LOSSES)
@FEW
@given(columns=batches(), width=st.integers(1, 3))
def test_padding_changes_nothing(room, name, columns, width):
    n = len(columns["mask"])
    padded = {
        k: np.concatenate([x, np.full((n, width), False if x.dtype == bool else 7, dtype=x.dtype)], axis=1)
        if x.ndim == 2 and k != "pairs" else x
        for k, x in columns.items()
    }  # fmt: skip
    value, gradient = loss_and_gradient(room, name, columns)
    other, wider = loss_and_gradient(room, name, padded)
    assert_allclose(other, value, **TIGHT)
    assert_allclose(wider[:, :-width], gradient, **TIGHT)
    assert not wider[:, -width:].any()


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", LOSSES)
@FEW
@given(columns=batches(), seed=st.integers(0, 99))
def test_order_of_rows_and_names_of_groups_change_nothing(room, name, columns, seed):
    order = np.random.default_rng(seed).permutation(len(columns["mask"]))
    value, gradient = loss_and_gradient(room, name, columns)
    shuffled = {**rows_of(columns, order), "group": 17 - columns["group"][order]}
    other, moved = loss_and_gradient(room, name, shuffled)
    assert_allclose(other, value, **TIGHT)
    assert_allclose(moved, gradient[order], **TIGHT)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@settings(max_examples=4)
@given(columns=batches())
def test_what_is_under_the_mask_is_never_read(room, name, bad, columns):
    spoilt = {
        k: np.where(columns["mask"], x, bad) if x.ndim == 2 and x.dtype.kind == "f" else x for k, x in columns.items()
    }
    value, gradient = loss_and_gradient(room, name, columns)
    other, same = loss_and_gradient(room, name, spoilt)
    assert_allclose(other, value, rtol=0, atol=0)
    assert_allclose(same, gradient, rtol=0, atol=0)
    assert not same[~columns["mask"]].any()


def rounding_bound(exact: dict[str, torch.Tensor], terms: torch.Tensor, u: float) -> float:
    """How far terms may move when every number is rounded to relative precision ``u``.

    A rounded log-prob of size |l| is off by u |l|: a term moves by its slope times the sum of these over its tokens, in each
    of four columns. Slopes are advantages times ratios, or exp of KL gaps, within twice of themselves while u sum |l| <= 0.3;
    arithmetic adds a few u of the largest number.
    """
    mask, now = exact["mask"], exact["log_probs"]
    columns = [torch.where(mask, exact[f"log_probs{k}"], 0 * now) for k in ("", "_old", "_ref", "_prev")]
    size = float(sum(x.abs().sum(1).max() for x in columns))
    largest = max(float((columns[0] - x).abs().max()) for x in columns[1:])
    if u * size > 0.3:
        return np.inf
    slope = (
        2 * (1 + float(exact["advantages"].abs().max())) * np.exp(min(largest, 20.0)) * (1 + 1 / 0.1)
    )  # pairs: 1 / tau
    return u * slope * (size + 20) * (1 + float(terms.abs().max()))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=8)
@given(columns=batches())
def test_terms_in_lower_precision(name, dtype, columns):
    part, exact = REGISTRIES["scaled"][name], tensors(columns)
    terms, low = part(exact), part(tensors(columns, dtype))
    assert low.dtype in (dtype, torch.float32)  # ratios are formed in float32
    assert float((low.double() - terms).abs().max()) <= rounding_bound(exact, terms, torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", LOSSES)
def test_the_bound_of_float32_refuses_bfloat16(name):
    part, missed = REGISTRIES["scaled"][name], []
    for seed in range(40):
        columns = batch(seed, 2)
        exact = tensors(columns)
        error = (part(tensors(columns, torch.bfloat16)).double() - part(exact)).abs().max()
        missed.append(float(error) > rounding_bound(exact, part(exact), torch.finfo(torch.float32).eps))
    assert any(missed)


def test_both_rooms_register_the_same_parts():
    declared = [
        {n: (p.kind, p.reads, p.writes, p.now, p.unit) for n in r.names() for p in [r[n]]} for r in REGISTRIES.values()
    ]
    assert declared[0] == declared[1]


def test_k3_keeps_the_digits_of_a_small_difference():
    d = torch.linspace(-2e-4, 2e-4, 101, dtype=torch.float64)
    ref = torch.full((101, 1), -1.0)
    columns = {
        "mask": torch.ones(101, 1, dtype=torch.bool), "log_probs": (ref + d[:, None]).float(), "log_probs_ref": ref.float()
    }  # fmt: skip
    gap = columns["log_probs"].double() - columns["log_probs_ref"].double()
    found = PARTS["kl_k3"](columns).double()
    assert (found >= 0).all()
    # d^2 / 2 to third order; expm1(-d) is as large as d and rounded to 6e-8 of it (exp(-d) - 1 would be rounded to 6e-8)
    torch.testing.assert_close(found, gap**2 / 2 - gap**3 / 6, rtol=0, atol=2 * 6e-8 * 2e-4)


def test_long_sums_of_bfloat16_log_ratios_keep_their_digits():
    n, t = 4, 2000
    old = torch.full((n, t), -1.0, dtype=torch.bfloat16)
    now = old + torch.tensor([0.0078125], dtype=torch.bfloat16)  # one step of bfloat16 at 1
    columns = {
        "mask": torch.ones(n, t, dtype=torch.bool), "log_probs": now, "log_probs_ref": old, "pairs": torch.tensor([[0, 1]])
    }  # fmt: skip
    columns["log_probs"][1] = -1.0
    # a sum of 2000 equal steps in bfloat16 would stop at 256 of them
    assert float(pair_margin(columns)[0]) == pytest.approx(2000 * 0.0078125, rel=1e-6)
