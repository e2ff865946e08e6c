"""Compare two methods seed by seed and stop as soon as the answer is sure, by betting [waudby2024].

Let ``d_t`` in [-1, 1] be the difference of seed t (first minus second, divided by the range of a difference), and let the null
hypothesis be "the first is not better": ``E[d_t | past] <= 0``. Start with 1 and bet the share ``lambda_t`` in [0, 1/2]
of it, chosen from the past alone, on the first method::

    W_t = W_{t-1} (1 + lambda_t d_t),        W_0 = 1.

Under the null ``E[W_t | past] = W_{t-1} (1 + lambda_t E[d_t | past]) <= W_{t-1}`` and ``W_t >= 0``: a nonnegative
supermartingale, so that by Ville's inequality ``P(some W_t >= 1 / a) <= a`` [ville1939]. Looking after every seed, and
stopping whenever one likes, costs nothing. Both directions are bet on at ``a = alpha / 2``: the probability of ever
naming a method that is not better is at most ``alpha`` (if the means are equal, of naming any; if one is better, of
naming the other, at most ``alpha / 2``).

The bet is ``lambda_t = clip(m_{t-1} / (v_{t-1} + m_{t-1}^2), 0, 1/2)``, with mean and variance of the past, each started
with one imagined observation (0, variance 1/4): it decides the power and not the validity.

Needed: a bound on the differences known beforehand (values in [0, H] give H); not that the d_t are independent, only that the
conditional mean has the stated sign, as for fresh seeds. Without a bound: compare signs, ``how="sign"``, which asks who
wins more often and not by how much.

References: [waudby2024] Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86.
[ville1939] Ville, Etude critique de la notion de collectif.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError

HOW = ("mean", "sign")
LARGEST_BET = 0.5


@dataclass(frozen=True)
class Verdict:
    """How a comparison ended: ``better`` "first", "second" or None; ``seeds`` used, ``evidence`` the wealth of the two
    bets, which may be read as p <= 1 / evidence each."""

    better: str | None
    seeds: int
    evidence: tuple[float, float]
    alpha: float

    def __str__(self) -> str:
        said = f"the {self.better} is better" if self.better else "undecided"
        e = max(self.evidence)
        return f"{said} after {self.seeds} seeds (evidence {e:.3g}, {2 / self.alpha:.3g} needed; error level {self.alpha:g})"


def wealth(d: Float[np.ndarray, "*many T"]) -> Float[np.ndarray, "*many T"]:
    """``W_t`` of a bettor on positive ``d``, along the last axis; entries in [-1, 1]."""
    t = np.arange(d.shape[-1])
    mean = _before(np.cumsum(d, axis=-1)) / (t + 1)
    square = (0.25 + _before(np.cumsum(d**2, axis=-1))) / (t + 1)
    bet = np.clip(mean / square, 0.0, LARGEST_BET)  # square = v + m^2
    return np.cumprod(1 + bet * d, axis=-1)


def decide(
    first: Float[np.ndarray, " T"],
    second: Float[np.ndarray, " T"],
    *,
    largest: float | None = None,
    how: str = "mean",
    alpha: float = 0.05,
) -> Verdict:
    """Go through the scores seed by seed (higher is better) and stop at the first sure answer.

    Args:
        first: score of the first method with each seed.
        second: of the second, with the same seeds.
        largest: no difference exceeds this; required for "mean".
        how: "mean", or "sign".
        alpha: probability of ever naming a method that is not better, in (0, 1).

    Raises `SettingError` where a difference exceeds ``largest``: the guarantee would be void.
    """
    if how not in HOW:
        raise UnknownNameError("comparison", how, HOW)
    if first.shape != second.shape or not len(first) or not 0 < alpha < 1:
        raise SettingError(
            f"{len(first)} and {len(second)} scores, alpha = {alpha}; pass equally many, alpha in (0, 1)"
        )
    d = np.sign(first - second) if how == "sign" else (first - second) / _bound(largest)
    if not (np.abs(d) <= 1).all():
        worst = float(np.abs(first - second).max())
        raise SettingError(
            f"a difference of {worst:g} exceeds largest = {largest}; take a bound that holds for all runs"
        )
    paths = wealth(np.stack([d, -d]))
    sure = paths >= 2 / alpha
    at = int(sure.any(axis=0).argmax()) if sure.any() else len(d) - 1
    better = ("first" if sure[0, at] else "second") if sure.any() else None
    return Verdict(better, at + 1, (float(paths[0, at]), float(paths[1, at])), alpha)


def _before(sums: np.ndarray) -> np.ndarray:
    """Sums up to the previous entry."""
    return np.concatenate([np.zeros_like(sums[..., :1]), sums[..., :-1]], axis=-1)


def _bound(largest: float | None) -> float:
    if largest is None or not (largest > 0 and np.isfinite(largest)):
        raise SettingError(f'largest = {largest}; pass a bound on the differences, such as H r_max, or how="sign"')
    return largest
