"""The exponent of a measured law, its interval, and where on the range the law holds.

Least squares of ``log y`` on ``log x`` (law "power": ``y ~ x^slope``) or on ``x`` (law "exponential": ``y ~ e^(slope x)``), all
points with equal weight. Intervals by the bootstrap over seeds, see `logs`.

**Where the law begins.** A theorem speaks of large T (small eps); before that other terms rule. The curvature of the
log-log curve, its component along the quadratic that is orthogonal to all straight lines, is 0 if the law holds on the
range. Ranges are tested in a fixed order, from all points to the last three, each at level ``alpha``, until one is not
rejected; the law is said to begin there. Since the ranges are nested, "the law holds from here on" is true for all
ranges after the first true one, so that saying "not reached below T" too late needs the rejection of one true
hypothesis: its probability is at most ``alpha`` however many ranges are tried [maurer1995]. That a range is *not*
rejected proves nothing: few seeds reject little.

The interval of the exponent is that of the range where the law begins. It is taken after a choice, so its coverage is only
approximate when the choice is close; over all points given (``begins=False``) it is what it says.

References: [maurer1995] Maurer, Hothorn and Lehmacher, Multiple comparisons in drug clinical trials and preclinical assays:
a-priori ordered hypotheses. [draper1998] Draper and Smith, Applied Regression Analysis, ch. 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.estimates.logs import Logs

LAWS = ("power", "exponential")
TOWARDS = ("large", "small")
FEWEST_POINTS = 3  # a straight line and one degree of freedom for its lack of fit


@dataclass(frozen=True)
class Exponent:
    """What was measured, what a theorem says, and whether they agree.

    Fields: ``slope`` with interval ``low``, ``high`` at ``level``; ``intercept`` of the fitted line; ``start`` and
    ``stop``, the range it was fitted on; ``points`` and ``seeds`` there; ``curvature`` of the whole range as the local
    exponents at its two ends (asymptotic end last), and ``curvature_p`` of no curvature on the whole range; ``begins``
    whether the law holds from ``start`` on as far as can be told at ``alpha``; ``skipped``, the x before ``start`` where
    it was rejected; ``stated``, the theorem's, and ``stated_p`` of it, two-sided.
    """

    slope: float
    low: float
    high: float
    intercept: float
    start: float
    stop: float
    points: int
    seeds: int
    curvature: tuple[float, float]
    curvature_p: float
    begins: bool
    skipped: tuple[float, ...] = ()
    stated: float | None = None
    stated_p: float | None = None
    level: float = 0.95
    alpha: float = 0.05
    law: str = "power"
    x: str = "x"
    y: str = "y"

    @property
    def agrees(self) -> bool | None:
        """Whether the stated exponent is not rejected, that is, within the interval; None where none was stated."""
        return None if self.stated_p is None else self.stated_p >= 1 - self.level

    def at(self, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The fitted line."""
        return np.exp(self.intercept + self.slope * _scale(x, self.law))

    def __str__(self) -> str:
        said = "" if self.stated is None else f"theorem says {self.term(self.stated)}; "
        ends = (self.low, self.high) if self.law == "power" else (np.exp(self.low), np.exp(self.high))
        interval = f"[{ends[0]:.3g}, {ends[1]:.3g}]"
        where = f"{self.level:.0%} interval, {self.x} = {self.start:g} to {self.stop:g}, {self.seeds} seeds"
        text = f"{said}measured {self.term(self.slope)} {interval} ({where})"
        if self.skipped:
            side = "below" if self.start > self.skipped[0] else "above"
            text += f"; asymptotics not reached {side} {self.x} = {self.start:g}"
        if not self.begins:
            bend = f"{self.curvature[0]:.3g} to {self.curvature[1]:.3g}"
            text += f"; no {self.law} law on this range: the local exponent goes from {bend}"
        return text

    def term(self, slope: float) -> str:
        """A slope in words: ``T^0.5``, or ``0.95^k`` for an exponential law."""
        return f"{self.x}^{slope:.3g}" if self.law == "power" else f"{np.exp(slope):.4g}^{self.x}"


