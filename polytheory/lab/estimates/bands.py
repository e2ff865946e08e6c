"""Curves over seeds with intervals: at each point alone, or for the whole curve at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError


@dataclass(frozen=True, eq=False)
class Band:
    """Mean over seeds with lower and upper ends; all [k]."""

    mean: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]


def band(
    y: Float[np.ndarray, "seeds k"],
    *,
    level: float = 0.95,
    simultaneous: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> Band:
    """Mean of y with an interval ``mean -+ c se`` at every point.

    At each point alone ``c`` is Student's quantile (exact for normal means). ``simultaneous``: the whole mean curve lies
    inside with probability ``level``; ``c`` is the quantile of ``max_j |mean*_j - mean_j| / se*_j`` over bootstrap
    resamples of whole runs, so that the dependence along a run is used. Approximate: the coverage is right up to terms
    of order 1 / seeds.

    Raises `SettingError` on fewer than two seeds, five when ``simultaneous``, or a level outside (0, 1).
    """
    n, few = len(y), 5 if simultaneous else 2
    if n < few or not 0 < level < 1:
        raise SettingError(f"{n} seeds at level {level}; a band needs at least {few} seeds and a level in (0, 1)")
    mean, se = y.mean(axis=0), y.std(axis=0, ddof=1) / np.sqrt(n)
    if simultaneous:
        w = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
        means = w @ y
        spread = np.sqrt(np.clip(w @ y**2 - means**2, 0, None) / (n - 1))
        t = np.divide(np.abs(means - mean), spread, out=np.zeros_like(means), where=spread > 1e-9 * se)
        c = float(np.quantile(t.max(axis=1), level))
    else:
        from scipy.special import stdtrit

        c = float(stdtrit(n - 1, (1 + level) / 2))
    return Band(mean, mean - c * se, mean + c * se)


def regret(suboptimality: Float[np.ndarray, "seeds T"]) -> Float[np.ndarray, "seeds T"]:
    """Cumulative regret of policies played one episode each: running sums of ``V* - V^pi``."""
    return np.cumsum(suboptimality, axis=1)
