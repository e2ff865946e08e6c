"""Logarithms of a measured curve with everything that an interval needs: resamples over seeds, and covariances.

A linear function ``w . log m`` of the curve (its log-log slope, its curvature) is then estimated with an interval by the
bootstrap [efron1993]:

- curves of means are studentised ("bootstrap-t": ``(estimate* - estimate) / se*``, se by the delta method), which is
second-order
  accurate [hall1992]: the error of the coverage is of order 1 / seeds rather than 1 / sqrt(seeds);
- curves of quantiles, as of N(eps) with censored runs, have no simple standard error: their percentiles are taken.

Seeds are resampled whole where one run gave the whole curve (``paired``), so that the dependence within a run is kept;
where every point has runs of its own, each point is resampled alone.

References: [efron1993] Efron and Tibshirani, An Introduction to the Bootstrap. [hall1992] Hall, The Bootstrap and Edgeworth
Expansion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.lab.estimates.passage import Passages
from polytheory.lab.estimates.survival import quantiles

FEWEST = 5  # seeds: with fewer, resampling sees too few different samples (for 4 there are 35)
LOST = 0.05  # share of resamples that may have no value (a mean of 0, a quantile beyond the records)


@dataclass(frozen=True, eq=False)
class Logs:
    """The curve, and what is needed for the error of any linear function of it.

    Fields: ``value`` [k] logs of the curve; ``resampled`` [B, k] those of the resamples, NaN where one has none; ``influence``
    [rows, k] with ``covariance of value = influence^T influence`` and ``resampled_covariance`` [B, k, k], of means, None for
    quantiles; ``seeds`` the fewest at a point.
    """

    value: Float[np.ndarray, " k"]
    resampled: Float[np.ndarray, "B k"]
    influence: Float[np.ndarray, "rows k"] | None
    resampled_covariance: Float[np.ndarray, "B k k"] | None
    seeds: int

    def part(self, at: slice) -> Logs:
        """Some of the points."""
        if self.influence is None or self.resampled_covariance is None:
            return Logs(self.value[at], self.resampled[:, at], None, None, self.seeds)
        inner = self.resampled_covariance[:, at, at]
        return Logs(self.value[at], self.resampled[:, at], self.influence[:, at], inner, self.seeds)

    def contrast(self, w: Float[np.ndarray, " k"]) -> Contrast:
        """``w . value`` with what is known of its error."""
        estimate, again = float(w @ self.value), self.resampled @ w
        if self.influence is None or self.resampled_covariance is None:
            return Contrast(estimate, 1.0, _kept(again - estimate))
        se = float(np.linalg.norm(self.influence @ w))
        if se <= 1e-12 * float(np.abs(w) @ (1 + np.abs(self.value))):  # nothing but rounding: all seeds agree
            return Contrast(estimate, 0.0, np.zeros(1))
        spread = np.sqrt(np.clip(np.einsum("j,bjl,l->b", w, self.resampled_covariance, w), 0, None))
        t = np.divide(again - estimate, spread, out=np.full(len(again), np.nan), where=spread > 1e-9 * se)
        return Contrast(estimate, se, _kept(t), studentised=True)


@dataclass(frozen=True, eq=False)
class Contrast:
    """An estimate and the law of its error in units of ``scale``: sorted resampled ``errors``, studentised or plain."""

    estimate: float
    scale: float
    errors: Float[np.ndarray, " B"]
    studentised: bool = False

    def interval(self, level: float) -> tuple[float, float]:
        """The ends of the interval."""
        low, high = np.quantile(self.errors, ((1 - level) / 2, (1 + level) / 2))
        if self.studentised:  # the pivot turns the tails round
            return self.estimate - float(high) * self.scale, self.estimate - float(low) * self.scale
        return self.estimate + float(low), self.estimate + float(high)

    def p_value(self, stated: float) -> float:
        """Of the hypothesis that the true value is ``stated``, two-sided: the level at which the interval just reaches it."""
        away = self.estimate - stated
        if self.scale == 0:
            return float(abs(away) <= 1e-9 * (1 + abs(stated)))
        t = away / self.scale if self.studentised else -away
        below, above = (self.errors <= t).sum(), (self.errors >= t).sum()
        return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(self.errors))))


def mean_logs(y: Float[np.ndarray, "seeds k"], *, paired: bool, resamples: int = 2000, seed: int = 0) -> Logs:
    """Logs of the mean over seeds at each of k points.

    Args:
        y: positive on average; NaN where a point has fewer runs than others (only if not ``paired``).
        paired: whether a row is one run.
        resamples: of the bootstrap.
        seed: of the resampling.

    Raises `SettingError` on too few seeds, numbers that are not finite or not positive, or gaps in paired data.
    """
    here = ~np.isnan(y)
    if not np.isfinite(y[here]).all() or (y[here] < 0).any():
        raise SettingError(f"a logarithm needs numbers >= 0, finite; found {np.nanmin(y):g} to {np.nanmax(y):g}")
    if paired and not here.all():
        raise SettingError("a run has no value at some point; pass runs of equal length, or paired=False")
    n = here.sum(axis=0)
    _enough(int(n.min()), all(np.ptp(c[~np.isnan(c)]) == 0 for c in y.T if (~np.isnan(c)).any()))
    filled = np.where(here, y, 0.0)
    mean = filled.sum(axis=0) / n
    if not (mean > 0).all():
        raise SettingError(f"point {int(np.argmin(mean))} is 0 in every run and has no logarithm; leave it out")
    rng = np.random.default_rng(seed)
    away = np.where(here, y / mean - 1, 0.0) / np.sqrt(n * (n - 1.0))
    if paired:
        w = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=resamples).astype(float)
        means, products = w @ y / len(y), np.einsum("bi,ij,il->bjl", w, y, y, optimize=True) / len(y)
        return _with_covariances(mean, away, means, products, n)
    means, squares = np.empty((resamples, y.shape[1])), np.empty((resamples, y.shape[1]))
    for j, column in enumerate(y.T):
        x = column[here[:, j]]
        w = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=resamples) / len(x)
        means[:, j], squares[:, j] = w @ x, w @ x**2
    identity = np.eye(y.shape[1])  # independent points have covariance 0: the product of the means off the diagonal
    products = np.where(identity > 0, squares[:, :, None] * identity, means[:, :, None] * means[:, None, :])
    return _with_covariances(mean, np.einsum("ij,jl->ijl", away, identity).reshape(-1, y.shape[1]), means, products, n)


def passage_logs(found: list[Passages], *, q: float = 0.5, resamples: int = 1000, seed: int = 0) -> Logs:
    """Logs of the q-quantile of N(eps), censored runs included (Kaplan-Meier), at each of k eps; the same runs at all of them.

    Raises `SettingError` where too many runs are censored at an eps for its quantile to be known, or a quantile is 0.
    """
    times, observed = np.stack([x.times for x in found], axis=1), np.stack([x.observed for x in found], axis=1)
    _enough(len(times), False)
    if not 0 < q < 1:
        raise SettingError(f"q = {q}; a quantile lies strictly between 0 and 1")
    value = quantiles(times.T, observed.T, q)
    picks = np.random.default_rng(seed).integers(len(times), size=(resamples, len(times)))
    again = np.stack([quantiles(t[picks], o[picks], q) for t, o in zip(times.T, observed.T, strict=True)], axis=1)
    lost = (~np.isfinite(again) | (again <= 0)).mean(axis=0)
    bad = np.flatnonzero(~np.isfinite(value) | (value <= 0) | (lost > LOST))
    if len(bad):
        j = int(bad[0])
        raise SettingError(
            f"point {j}: {1 - observed[:, j].mean():.0%} of the runs are censored and the {q:g}-quantile of N(eps) is "
            f"{value[j]:g}; run longer, take a lower quantile, or leave this eps out"
        )
    again = np.where(np.isfinite(again) & (again > 0), again, np.nan)
    return Logs(np.log(value), np.log(again), None, None, len(times))


def _with_covariances(mean, influence, means, products, n) -> Logs:
    """Delta method: ``cov(log m_j, log m_l) = (E y_j y_l / (m_j m_l) - 1) / (n - 1)``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(means > 0, np.log(means), np.nan)
        again = (products / (means[:, :, None] * means[:, None, :]) - 1) / (n - 1.0)
    return Logs(np.log(mean), logs, influence, again, int(n.min()))


def _kept(errors: np.ndarray) -> np.ndarray:
    kept = np.sort(errors[np.isfinite(errors)])
    if len(kept) < (1 - LOST) * len(errors):
        raise SettingError(
            f"{len(errors) - len(kept)} of {len(errors)} resamples have no value (too many zeros, or runs that hardly "
            "differ); add seeds"
        )
    return kept


def _enough(n: int, equal: bool) -> None:
    if n < FEWEST and not (equal and n >= 2):
        raise SettingError(
            f"{n} seed{'s' * (n != 1)}; an interval needs at least {FEWEST} "
            "(2 where all runs agree, as of a method without chance)"
        )
