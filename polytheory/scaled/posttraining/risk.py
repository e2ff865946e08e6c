"""Distorted weights of scores in torch: derivatives of quantile integrals, and where quantiles come from; see the reference.

``rise``, ``distortion``, ``tail`` and ``weight`` use operators only, so that symbols go through them: ``positive`` is
``x -> max(x, 0)``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, inf
from typing import Any

import torch

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError

MEASURES = ("mvar", "mvar_released", "rvar", "cvar", "mean", "seeking")
CONVENTIONS = ("linear", "inf")
LEVELS = torch.arange(1, 20, dtype=torch.float64) / 20  # the tracked levels 0.05 .. 0.95
SAME = 1e-9  # levels are decimals: their products and sums are off by roundings, never by this much


def positive_part(x: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
    """``max(x, 0)``."""
    return x.clamp(min=0.0)


def rise(z: Any, a: Any, b: Any, positive: Callable[[Any], Any] = positive_part) -> Any:
    """``(z - a)^+ - (z - b)^+``: how far z is above a, at most b - a."""
    return positive(z - a) - positive(z - b)


def distortion(z: Any, a: Any, b: Any, positive: Callable[[Any], Any] = positive_part) -> Any:
    """``g(z, a, b) = (z - a)^+ - (z - b)^+ + a - b``: a - b up to a, 0 from b on [ren2025, Theorem 1]."""
    return rise(z, a, b, positive) + a - b


def tail(z: Any, a: Any, positive: Callable[[Any], Any] = positive_part) -> Any:
    """``-(a - z)^+``: minus how far z is below a."""
    return -positive(a - z)


def weight(
    z: Any,
    a: Any,
    b: Any,
    *,
    measure: str = "mvar",
    alpha: Any = 0.2,
    beta: Any = 0.8,
    w: Any = 3.5,
    w_mix: Any = 1.5,
    natural: bool = True,
    positive: Callable[[Any], Any] = positive_part,
) -> Any:
    """Weight of a score z when the quantiles at ``alpha`` and ``beta`` are a and b.

    Args:
        measure: "rvar" ``g / (beta - alpha)``; "cvar" ``-(a - z)^+ / alpha``; "mvar" the paper's mixture
            ``-(1 + w)(a - z)^+ + g``; "mvar_released" that of the authors' code,
            ``(w_mix cvar + rvar) / (w_mix + 1)``, proportional to it where ``1 + w = w_mix (beta - alpha) / alpha``;
            "seeking" the same with the upper tail ``(z - b)^+ / (1 - beta)`` for cvar; "mean" z itself.
        w, w_mix: weights of the tail, >= 0.
        natural: keep the constant ``a - b`` of g, which makes the weights of rvar and the mixtures <= 0. The mean gradient
            is the same without it.
    """
    if measure == "mean":
        return z
    if measure == "cvar":
        return tail(z, a, positive) / alpha
    g = distortion(z, a, b, positive) if natural else rise(z, a, b, positive)
    if measure == "rvar":
        return g / (beta - alpha)
    if measure == "mvar":
        return (1 + w) * tail(z, a, positive) + g
    extra = tail(z, a, positive) / alpha if measure == "mvar_released" else positive(z - b) / (1 - beta)
    return (w_mix * extra + g / (beta - alpha)) / (w_mix + 1)


def law_quantile(values: Float[torch.Tensor, " n"], probs: Float[torch.Tensor, " n"], level: float) -> float:
    """``inf {x: P(R <= x) >= level}`` of a discrete law; ends and `SettingError` on a jump as in the reference."""
    possible = probs > 0
    support, place = torch.unique(values[possible], return_inverse=True)
    below = torch.zeros_like(support).index_add_(0, place, probs[possible]).cumsum(0)
    if level <= 0 or level >= 1:
        return float(support[0] if level <= 0 else support[-1])
    at = int((below - level).abs().argmin())
    if abs(float(below[at]) - level) < SAME:
        raise SettingError(
            f"level {level} is on a jump: P(R <= {float(support[at]):g}) = {float(below[at]):.6g}; the derivatives from its "
            "two sides differ, move the level"
        )
    return float(support[int((below < level).sum())])


def sample_quantile(
    scores: Float[torch.Tensor, "*k m"], level: float, convention: str = "linear"
) -> Float[torch.Tensor, "*k"]:
    """Quantile of m >= 1 equally likely scores along the last axis; conventions as in the reference."""
    ordered, m = scores.sort(-1).values, scores.shape[-1]
    if convention == "inf":
        return ordered[..., max(ceil(level * m - SAME) - 1, 0)]
    place = level * (m - 1)
    low = floor(place + SAME)
    part = place - low if place - low > SAME else 0.0
    return ordered[..., low] + part * (ordered[..., min(low + 1, m - 1)] - ordered[..., low])


def track(
    q: Float[torch.Tensor, " L"],
    scores: Float[torch.Tensor, " m"],
    *,
    levels: Float[torch.Tensor, " L"] = LEVELS,
    lr_q: float = 0.1,
) -> Float[torch.Tensor, " L"]:
    """``q_s + lr_q (s - P(R < q_s))`` over the scores of a step; where it settles: see the reference."""
    below = (scores[None, :] < q[:, None]).sum(1).double() / len(scores)
    return q + lr_q * (levels.to(q.device) - below)


def tracked(q: Float[torch.Tensor, " 19"], level: float) -> Float[torch.Tensor, ""]:
    """The tracked quantile of one of the 19 levels; where neighbours have crossed they are read in order.

    Raises `SettingError` for a level that is not tracked.
    """
    return q.sort().values[level_index(level)]


def level_index(level: float) -> int:
    """Place of a level among the tracked ones. Raises `SettingError` where it is not one of them."""
    at = round(level * 20) - 1
    if not 0 <= at < len(LEVELS) or abs(float(LEVELS[at]) - level) > SAME:
        raise SettingError(
            f"level {level} is not among the tracked 0.05, 0.1, ..., 0.95; take one, or quantiles='batch'"
        )
    return at


def entropy_slope(p: Float[torch.Tensor, " n"], advantage: Float[torch.Tensor, " n"]) -> float:
    """``dH/d eta`` at 0 of a softmax p whose logits move by ``eta A``: ``-Cov_p(log p, A)`` [ren2025, Proposition 1].

    ``p`` > 0 sums to 1. Positive: the step spreads the policy.
    """
    centred = advantage - p @ advantage
    return -float(p @ (p.log() * centred))


def check_measure(measure: str, alpha: float, beta: float, w: float, w_mix: float) -> None:
    """Raise `UnknownNameError` or `SettingError` unless ``0 <= alpha < beta <= 1`` and the measure exists there."""
    if measure not in MEASURES:
        raise UnknownNameError("risk measure", measure, MEASURES)
    if not 0 <= alpha < beta <= 1:
        raise SettingError(f"alpha = {alpha}, beta = {beta}; need 0 <= alpha < beta <= 1, the paper takes 0.2 and 0.8")
    if alpha == 0 and measure in ("cvar", "mvar_released"):
        raise SettingError(f"alpha = 0 leaves {measure} no lower tail; take alpha > 0, or measure='rvar'")
    if beta == 1 and measure == "seeking":
        raise SettingError("beta = 1 leaves the risk-seeking measure no upper tail; take beta < 1")
    if not (0 <= w < inf and 0 <= w_mix < inf):
        raise SettingError(f"w = {w}, w_mix = {w_mix}; weights of the tail are finite and >= 0")
