"""The Bellman operator in torch, over any number of replicas or models at once.

The same named parts as in the reference. Arrays may carry leading batch axes: ``v [..., S]``, ``r [..., S, A]``, ``P
[..., S, A, S]``; ``P`` may also be a sparse CSR tensor ``(S*A, S)`` that all replicas share, or the `Rows` of policies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from polytheory._typing import Array, Float, Int

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}  # unit roundoff


class Rows(NamedTuple):
    """Padded transitions of one deterministic policy per replica: ``index`` [n, S, K] and ``prob`` [n, S, K]."""

    index: Int[torch.Tensor, "n S K"]
    prob: Float[torch.Tensor, "n S K"]


def expected(P: Any, v: Float[torch.Tensor, "*n S"], *, per_action: bool) -> Float[torch.Tensor, "*n rows"]:
    """Expected value of the next state for every row of ``P``: per state and action, or per state of a policy."""
    if isinstance(P, Rows):
        S, K = P.index.shape[-2:]
        ahead = torch.gather(v, -1, P.index.reshape(*v.shape[:-1], S * K)).reshape(*v.shape[:-1], S, K)
        return (P.prob * ahead).sum(-1)
    if P.layout == torch.sparse_csr:
        return P @ v if v.ndim == 1 else (P @ v.T.contiguous()).T
    flat = P.reshape(*P.shape[: P.ndim - (3 if per_action else 2)], -1, P.shape[-1])
    # one model for all replicas is one matrix product; a model each is a batched one
    return v @ flat.T if flat.ndim == 2 else (flat @ v.unsqueeze(-1)).squeeze(-1)


def q_values(
    P: Any, r: Float[torch.Tensor, ...], v: Float[torch.Tensor, "*n S"], *, gamma: float | Array
) -> Float[torch.Tensor, ...]:
    """State-action values ``r + gamma * P v``; ``r`` has one axis more than ``v``, or as many for a policy's rows."""
    return r + along(gamma, r) * expected(P, v, per_action=r.ndim == v.ndim + 1).reshape(r.shape)


def along(gamma: float | Array, like: torch.Tensor) -> float | torch.Tensor:
    """A discount per replica [n] with trailing axes added, so that it broadcasts; a number stays a number."""
    if isinstance(gamma, torch.Tensor) and gamma.ndim:
        return gamma.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
    return gamma


def greedy_actions(q: Float[torch.Tensor, "*n S A"]) -> Int[torch.Tensor, "*n S"]:
    """The first maximising action of every state."""
    return torch.argmax(q, dim=-1)


def greedy_backup(
    P: Any, r: Float[torch.Tensor, "*n S A"], v: Float[torch.Tensor, "*n S"], *, gamma: float | Array
) -> Float[torch.Tensor, "*n S"]:
    """The optimal Bellman operator: ``(T v)(s) = max_a r(s, a) + gamma * sum_y P(y | s, a) v(y)``."""
    return q_values(P, r, v, gamma=gamma).amax(-1)


def policy_backup(
    P: Any,
    r: Float[torch.Tensor, "*n S A"],
    pi: Float[torch.Tensor, "*n S A"],
    v: Float[torch.Tensor, "*n S"],
    *,
    gamma: float | Array,
) -> Float[torch.Tensor, "*n S"]:
    """The Bellman operator of a policy: ``(T_pi v)(s) = sum_a pi(a | s) q(s, a)``."""
    return (pi * q_values(P, r, v, gamma=gamma)).sum(-1)


def bellman_residual(
    P: Any, r: Float[torch.Tensor, "*n S A"], v: Float[torch.Tensor, "*n S"], *, gamma: float | Array
) -> Float[torch.Tensor, "*n S"]:
    """``T v - v``."""
    return greedy_backup(P, r, v, gamma=gamma) - v


def span(x: Float[torch.Tensor, "*n S"]) -> Float[torch.Tensor, "*n"]:
    """Span seminorm ``max x - min x``."""
    return x.amax(-1) - x.amin(-1)


def midpoint_shift(low: Array, high: Array, gamma: Array) -> Array:
    """The constant that centres MacQueen's interval when ``low <= T v - v <= high`` (operators only)."""
    return gamma * (low + high) / (2 * (1 - gamma))


def half_width(low: Array, high: Array, gamma: Array) -> Array:
    """Half the width of MacQueen's interval when ``low <= T v - v <= high`` (operators only)."""
    return gamma * (high - low) / (2 * (1 - gamma))


def midpoint_correction(
    v_old: Float[torch.Tensor, "*n S"], v_new: Float[torch.Tensor, "*n S"], gamma: float | Array
) -> Float[torch.Tensor, "*n S"]:
    """Move ``v_new = T v_old`` to the middle of MacQueen's interval [macqueen1966; puterman2005, Thm. 6.6.3]."""
    d = v_new - v_old
    return v_new + midpoint_shift(d.amin(-1), d.amax(-1), gamma).to(d.dtype).unsqueeze(-1)


def span_bound(
    v_old: Float[torch.Tensor, "*n S"], v_new: Float[torch.Tensor, "*n S"], gamma: float | Array
) -> Float[torch.Tensor, "*n"]:
    """Sup-norm error of `midpoint_correction`: ``gamma / (1 - gamma) * span(v_new - v_old) / 2``."""
    d = v_new - v_old
    return half_width(d.amin(-1), d.amax(-1), gamma)


def sup_norm_bound(
    v_old: Float[torch.Tensor, "*n S"], v_new: Float[torch.Tensor, "*n S"], gamma: float | Array
) -> Float[torch.Tensor, "*n"]:
    """Sup-norm error of ``v_new = T v_old``: ``gamma / (1 - gamma) * |v_new - v_old|``."""
    return gamma / (1 - gamma) * (v_new - v_old).abs().amax(-1)


def residual_bound(residual: Float[torch.Tensor, "*n S"], gamma: float | Array) -> Float[torch.Tensor, "*n"]:
    """Sup-norm error of any v with ``residual = T v - v``: ``|residual| / (1 - gamma)``."""
    return residual.abs().amax(-1) / (1 - gamma)


def sweep_rounding(value: Array, reward: Array, *, gamma: Array, terms: int, unit: float = 2.0**-53) -> Array:
    """Largest rounding error of one entry of a computed ``T v``; derived in the reference [higham2002, eq. 3.5]."""
    return (terms + 4) * unit * (reward + gamma * value)


def rounding_bound(
    value: Array, reward: Array, change: Array, *, gamma: Array, terms: int, row_gap: float, unit: float = 2.0**-53
) -> Array:
    """What finite precision may add to the bounds above; derived in the reference."""
    local = sweep_rounding(value, reward, gamma=gamma, terms=terms, unit=unit) + 8 * unit * (value + change)
    leak = gamma * row_gap * change / (1 - gamma * (1 + row_gap))
    return (local + leak) / (1 - gamma)