def fit(
    x: Float[np.ndarray, " k"],
    logs: Logs,
    *,
    stated: float | None = None,
    law: str = "power",
    towards: str = "large",
    begins: bool = True,
    level: float = 0.95,
    alpha: float = 0.05,
    names: tuple[str, str] = ("x", "y"),
) -> Exponent:
    """The exponent of ``y`` in ``x``.

    Args:
        x: where the curve was measured, distinct, > 0 for a power law.
        logs: the curve, from `logs.mean_logs` or `logs.passage_logs`.
        stated: the theorem's exponent (for "exponential" the rate, such as ``log gamma``).
        law: "power" or "exponential".
        towards: where the asymptotics are: "large" x, or "small" (as for eps).
        begins: look for the range where the law holds; False takes all points.
        level: of the interval.
        alpha: error level of "not reached below".
        names: of x and y, for the sentence.

    Raises `SettingError` on fewer than three points, and where `logs` cannot give an interval.
    """
    for kind, value, known in (("law", law, LAWS), ("direction", towards, TOWARDS)):
        if value not in known:
            raise UnknownNameError(kind, value, known)
    if not (0 < level < 1 and 0 < alpha < 1):
        raise SettingError(f"level = {level}, alpha = {alpha}; both lie strictly between 0 and 1")
    if len(x) != len(logs.value) or len(x) < FEWEST_POINTS:
        raise SettingError(
            f"{len(x)} points for {len(logs.value)} values; a fit with a check needs {FEWEST_POINTS} or more"
        )
    if len(set(x.tolist())) < len(x) or (law == "power" and not (x > 0).all()):
        raise SettingError("points of a fit must be distinct, and > 0 for a power law")
    order = np.argsort(x if towards == "large" else -x)
    x, logs = x[order], _ordered(logs, order)
    z = _scale(x, law)
    p = [logs.part(slice(i, None)).contrast(curvature_weights(z[i:])).p_value(0.0) for i in range(len(x) - 2)]
    start = next((i for i, value in enumerate(p) if value > alpha), None) if begins else 0
    first = 0 if start is None else start
    inside, z_in = logs.part(slice(first, None)), z[first:]
    found = inside.contrast(slope_weights(z_in))
    low, high = found.interval(level)
    return Exponent(
        slope=found.estimate, low=low, high=high,
        intercept=float(inside.value.mean() - found.estimate * z_in.mean()),
        start=float(x[first]), stop=float(x[-1]), points=len(z_in), seeds=logs.seeds,
        curvature=_local(z, logs.value), curvature_p=p[0],
        begins=start is not None and p[first] > alpha,
        skipped=tuple(x[:first].tolist()),
        stated=stated, stated_p=None if stated is None else found.p_value(stated),
        level=level, alpha=alpha, law=law, x=names[0], y=names[1],
    )  # fmt: skip


def slope_weights(z: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """``w`` with ``w . y`` the least-squares slope of y on z: ``(z - mean) / sum (z - mean)^2``."""
    away = z - z.mean()
    return away / (away @ away)


def curvature_weights(z: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """``w`` with ``w . y`` the coefficient of ``z^2`` in the least-squares parabola: 0 for every straight line."""
    scale = float(np.ptp(z))
    u = (z - z.mean()) / scale
    lines = np.stack([np.ones_like(u), u], axis=1)
    q = u**2 - lines @ np.linalg.lstsq(lines, u**2, rcond=None)[0]
    return q / (q @ q) / scale**2


def pure_error_test(z: Float[np.ndarray, " k"], y: Float[np.ndarray, "seeds k"]) -> tuple[float, float]:
    """F statistic and p-value of "y is linear in z", against the spread of repeated runs [draper1998].

    For points with runs of their own (not ``paired``), y (logs) normal with one variance; NaN where a point has fewer
    runs. Unlike the curvature it sees every departure, wiggles too, with less power against a bend.
    """
    from scipy.stats import f

    here = ~np.isnan(y)
    n, k = here.sum(axis=0), y.shape[1]
    if k < FEWEST_POINTS or n.min() < 1 or n.sum() <= k:
        raise SettingError(
            f"{k} points with {n.sum()} runs; the test needs {FEWEST_POINTS} points, and repeats at some"
        )
    mean = np.nansum(y, axis=0) / n
    design = np.stack([np.ones(k), z], axis=1) * np.sqrt(n)[:, None]
    line = np.stack([np.ones(k), z], axis=1) @ np.linalg.lstsq(design, mean * np.sqrt(n), rcond=None)[0]
    lack, pure = float(n @ (mean - line) ** 2) / (k - 2), float(np.nansum((y - mean) ** 2)) / float(n.sum() - k)
    if pure == 0:
        raise SettingError("repeated runs do not differ at all; there is no chance to test against")
    return lack / pure, float(f.sf(lack / pure, k - 2, n.sum() - k))


def _local(z: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slopes of the least-squares parabola at both ends."""
    c = float(curvature_weights(z) @ y)
    lines = np.stack([np.ones_like(z), z], axis=1)
    b = float(np.linalg.lstsq(lines, y - c * z**2, rcond=None)[0][1])
    return b + 2 * c * float(z[0]), b + 2 * c * float(z[-1])


def _scale(x: np.ndarray, law: str) -> np.ndarray:
    return np.log(x) if law == "power" else np.asarray(x, dtype=np.float64)


def _ordered(logs: Logs, order: np.ndarray) -> Logs:
    if logs.influence is None or logs.resampled_covariance is None:
        return Logs(logs.value[order], logs.resampled[:, order], None, None, logs.seeds)
    inner = logs.resampled_covariance[:, order][:, :, order]
    return Logs(logs.value[order], logs.resampled[:, order], logs.influence[:, order], inner, logs.seeds)
