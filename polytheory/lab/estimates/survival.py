"""How long it takes when some runs ended before it happened [kaplan1958].

Assumption: that a run stopped early says nothing about when it would have got there (a budget fixed beforehand, a
machine that was switched off; not a run stopped because it looked hopeless). Leaving censored runs out, or counting
their end as the event, underestimates: both are mutants in the tests.

References: [kaplan1958] Kaplan and Meier, Nonparametric estimation from incomplete observations, JASA 53. [greenwood1926]
Greenwood, The natural duration of cancer. [brookmeyer1982] Brookmeyer and Crowley, A confidence interval for the median
survival time, Biometrics 38. [klein2003] Klein and Moeschberger, Survival Analysis, 2nd edition, Springer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Bool, Float, Int
from polytheory.errors import SettingError
from polytheory.lab.estimates.passage import Passages


@dataclass(frozen=True, eq=False)
class Survival:
    """The share of runs that have not got there yet, as a step function.

    Fields: ``times`` at which some run got there, increasing; ``survival`` just after each; ``variance`` of it, by Greenwood's
    formula [greenwood1926]; ``at_risk`` runs still going just before; ``events`` runs that got there; ``end`` of the longest
    record.
    """

    times: Float[np.ndarray, " m"]
    survival: Float[np.ndarray, " m"]
    variance: Float[np.ndarray, " m"]
    at_risk: Int[np.ndarray, " m"]
    events: Int[np.ndarray, " m"]
    end: float

    def quantile(self, q: float) -> float:
        """First time by which a share q of the runs got there; inf where the records end before that."""
        hit = self.survival <= 1 - q + ROUNDING
        return float(self.times[hit.argmax()]) if hit.any() else float("inf")

    def quantile_interval(self, q: float, *, level: float = 0.95) -> tuple[float, float]:
        """Times at which ``survival = 1 - q`` is not rejected, on the scale ``log(-log survival)`` [brookmeyer1982];
        approximate.

        The upper end is inf where the records end first.
        """
        from scipy.special import ndtri

        z = float(ndtri((1 + level) / 2))
        s = np.clip(self.survival, 1e-300, None)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.sqrt(self.variance) / (s * np.abs(np.log(s)))
            score = np.abs(np.log(-np.log(s)) - np.log(-np.log(1 - q))) / spread
        kept = np.flatnonzero(score <= z)
        before = np.flatnonzero(self.survival > 1 - q + ROUNDING)
        if not len(kept):  # between two jumps: the times next to the crossing
            at = len(before)
            return _at(self.times, at - 1, 0.0), _at(self.times, at, float("inf"))
        return float(self.times[kept[0]]), _at(self.times, int(kept[-1]) + 1, float("inf"))

    def restricted_mean(self, until: float) -> float:
        """Mean of min(time, until): the area under the curve. Raises `SettingError` beyond the longest record."""
        if until > self.end:
            raise SettingError(
                f"until = {until:g} lies beyond the longest record, {self.end:g}; nothing is known there"
            )
        inside = self.times < until
        grid = np.concatenate(([0.0], self.times[inside], [until]))
        return float(np.diff(grid) @ np.concatenate(([1.0], self.survival[inside])))


ROUNDING = 1e-12  # of a product of at most some thousand fractions


def kaplan_meier(found: Passages) -> Survival:
    """The product-limit estimate: ``prod over times up to t of (1 - events / at risk)`` [kaplan1958].

    A run censored at the time of an event counts as at risk there.
    """
    times = np.unique(found.times[found.observed])
    events = np.array([(found.times[found.observed] == t).sum() for t in times], dtype=np.int64)
    at_risk = np.array([(found.times >= t).sum() for t in times], dtype=np.int64)
    survival = np.cumprod(1 - events / np.maximum(at_risk, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.cumsum(events / (at_risk * (at_risk - events).astype(float)))
        variance = np.where(survival > 0, survival**2 * terms, 0.0)
    return Survival(times, survival, variance, at_risk, events, float(found.times.max()))


def quantiles(
    times: Float[np.ndarray, "*many n"], observed: Bool[np.ndarray, "*many n"], q: float
) -> Float[np.ndarray, "*many"]:
    """`Survival.quantile` of many samples at once, along the last axis."""
    order = np.lexsort((~observed, times), axis=-1)  # at equal times events come first
    t, seen = np.take_along_axis(times, order, -1), np.take_along_axis(observed, order, -1)
    at_risk = t.shape[-1] - np.arange(t.shape[-1])
    left = np.cumprod(np.where(seen, 1 - 1 / at_risk, 1.0), axis=-1)
    hit = seen & (left <= 1 - q + ROUNDING)
    first = np.take_along_axis(t, hit.argmax(-1)[..., None], -1)[..., 0]
    return np.where(hit.any(-1), first, np.inf)


def _at(times: np.ndarray, i: int, beyond: float) -> float:
    return float(times[i]) if 0 <= i < len(times) else beyond
