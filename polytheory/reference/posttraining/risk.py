"""Distorted weights of scores: the derivatives of quantile integrals such as RVaR and MVaR, and where quantiles come from.

With ``q_s = F^{-1}(s)`` of the law F of scores, ``RVaR = 1/(beta - alpha) int_alpha^beta q_s ds`` and
``CVaR_alpha = 1/alpha int_0^alpha q_s ds``. Where neither level is on a jump of F the quantiles are locally constant, and the
gradients are score-function gradients ``E[weight(R) grad log pi]`` with the weights below, for any discrete F.

``rise``, ``distortion``, ``tail`` and ``weight`` use operators only, so that symbols go through them: ``positive`` is
``x -> max(x, 0)``.

References: [ren2025] Ren et al., RiskPO: Risk-based Policy Optimization via Verifiable Reward for LLM Post-Training,
arXiv 2510.00911. [rockafellar2000] Rockafellar and Uryasev, Optimization of Conditional Value-at-Risk, J. Risk, 2000.
[chernozhukov2010] Chernozhukov, Fernandez-Val and Galichon, Quantile and Probability Curves Without Crossing, 2010.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError

MEASURES = ("mvar", "mvar_released", "rvar", "cvar", "mean", "seeking")
CONVENTIONS = ("linear", "inf")
LEVELS = np.arange(1, 20) / 20  # the tracked levels 0.05 .. 0.95
SAME = 1e-9  # levels are decimals: their products and sums are off by roundings, never by this much


def positive_part(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """``max(x, 0)``."""
    return np.maximum(x, 0.0)


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


def law_quantile(values: Float[np.ndarray, " n"], probs: Float[np.ndarray, " n"], level: float) -> float:
    """``inf {x: P(R <= x) >= level}`` of a discrete law; its smallest value at level 0, its largest at level 1.

    Raises `SettingError` for a level on a jump, ``P(R <= x) = level``: there the quantile is not locally constant and the
    two one-sided derivatives of a quantile integral differ.
    """
    possible = probs > 0
    support, place = np.unique(values[possible], return_inverse=True)
    below = np.cumsum(np.bincount(place, weights=probs[possible]))
    if level <= 0 or level >= 1:
        return float(support[0] if level <= 0 else support[-1])
    at = int(np.argmin(np.abs(below - level)))
    if abs(below[at] - level) < SAME:
        raise SettingError(
            f"level {level} is on a jump: P(R <= {support[at]:g}) = {below[at]:.6g}; the derivatives from its two sides "
            "differ, move the level"
        )
    return float(support[np.searchsorted(below, level)])


def sample_quantile(scores: Float[np.ndarray, " m"], level: float, convention: str = "linear") -> float:
    """Quantile of m >= 1 equally likely scores.

    ``convention``: "linear" interpolates between order statistics at ``level (m - 1)``; "inf" is the smallest score x with
    ``P(R <= x) >= level``.
    """
    ordered, m = np.sort(scores), len(scores)
    if convention == "inf":
        return float(ordered[max(ceil(level * m - SAME) - 1, 0)])
    place = level * (m - 1)
    low = floor(place + SAME)
    part = place - low if place - low > SAME else 0.0
    return float(ordered[low] + part * (ordered[min(low + 1, m - 1)] - ordered[low]))


def track(
    q: Float[np.ndarray, " L"],
    scores: Float[np.ndarray, " m"],
    *,
    levels: Float[np.ndarray, " L"] = LEVELS,
    lr_q: float = 0.1,
) -> Float[np.ndarray, " L"]:
    """``q_s + lr_q (s - P(R < q_s))`` over the scores of a step.

    Near an atom x with ``P(R < x) < s < P(R <= x)`` a tracked quantile enters ``[x - lr_q (1 - s), x + lr_q s]`` and stays.
    """
    below = (scores[None, :] < q[:, None]).sum(axis=1) / len(scores)
    return q + lr_q * (levels - below)


def tracked(q: Float[np.ndarray, " 19"], level: float) -> float:
    """The tracked quantile of one of the 19 levels; where neighbours have crossed they are read in order.

    A step can make tracked quantiles cross by ``lr_q``, which would turn the sign of all weights; sorting never makes them
    worse [chernozhukov2010]. Raises `SettingError` for a level that is not tracked.
    """
    return float(np.sort(q)[level_index(level)])


def level_index(level: float) -> int:
    """Place of a level among the tracked ones. Raises `SettingError` where it is not one of them."""
    at = round(level * 20) - 1
    if not 0 <= at < len(LEVELS) or abs(LEVELS[at] - level) > SAME:
        raise SettingError(
            f"level {level} is not among the tracked 0.05, 0.1, ..., 0.95; take one, or quantiles='batch'"
        )
    return at


def entropy_slope(p: Float[np.ndarray, " n"], advantage: Float[np.ndarray, " n"]) -> float:
    """``dH/d eta`` at 0 of a softmax p whose logits move by ``eta A``: ``-Cov_p(log p, A)`` [ren2025, Proposition 1].

    ``p`` > 0 sums to 1. Positive: the step spreads the policy.
    """
    centred = advantage - p @ advantage
    return -float(p @ (np.log(p) * centred))


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
    if not (0 <= w < np.inf and 0 <= w_mix < np.inf):
        raise SettingError(f"w = {w}, w_mix = {w_mix}; weights of the tail are finite and >= 0")
