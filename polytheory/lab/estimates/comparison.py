"""Which method is better, over several tasks: interquartile means with stratified bootstrap intervals [agarwal2021].

The interquartile mean drops the best and the worst quarter of all scores (runs x tasks) and averages the rest: less
noisy than the median, less moved by outliers than the mean. Runs are resampled within each task, since the tasks are not
a sample.

Scores of different tasks must be on one scale (normalised by the caller). Coverage is approximate; simulations in the tests
hold it to its level from 10 runs a task on. Runs of two methods with the same seeds are *not* taken as pairs.

References: [agarwal2021] Agarwal, Schwarzer, Castro, Courville and Bellemare, Deep Reinforcement Learning at the Edge of the
Statistical Precipice, NeurIPS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Comparison:
    """Interquartile means of two methods, their difference (first minus second), and the probability that a run of the
    first beats one of the second on a task drawn at random (ties count half)."""

    first: Estimate
    second: Estimate
    difference: Estimate
    wins: Estimate
    names: tuple[str, str] = ("first", "second")

    @property
    def better(self) -> str | None:
        """The method with the higher score, where the interval of the difference excludes 0; None where it does not."""
        if self.difference.low <= 0 <= self.difference.high:
            return None
        return self.names[0] if self.difference.low > 0 else self.names[1]

    def __str__(self) -> str:
        verdict = f"{self.better} is better" if self.better else "no difference shown"
        return (
            f"{self.names[0]} {self.first}, {self.names[1]} {self.second}: difference {self.difference}, "
            f"{verdict} at error level {1 - self.difference.level:.2g}; P({self.names[0]} > {self.names[1]}) = {self.wins}"
        )


def interquartile_mean(scores: Float[np.ndarray, "*many n"]) -> Float[np.ndarray, "*many"]:
    """Mean of the middle half along the last axis: ``floor(n / 4)`` scores are dropped at each end."""
    n = scores.shape[-1]
    cut = n // 4
    middle = np.partition(scores, (cut, n - cut - 1), axis=-1)[..., cut : n - cut]
    return np.asarray(middle.mean(axis=-1), dtype=np.float64)


def compare(
    first: Float[np.ndarray, "runs_a tasks"],
    second: Float[np.ndarray, "runs_b tasks"],
    *,
    names: tuple[str, str] = ("first", "second"),
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two methods on the same tasks, higher scores being better; percentile intervals.

    Raises `SettingError` on different numbers of tasks, fewer than five runs, scores that are not finite, or a level
    outside (0, 1).
    """
    if first.shape[1] != second.shape[1]:
        raise SettingError(f"{first.shape[1]} tasks against {second.shape[1]}; compare on the same tasks")
    if min(len(first), len(second)) < 5 or not 0 < level < 1:
        raise SettingError(
            f"{len(first)} and {len(second)} runs at level {level}; pass 5 runs or more, a level in (0, 1)"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise SettingError("a score is not finite; give failed runs the worst score there is, and say so")
    rng = np.random.default_rng(seed)
    a, b = (_stratified(x, rng, resamples) for x in (first, second))
    both = [interquartile_mean(x.reshape(*x.shape[:-2], -1)) for x in (a, b)]
    at = [float(interquartile_mean(x.reshape(-1))) for x in (first, second)]
    return Comparison(
        _estimate(at[0], both[0], level),
        _estimate(at[1], both[1], level),
        _estimate(at[0] - at[1], both[0] - both[1], level),
        _estimate(float(_wins(first, second)), _wins(a, b), level),
        names,
    )


def _stratified(x: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    picks = rng.integers(len(x), size=(resamples, *x.shape))
    return np.take_along_axis(x[None], picks, axis=1)


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of pairs [..., runs, tasks] in which a is ahead, averaged over tasks."""
    share = [
        (x[..., :, None] > y[..., None, :]).mean((-2, -1)) + 0.5 * (x[..., :, None] == y[..., None, :]).mean((-2, -1))
        for x, y in zip(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0), strict=True)
    ]
    return np.asarray(np.mean(share, axis=0))


def _estimate(value: float, again: np.ndarray, level: float) -> Estimate:
    low, high = np.quantile(again, ((1 - level) / 2, (1 + level) / 2))
    return Estimate(value, float(low), float(high), level)
