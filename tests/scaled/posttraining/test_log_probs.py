"""Chunked log-probs: three routes to every gradient, what never exists, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from polytheory.errors import SettingError, ShapeError, UnknownNameError
from polytheory.reference.posttraining.log_probs import token_log_probs as reference
from polytheory.scaled.posttraining.log_probs import token_log_probs

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7}


def instance(n=7, V=11, d=5, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    parts = [torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for shape in ((n, d), (V, d), (V,))]
    tokens = torch.randint(0, V, (n,), generator=g)
    weights = [torch.randn(n, generator=g, dtype=torch.float64) for _ in range(2)]
    return [x.requires_grad_(True) for x in parts], tokens, weights


def pulled(parts, tokens, weights, **settings):
    log_probs, entropies = token_log_probs(parts[0], parts[1], tokens, bias=parts[2], **settings)
    value = weights[0].to(log_probs) @ log_probs + weights[1].to(log_probs) @ entropies
    return [log_probs.detach(), entropies.detach(), *torch.autograd.grad(value, parts)]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_chunked_equals_naive_equals_numpy(rows, temperature):
    parts, tokens, weights = instance()
    found = pulled(parts, tokens, weights, temperature=temperature, budget=rows * 11 * 8)
    naive = pulled(parts, tokens, weights, temperature=temperature, route="naive")
    h, W, b = (x.detach().numpy() for x in parts)
    log_probs, entropies, pullback = reference(h, W, tokens.numpy(), bias=b, temperature=temperature)
    slopes = pullback(*(w.numpy() for w in weights))
    third = [log_probs, entropies, slopes["hidden"], slopes["head"], slopes["bias"]]
    for a, b, c in zip(found, naive, third, strict=True):  # sums of at most 11 numbers below 50
        np.testing.assert_allclose(a, b, atol=1e-13)
        np.testing.assert_allclose(a, c, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_within_its_rounding(dtype):
    parts, tokens, weights = instance(n=40, V=300, d=16, dtype=dtype)
    found = pulled(parts, tokens, weights, budget=7 * 300 * 4)
    exact = pulled([x.detach().double().requires_grad_(True) for x in parts], tokens, weights, route="naive")
    assert found[0].dtype == torch.float32
    # a logit is a sum of 16 products and a bias, rounded to the dtype: it errs by e = 18 eps z where z is the sum of the sizes
    # of its terms. A log-prob is a logit less their log-sum: 2 e. The entropy's slope in a logit, p (log p + H), sums to at
    # most twice the largest |log p| <= 2 z + log V.
    h, W, b = (x.detach().double() for x in parts)
    z = float((h.abs() @ W.abs().T + b.abs()).max())
    e = 18 * EPS[dtype] * z
    spread = 2 * z + float(np.log(300))
    assert (found[0].double() - exact[0]).abs().max() < 2 * e
    assert (found[1].double() - exact[1]).abs().max() < 2 * spread * e
    # the slope s of the objective in the logits moves by |w| p 2 e + |v| p (log p + H) (2 e) + |v| p (2 e + 2 spread e), and is
    # rounded once; pulled back it is multiplied by the other factor and summed with the roundings of the sum itself
    p = torch.softmax(h @ W.T + b, -1)
    w, v = (x.abs()[:, None] for x in weights)
    slope = (w + v * 2 * spread) * p + w * torch.nn.functional.one_hot(tokens, 300)
    moved = 2 * e * (w + v * (3 * spread + 1)) * p + 3 * EPS[dtype] * slope
    for a, c, bound in (
        (found[2], exact[2], moved @ W.abs()), (found[3], exact[3], moved.T @ h.abs()), (found[4], exact[4], moved.sum(0)),
    ):  # fmt: skip
        assert a.dtype == dtype
        assert ((a.double() - c).abs() <= bound + EPS[dtype] * c.abs()).all()
    if dtype == torch.float32:
        assert e < 1e-3


def test_tokens_outside_of_the_mask_cost_nothing_and_leak_nothing():
    parts, tokens, weights = instance()
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 0], dtype=torch.bool)
    clean = pulled(parts, tokens, weights, mask=mask)
    dirty = parts[0].detach().clone()
    dirty[~mask] = torch.nan
    tokens = torch.where(mask, tokens, 999)
    found = pulled([dirty.requires_grad_(True), *parts[1:]], tokens, weights, mask=mask)
    assert not found[0][~mask].any()
    assert not found[2][~mask].any()
    for a, b in zip(found, clean, strict=True):
        assert torch.equal(a, b)


def test_shapes_of_batches_and_empty_masks():
    parts, tokens, _ = instance(n=6)
    flat = token_log_probs(parts[0], parts[1], tokens)
    square = token_log_probs(parts[0].view(2, 3, 5), parts[1], tokens.view(2, 3))
    for a, b in zip(square, flat, strict=True):
        assert torch.equal(a.view(-1), b)
    none = token_log_probs(parts[0], parts[1], tokens, mask=torch.zeros(6, dtype=torch.bool))
    assert not none[0].any()
    none[0].sum().backward()
    assert not parts[1].grad.any()


def test_entropies_can_be_left_out():
    parts, tokens, weights = instance()
    log_probs, entropies = token_log_probs(parts[0], parts[1], tokens, entropy=False, budget=200)
    assert entropies is None
    found = torch.autograd.grad(weights[0] @ log_probs, parts[:2])
    naive, none = token_log_probs(parts[0], parts[1], tokens, entropy=False, route="naive")
    assert none is None
    for a, b in zip(found, torch.autograd.grad(weights[0] @ naive, parts[:2]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)


def test_a_frozen_head_gets_no_gradient():
    parts, tokens, _ = instance()
    frozen = parts[1].detach()
    token_log_probs(parts[0], frozen, tokens)[0].sum().backward()
    assert frozen.grad is None
    assert parts[0].grad.abs().sum() > 0


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


@pytest.mark.parametrize(("route", "whole"), [("chunked", False), ("naive", True)])
def test_the_whole_table_of_logits_never_exists(route, whole):
    parts, tokens, weights = instance(n=64, V=500, d=4)
    with Largest() as seen:
        pulled(parts, tokens, weights, route=route, budget=4 * 500 * 8)
    assert seen.elements == (64 * 500 if whole else 4 * 500)  # 4 * 500: the head's gradient, the forward chunk


def test_under_autocast_the_product_keeps_its_precision():
    parts, tokens, _ = instance(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = token_log_probs(parts[0], parts[1], tokens)
        slope = torch.autograd.grad(found.sum(), parts[0])[0]
    plain, _ = token_log_probs(parts[0], parts[1], tokens)
    assert torch.equal(found, plain)
    assert torch.equal(slope, torch.autograd.grad(plain.sum(), parts[0])[0])


def test_second_derivatives_go_the_naive_route():
    parts, tokens, _ = instance()
    log_probs, _ = token_log_probs(parts[0], parts[1], tokens)
    with pytest.raises(SettingError, match="route='naive'"):
        torch.autograd.grad(log_probs.sum(), parts[0], create_graph=True)
    log_probs, _ = token_log_probs(parts[0], parts[1], tokens, route="naive")
    (slope,) = torch.autograd.grad(log_probs.sum(), parts[0], create_graph=True)
    assert torch.autograd.grad(slope.square().sum(), parts[0])[0].abs().sum() > 0


def test_rounding_does_not_grow_with_the_number_of_tiles():
    """1024 equal tokens in tiles of 8: a bfloat16 sum of so many would stop growing at 256."""
    n = 1024
    hidden = torch.ones(n, 1, dtype=torch.bfloat16)
    head = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    log_probs, _ = token_log_probs(hidden, head, torch.zeros(n, dtype=torch.int64), budget=4 * 64)
    log_probs.sum().backward()
    assert head.grad[:, 0].tolist() == [n / 2, -n / 2]


def test_large_logits_neither_overflow_nor_cancel():
    hidden = torch.tensor([[1e4], [-1e4]]).requires_grad_(True)
    head = torch.tensor([[1.0], [1.0], [-1.0]])
    log_probs, entropies = token_log_probs(hidden, head, torch.tensor([0, 2], dtype=torch.int32), entropy=True)
    np.testing.assert_allclose(log_probs.detach(), [-np.log(2), 0.0], rtol=1e-6)
    np.testing.assert_allclose(entropies.detach(), [np.log(2), 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"temperature": 0.0}, SettingError, "temperature = 0.0"),
        ({"budget": 0}, SettingError, "budget = 0"),
        ({"route": "fast"}, UnknownNameError, "chunked"),
        ({"tokens": torch.full((7,), 11)}, SettingError, "token 11"),
        ({"tokens": torch.full((7,), -1)}, SettingError, "token -1"),
        ({"mask": torch.ones(6, dtype=torch.bool)}, ShapeError, "mask"),
        ({"tokens": torch.zeros(6, dtype=torch.int64)}, ShapeError, "tokens"),
    ],
)
def test_bad_input_is_one_line(change, error, text):
    parts, tokens, _ = instance()
    settings = {"tokens": tokens, **change}
    ids = settings.pop("tokens")
    with pytest.raises(error, match=text) as found:
        token_log_probs.__wrapped__(parts[0], parts[1], ids, **settings)
    assert "\n" not in str(found.value)
