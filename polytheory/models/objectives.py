"""What a return distribution is judged by: functionals of the law of stock + return.

The *stock* c is what has been collected so far, in the units of what is still to come; an objective looks at the law of
``c + G``. Dynamic programming over states and stocks finds the best law when the functional K has three properties
[pires2025]:

* indifference to mixtures: what is at least as good at every (state, stock) stays so after mixing over them;
* indifference to gamma: ``K(nu) >= K(nu')`` implies the same for the laws of ``gamma X``; a *clock*, which judges
  ``gamma^h (c + G)`` at stage h, does without it where the horizon is finite;
* Lipschitz continuity in the 1-Wasserstein distance, needed without a horizon.

Expected utilities ``K(nu) = E f(X)`` have the first. `admit` refuses what lacks a property.

=====================  =============================================================  ========================
class                  judged by                                                      text
=====================  =============================================================  ========================
`Mean`                 ``E G``                                                        ``mean``
`CVaR`                 mean of the worst share tau of returns                         ``cvar:0.25``
`OptimisticCVaR`       mean of the best share tau                                     ``optimistic-cvar:0.25``
`MeanCVaR`             ``w E G + (1 - w) CVaR_tau``                                   ``mean-cvar:0.5:0.25``
`Entropic`             ``-log E exp(-beta G) / beta``                                 ``entropic:1``
`Exponential`          ``-E exp(-beta (c0 + G))``                                     ``exponential:1``
`Threshold`            ``P(G >= level)``                                              ``threshold:6``
`Target`               ``-E |G - level|``                                             ``target:6``
`SquaredTarget`        ``-E (G - level)^2``                                           ``squared-target:6``
`PiecewiseLinear`      ``E [above (c0 + G)_+ + below (c0 + G)_-]``                    ``piecewise-linear:0.5:2``
`Homeostasis`          ``-E |G - set points|`` of vector returns                      ``homeostasis:3:3``
`Limits`               ``E [G_0 + sum_i price_i (G_i - limit_i)_-]``                  ``limits:3:10``
`Quantile`             a quantile: no expected utility, refused                       ``quantile:0.5``
`MeanVariance`         ``E G - weight Var G``: no expected utility, refused           ``mean-variance:0.5``
`DirectCVaR`           CVaR of what is left at every step, refused                    ``direct-cvar:0.25``
=====================  =============================================================  ========================

``x_+ = max(x, 0)`` and ``x_- = min(x, 0)``, which is never positive. Rewards are gains: CVaR looks at the lower tail.

References:
    [pires2025] Pires et al., Optimizing Return Distributions with Distributional Dynamic Programming, JMLR 2025,
    arXiv:2501.13028. [rockafellar2000] Rockafellar and Uryasev, Optimization of conditional value-at-risk, J. Risk 2(3).
    [bental2007] Ben-Tal and Teboulle, An old-new concept of convex risk measures: the optimized certainty equivalent, Math.
    Finance 17(3). [bauerle2011] Bäuerle and Ott, Markov decision processes with average-value-at-risk criteria, Math. Methods
    Oper. Res. 74(3).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

from polytheory.errors import ObjectiveError, SettingError, UnknownNameError
from polytheory.models.utilities import CVaR as CVaR
from polytheory.models.utilities import Entropic as Entropic
from polytheory.models.utilities import Exponential as Exponential
from polytheory.models.utilities import Mean as Mean
from polytheory.models.utilities import MeanCVaR as MeanCVaR
from polytheory.models.utilities import Number, check_share
from polytheory.models.utilities import Objective as Objective
from polytheory.models.utilities import OptimisticCVaR as OptimisticCVaR
from polytheory.models.utilities import PiecewiseLinear as PiecewiseLinear
from polytheory.models.utilities import SquaredTarget as SquaredTarget
from polytheory.models.utilities import Target as Target
from polytheory.models.utilities import Threshold as Threshold


@dataclass(frozen=True)
class Homeostasis(Objective):
    """Keep several quantities near set points: ``-E sum_i |G_i - set_point_i|`` of vector returns.

    Lipschitz for the 1-Wasserstein distance of that norm.
    """

    text = "homeostasis"

    set_points: tuple[Number, ...]

    @classmethod
    def of_numbers(cls, *numbers: float) -> Homeostasis:
        """The set points."""
        return cls(numbers)

    def numbers(self) -> tuple[Number, ...]:
        """The set points."""
        return self.set_points

    def utility(self, x: Any) -> Any:
        """``-sum_i |x_i|`` over the last axis."""
        return -abs(x).sum(-1)

    @property
    def stock(self) -> Any:
        """Minus the set points, [m]."""
        return -np.array(self.set_points)


@dataclass(frozen=True)
class Limits(Objective):
    """Constraints by prices: ``E [G_0 + sum_i price_i (G_i - limit_i)_-]`` of vector returns, i >= 1."""

    text = "limits"

    limits: tuple[Number, ...]
    prices: tuple[Number, ...]

    @classmethod
    def of_numbers(cls, *numbers: float) -> Limits:
        """Pairs of a limit and its price."""
        return cls(numbers[::2], numbers[1::2])

    def numbers(self) -> tuple[Number, ...]:
        """Pairs of a limit and its price."""
        return tuple(x for pair in zip(self.limits, self.prices, strict=True) for x in pair)

    def __post_init__(self) -> None:
        if len(self.limits) != len(self.prices) or min(self.prices, default=0) < 0:
            raise SettingError(f"limits {self.limits} and prices {self.prices}; give a price >= 0 for every limit")

    def utility(self, x: Any) -> Any:
        """``x_0 + sum_i price_i min(x_i, 0)`` over the last axis."""
        total = x[..., 0]
        for i, price in enumerate(self.prices, 1):
            total = total + price * x[..., i] * (x[..., i] < 0)
        return total

    @property
    def stock(self) -> Any:
        """0 for the return itself, minus the limits, [m]."""
        return -np.array((0, *self.limits))

    @property
    def lipschitz(self) -> float:
        """The largest slope."""
        return float(max(1, *self.prices))


@dataclass(frozen=True)
class Quantile(Objective):
    """The smallest x with ``P(X <= x) >= level``; not indifferent to mixtures."""

    text = "quantile"

    level: Number = 0.5

    mixtures = False

    def __post_init__(self) -> None:
        check_share("level", self.level)

    def value(self, atoms: Any, probs: Any) -> Any:
        """The quantile."""
        atoms, probs = in_order(atoms, probs)
        upto = probs.cumsum(-1)
        return (atoms * ((upto >= self.level) & (upto - probs < self.level))).sum(-1)

    @property
    def lipschitz(self) -> None:
        """None: quantiles jump."""


@dataclass(frozen=True)
class MeanVariance(Objective):
    """``E X - weight Var X``; not indifferent to mixtures."""

    text = "mean-variance"

    weight: Number

    mixtures = False
    degree = None

    def value(self, atoms: Any, probs: Any) -> Any:
        """Mean minus weighted variance."""
        mean = (probs * atoms).sum(-1)
        return mean - self.weight * ((probs * atoms * atoms).sum(-1) - mean * mean)

    @property
    def lipschitz(self) -> None:
        """None: the variance has no bounded slope."""


@dataclass(frozen=True)
class DirectCVaR(Objective):
    """CVaR as the functional itself (nested CVaR): another number than the CVaR of the whole return."""

    text = "direct-cvar"

    tau: Number

    mixtures = False

    def __post_init__(self) -> None:
        check_share("tau", self.tau)

    def value(self, atoms: Any, probs: Any) -> Any:
        """Mean of the lowest share tau."""
        atoms, probs = in_order(atoms, probs)
        room = self.tau - (probs.cumsum(-1) - probs)
        room = room * (room > 0)
        return (atoms * (probs * (probs <= room) + room * (probs > room))).sum(-1) / self.tau

    @property
    def lipschitz(self) -> float:
        """``1 / tau``."""
        return float(1 / self.tau)


def in_order(atoms: Any, probs: Any) -> tuple[Any, Any]:
    """Scalar laws with their atoms sorted along the last axis (NumPy or torch)."""
    if isinstance(atoms, np.ndarray):
        order = np.argsort(atoms, axis=-1, kind="stable")
        return np.take_along_axis(atoms, order, -1), np.take_along_axis(probs, order, -1)
    order = atoms.argsort(dim=-1, stable=True)
    return atoms.gather(-1, order), probs.gather(-1, order)


NAMED: dict[str, type[Objective]] = {
    str(cls.text): cls
    for cls in (
        Mean, CVaR, OptimisticCVaR, MeanCVaR, Entropic, Exponential, Threshold, Target, SquaredTarget, PiecewiseLinear,
        Homeostasis, Limits, Quantile, MeanVariance, DirectCVaR,
    )
}  # fmt: skip


def objective(given: Objective | str) -> Objective:
    """An objective from its text ``name:number:...``; objectives pass unchanged.

    Raises `UnknownNameError` for another name, `SettingError` for numbers that do not fit.
    """
    if isinstance(given, Objective):
        return given
    name, *words = str(given).split(":")
    if name not in NAMED:
        raise UnknownNameError("objective", name, NAMED)
    wanted = [f.name for f in fields(NAMED[name])]
    try:
        return NAMED[name].of_numbers(*(float(word) for word in words))
    except (TypeError, ValueError) as error:
        if isinstance(error, SettingError):
            raise
        shape = ":".join((name, *(w.upper() for w in wanted)))
        raise SettingError(f"objective {given!r}; its text is {shape}") from error


def lacking(judge: Objective, *, gamma: float, horizon: int | None, clock: bool = False) -> str | None:
    """Why dynamic programming need not find the optimum of an objective, in one sentence; None where it does."""
    if not judge.mixtures:
        return (
            "it is not indifferent to mixtures (what is best from every state need not be best before it is known which "
            "state comes); take an expected utility, such as cvar:0.25, mean-cvar:0.5:0.25 or target:6"
        )
    if gamma < 1 and judge.degree is None and not (clock and horizon is not None):
        return (
            f"it is not indifferent to gamma = {gamma}: f(gamma x) does not order laws as f(x) does; take gamma = 1, or a "
            "finite horizon with clock=True"
        )
    if horizon is None and judge.lipschitz is None:
        return "it is not Lipschitz, so that what is far away may still decide; give the model a horizon"
    return None


def admit(
    judge: Objective, *, gamma: float, horizon: int | None, clock: bool = False, insist: bool = False
) -> Objective:
    """The objective, or `ObjectiveError` with the condition that it lacks unless the caller insists.

    Raises `SettingError` for a clock without a horizon.
    """
    if clock and horizon is None:
        raise SettingError("clock=True judges by stage and needs a finite horizon; make the model with horizon=H")
    reason = None if insist else lacking(judge, gamma=gamma, horizon=horizon, clock=clock)
    if reason is not None:
        raise ObjectiveError(f"objective {judge} is refused: {reason}; insist=True runs it as a heuristic")
    return judge


def rational(judge: Objective) -> Objective:
    """The objective with its numbers as Fractions (the nearest with a denominator up to 10^6), for exact arithmetic."""
    return replace(judge, **{f.name: as_fraction(getattr(judge, f.name)) for f in fields(judge)})


def as_fraction(x: Any) -> Any:
    """A number, or a tuple of numbers, as Fractions."""
    return tuple(map(as_fraction, x)) if isinstance(x, tuple) else Fraction(x).limit_denominator(10**6)
