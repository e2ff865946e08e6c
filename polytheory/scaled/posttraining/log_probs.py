"""Log-probs and entropies of tokens from hidden states, a small piece of the logits at a time.

The logits of a batch, [tokens, vocabulary], are by far the largest array of a training step. Here they never exist at once:
the forward pass makes them a few rows at a time and keeps two numbers per token; the backward pass makes them again in tiles
of rows and columns, so that each block of the head's gradient is finished before the next one starts. Memory falls from
several times ``tokens * vocabulary`` to a few chunks, and time falls with it, since the arrays stay small.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from polytheory._typing import Bool, Float, Int
from polytheory.errors import SettingError, ShapeError, UnknownNameError

# bytes of a chunk of logits: small enough to stay near the cache, large enough that few passes over the head are made
BUDGET = 32 * 2**20
ROUTES = ("chunked", "naive")


def token_log_probs(
    hidden: Float[torch.Tensor, "*n d"],
    head: Float[torch.Tensor, "V d"],
    tokens: Int[torch.Tensor, "*n"],
    *,
    bias: Float[torch.Tensor, " V"] | None = None,
    temperature: float = 1.0,
    mask: Bool[torch.Tensor, "*n"] | None = None,
    entropy: bool = True,
    route: str = "chunked",
    budget: int = BUDGET,
) -> tuple[Float[torch.Tensor, "*n"], Float[torch.Tensor, "*n"] | None]:
    """Log-probs of tokens and entropies of the law they come from, both differentiable.

    Args:
        hidden: last hidden states, one per token.
        head: output embedding; logits are ``(hidden @ head.T + bias) / temperature``.
        tokens: ids in [0, V); where masked, anything.
        bias: of the output layer, or None.
        temperature: > 0.
        mask: tokens to compute; the others cost nothing, give 0 and send no gradient, whatever stands in ``hidden``.
        entropy: False leaves the entropies out (None), which saves a pass over every chunk.
        route: "chunked"; "naive" makes all logits at once and can be differentiated twice.
        budget: bytes of the largest chunk of logits; at least one row is made at a time.

    Returns:
        ``(log_probs, entropies)`` in float32, or float64 where the inputs are.

    Raises:
        ShapeError: shapes disagree. SettingError: temperature or budget out of range, a token outside of the vocabulary, or
        a second derivative of the chunked route. UnknownNameError: unknown route.
    """
    V, d = head.shape
    if hidden.shape != (*tokens.shape, d) or (mask is not None and mask.shape != tokens.shape):
        raise ShapeError(
            f"hidden {list(hidden.shape)}, tokens {list(tokens.shape)}, head {list(head.shape)}"
            + ("" if mask is None else f", mask {list(mask.shape)}")
            + "; need [..., d], [...], [V, d] and a mask like the tokens"
        )
    if not temperature > 0:
        raise SettingError(f"temperature = {temperature}; logits are divided by it, it must be positive")
    if budget < 1:
        raise SettingError(f"budget = {budget}; allow at least 1 byte, 32 MiB is usual")
    if route not in ROUTES:
        raise UnknownNameError("route", route, ROUTES)
    chosen = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
    rows, ids = hidden[chosen], tokens[chosen].long()
    if ids.numel() and not bool(((ids >= 0) & (ids < V)).all()):
        bad = int(ids[(ids < 0) | (ids >= V)][0])
        raise SettingError(f"token {bad} is not in the vocabulary of {V}; check tokenizer and model, or mask it")
    if route == "naive":
        found = naive(rows, head, bias, ids, temperature)
        found = found if entropy else (found[0], None)
    else:
        found = _Chunked.apply(rows, head, bias, ids, temperature, budget, entropy)
    empty = found[0].new_zeros(tokens.shape)
    entropies = None if found[1] is None else empty.masked_scatter(chosen, found[1])
    return empty.masked_scatter(chosen, found[0]), entropies


def naive(
    hidden: Float[torch.Tensor, "n d"],
    head: Float[torch.Tensor, "V d"],
    bias: Float[torch.Tensor, " V"] | None,
    tokens: Int[torch.Tensor, " n"],
    temperature: float,
) -> tuple[Float[torch.Tensor, " n"], Float[torch.Tensor, " n"]]:
    """Log-probs and entropies through the whole [n, V] of logits; the oracle of the chunked route."""
    law = torch.log_softmax(chunk_logits(hidden, head, bias, temperature), -1)
    return law.gather(1, tokens[:, None])[:, 0], -(law.exp() * law).sum(1)


def chunk_logits(hidden: Any, head: Any, bias: Any, temperature: float) -> torch.Tensor:
    """Logits [n, V] in float32 or better. Outside of autocast: a product of its own precision, twice the same."""
    with torch.autocast(hidden.device.type, enabled=False):
        dtype = torch.promote_types(hidden.dtype, head.dtype)
        logits = (hidden.to(dtype) @ head.to(dtype).T).to(torch.promote_types(dtype, torch.float32))
        if bias is not None:
            logits = logits.add_(bias)
        return logits if temperature == 1 else logits.div_(temperature)


def logit_gradient(
    law: torch.Tensor,
    tokens: Any,
    entropy: torch.Tensor | None,
    weight: torch.Tensor,
    entropy_weight: torch.Tensor | None,
) -> torch.Tensor:
    """``weight (e_token - p) - entropy_weight p (log p + H)``, [n, c], from the log-probs ``law`` of c columns (overwritten).

    Tokens count from the first of these columns; one outside of [0, c) has its ``e_token`` in another tile.
    """
    if entropy is None or entropy_weight is None:
        out = law.exp_().mul_(-weight[:, None])
    else:
        p = law.exp()
        out = law.add_(entropy[:, None]).mul_(-entropy_weight[:, None]).sub_(weight[:, None]).mul_(p)
    c = out.shape[1]
    own = torch.where((tokens >= 0) & (tokens < c), weight, 0)
    return out.scatter_add_(1, tokens.clamp(0, c - 1)[:, None], own[:, None])


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """``total += a @ b``; a product of lower precision is rounded once, its sum over tiles is not."""
    if total.dtype == a.dtype == b.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, bias, tokens, temperature, budget, want_entropy):
        dtype = torch.promote_types(torch.promote_types(hidden.dtype, head.dtype), torch.float32)
        n, elements = len(tokens), max(1, budget // dtype.itemsize)
        rows = max(1, elements // len(head))
        log_probs, normaliser, entropy = (torch.zeros(n, dtype=dtype, device=hidden.device) for _ in range(3))
        for i in range(0, n, rows):
            s = slice(i, i + rows)
            logits = chunk_logits(hidden[s], head, bias, temperature)
            largest = logits.amax(-1)
            shifted = logits.sub_(largest[:, None])
            log_probs[s] = shifted.gather(1, tokens[s, None])[:, 0]
            masses = shifted.exp() if want_entropy else shifted.exp_()
            total = masses.sum(-1)
            log_probs[s] -= total.log()
            normaliser[s] = largest + total.log()
            if want_entropy:
                entropy[s] = total.log() - torch.linalg.vecdot(masses, shifted) / total
            del logits, shifted, masses  # before the next ones are made
        ctx.save_for_backward(hidden, head, bias, tokens, normaliser, entropy)
        ctx.temperature, ctx.elements = temperature, elements
        ctx.set_materialize_grads(False)
        return log_probs, entropy if want_entropy else None

    @staticmethod
    def backward(ctx, *weights: Any) -> Any:
        if torch.is_grad_enabled():
            raise SettingError("chunked log-probs have no second derivative; use route='naive' for Hessian products")
        if weights[0] is None and weights[1] is None:
            return (None,) * 7
        with torch.autocast(ctx.saved_tensors[0].device.type, enabled=False):
            return (*_slopes(ctx, *weights), None, None, None, None)


def _slopes(ctx: Any, weight: Any, entropy_weight: Any) -> tuple[torch.Tensor | None, ...]:
    """Gradients of hidden, head and bias, tile by tile of the logits."""
    hidden, head, bias, tokens, normaliser, entropy = ctx.saved_tensors
    (n, d), V = hidden.shape, len(head)
    # logits are divided by the temperature, so that their gradients are too
    weight, entropy_weight = (None if w is None else w / ctx.temperature for w in (weight, entropy_weight))
    weight = torch.zeros_like(normaliser) if weight is None else weight
    narrow, wide = torch.promote_types(hidden.dtype, head.dtype), normaliser.dtype
    to_hidden = hidden.new_zeros(n, d, dtype=wide) if ctx.needs_input_grad[0] else None
    to_head = torch.zeros_like(head) if ctx.needs_input_grad[1] else None
    to_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
    rows = max(1, min(n, math.isqrt(ctx.elements)))
    columns = max(1, ctx.elements // max(rows, d))
    for j in range(0, V, columns):
        c = slice(j, j + columns)
        block, offset = head[c].to(narrow), None if bias is None else bias[c]
        # sums over tiles in full precision, also where the head has less
        block_slope = None if to_head is None else to_head[c].to(wide)
        offset_slope = None if to_bias is None else to_bias[c].to(wide)
        for i in range(0, n, rows):
            s = slice(i, i + rows)
            law = chunk_logits(hidden[s], block, offset, ctx.temperature).sub_(normaliser[s, None])
            own = None if entropy_weight is None else entropy_weight[s]
            slope = logit_gradient(law, tokens[s] - j, entropy[s], weight[s], own)
            if offset_slope is not None:
                offset_slope += slope.sum(0)
            slope = slope.to(narrow)
            if to_hidden is not None:
                _add_product(to_hidden[s], slope, block)
            if block_slope is not None:
                _add_product(block_slope, slope.T, hidden[s].to(narrow))
            del law, slope  # before the next ones are made
        if to_head is not None and block_slope is not None and to_head.dtype != wide:
            to_head[c] = block_slope
        if to_bias is not None and offset_slope is not None and to_bias.dtype != wide:
            to_bias[c] = offset_slope
    return None if to_hidden is None else to_hidden.to(hidden.dtype), to_head, to_bias
