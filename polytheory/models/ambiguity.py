"""Ambiguity sets: which transition laws nature may choose instead of the nominal one.

A set is plain data; the worst case over it is computed by `polytheory.reference.robust` and `polytheory.scaled.robust`.
Radius conventions are part of the names, because mixing them is the commonest error of the subject:

======================  =====================================================================  ==============
class                   laws q around the nominal p of one (s, a)                              text
======================  =====================================================================  ==============
`TotalVariation`        ``sum |q - p| / 2 <= radius``, radius in [0, 1]                        ``tv:0.1``
`L1`                    ``sum |q - p| <= radius``, radius in [0, 2]                            ``l1:0.2``
`KL`                    ``sum q log(q / p) <= radius`` (nature's law first)                    ``kl:0.1``
`ReverseKL`             ``sum p log(p / q) <= radius`` (the nominal law first)                 ``reverse-kl:0.1``
`ChiSquare`             ``sum (q - p)^2 / p <= radius`` (no factor 1/2)                        ``chi2:0.1``
`LInfinity`             ``max |q - p| <= radius``                                              ``linf:0.1``
`Wasserstein`           transport cost from p to q at most radius (order 1)                    ``w1:0.1``
`Contamination`         ``(1 - radius) p + radius mu``, any law mu                             ``contamination:0.1``
`Interval`              ``low <= q <= high``
`Scenarios`             a finite list of kernels
======================  =====================================================================  ==============

Each is rectangular by (s, a): nature chooses for every state and action apart. `Penalised` charges for the distance
instead of bounding it; `SharedBudget` lets the actions of a state share one radius (s-rectangular); `Factored` puts the
set around the factors of a linear model (d-rectangular).

References: [iyengar2005] Robust dynamic programming, Math. Oper. Res. 30(2). [nilim2005] Nilim and El Ghaoui, Robust control
of Markov decision processes with uncertain transition matrices, Oper. Res. 53(5). [wiesemann2013] Wiesemann, Kuhn and Rustem,
Robust Markov decision processes, Math. Oper. Res. 38(1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, ShapeError, UnknownNameError
from polytheory.models._arrays import frozen
from polytheory.models._check import check_distributions, check_finite

SUPPORTS = ("full", "nominal")


@dataclass(frozen=True, eq=False)
class Ambiguity:
    """Base of all sets."""


@dataclass(frozen=True, eq=False)
class Ball(Ambiguity):
    """Laws at a distance of at most ``radius`` >= 0 from the nominal one. Raises `SettingError` for any other radius."""

    radius: float

    largest: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        if not (0 <= self.radius <= self.largest and math.isfinite(self.radius)):
            top = f"[0, {self.largest:g}]" if math.isfinite(self.largest) else "[0, infinity)"
            raise SettingError(f"{type(self).__name__}(radius = {self.radius}); the radius lies in {top}")


@dataclass(frozen=True, eq=False)
class SupportedBall(Ball):
    """A ball whose laws may leave the nominal support (``support = "full"``) or not (``"nominal"``): different models."""

    support: str = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.support not in SUPPORTS:
            raise UnknownNameError("support", self.support, SUPPORTS)


class TotalVariation(SupportedBall):
    """``sum |q - p| / 2 <= radius``, radius in [0, 1]: the share of probability that nature may move."""

    largest = 1.0


class L1(SupportedBall):
    """``sum |q - p| <= radius``, radius in [0, 2]: twice the total variation."""

    largest = 2.0


class KL(Ball):
    """``sum q log(q / p) <= radius`` in nats, nature's law first: never leaves the nominal support."""


class ReverseKL(SupportedBall):
    """``sum p log(p / q) <= radius`` in nats (Burg entropy): every nominal successor keeps some probability."""


class ChiSquare(Ball):
    """``sum (q - p)^2 / p <= radius``, without a factor 1/2: never leaves the nominal support."""


class LInfinity(Ball):
    """``max |q - p| <= radius``, radius in [0, 1]."""

    largest = 1.0


class Contamination(SupportedBall):
    """``(1 - radius) p + radius mu`` with any law mu, radius in [0, 1]."""

    largest = 1.0


@dataclass(frozen=True, eq=False)
class Wasserstein(Ball):
    """Moving probability from x to y costs ``cost[x, y]`` a unit, at most ``radius`` in all (order 1).

    Fields: ``cost`` [S, S], >= 0 with zeros on the diagonal; None for ``|x - y|``.
    """

    cost: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cost is None:
            return
        cost = frozen(self.cost, float)
        if cost.ndim != 2 or cost.shape[0] != cost.shape[1]:
            raise ShapeError(f"cost must be [S, S]; got {list(cost.shape)}")
        check_finite(cost, "cost")
        if (cost < 0).any() or np.diag(cost).any():
            raise SettingError("a transport cost is >= 0, and 0 from a state to itself")
        object.__setattr__(self, "cost", cost)

    def ground_cost(self, S: int) -> Float[np.ndarray, "S S"]:
        """The cost matrix for S states. Raises `ShapeError` when it was given for another number."""
        if self.cost is None:
            return np.abs(np.arange(S)[:, None] - np.arange(S)[None, :]).astype(float)
        if self.cost.shape[0] != S:
            raise ShapeError(f"cost is {list(self.cost.shape)}, the model has S = {S} states")
        return self.cost


@dataclass(frozen=True, eq=False)
class Interval(Ambiguity):
    """``low <= q <= high`` entrywise, both [S, A, S]. Raises `SettingError` for a row that holds no law."""

    low: Any
    high: Any

    def __post_init__(self) -> None:
        low, high = (np.clip(frozen(x, float), 0, 1) for x in (self.low, self.high))
        if low.shape != high.shape or low.ndim != 3:
            raise ShapeError(f"low and high must both be [S, A, S]; got {list(low.shape)} and {list(high.shape)}")
        check_finite(low, "low")
        check_finite(high, "high")
        bad = np.argwhere((low.sum(-1) > 1 + 1e-9) | (high.sum(-1) < 1 - 1e-9) | (low > high).any(-1))
        if bad.size:
            s, a = bad[0]
            raise SettingError(
                f"no law lies between low and high at [{s}, {a}]: sums {low[s, a].sum():.6g} and {high[s, a].sum():.6g}; "
                "need low <= high, sum(low) <= 1 <= sum(high)"
            )
        for name, x in (("low", low), ("high", high)):
            object.__setattr__(self, name, frozen(x, float))


@dataclass(frozen=True, eq=False)
class Scenarios(Ambiguity):
    """One of the kernels [N, S, A, S], chosen for every (s, a) apart."""

    kernels: Any

    def __post_init__(self) -> None:
        kernels = frozen(self.kernels, float)
        if kernels.ndim != 4 or not kernels.shape[0]:
            raise ShapeError(f"kernels must be [N, S, A, S] with N >= 1; got {list(kernels.shape)}")
        check_distributions(kernels, "kernels")
        object.__setattr__(self, "kernels", kernels)


DIVERGENCES = ("tv", "kl", "chi2")


@dataclass(frozen=True, eq=False)
class Penalised(Ambiguity):
    """Nature may choose any law and pays ``strength * D(q, p)``, in units of the value (robust-regularised MDP).

    Fields: ``divergence`` "tv" (over all states), "kl" or "chi2"; ``strength`` > 0; small is pessimistic.
    """

    divergence: str
    strength: float

    def __post_init__(self) -> None:
        if self.divergence not in DIVERGENCES:
            raise UnknownNameError("divergence", self.divergence, DIVERGENCES)
        if not (self.strength > 0 and math.isfinite(self.strength)):
            raise SettingError(f"strength = {self.strength}; it must be positive and finite, try 1.0")


@dataclass(frozen=True, eq=False)
class SharedBudget(Ambiguity):
    """The distances of all actions of a state add up to at most the radius of ``ball`` (s-rectangular) [wiesemann2013].

    The best policy may have to randomise. Fields: ``ball`` an `L1`, `KL` or `ChiSquare` set; `L1` may be as large as
    ``2 A``: pass ``SharedBudget(L1, kappa)``.
    """

    ball: type[Ball]
    radius: float

    def __post_init__(self) -> None:
        if self.ball not in (L1, KL, ChiSquare):
            allowed = ("L1", "KL", "ChiSquare")
            raise UnknownNameError("ball with a shared budget", getattr(self.ball, "__name__", str(self.ball)), allowed)
        if not (self.radius >= 0 and math.isfinite(self.radius)):
            raise SettingError(f"SharedBudget(radius = {self.radius}); the radius lies in [0, infinity)")


@dataclass(frozen=True, eq=False)
class Factored(Ambiguity):
    """A set around every factor of a linear model ``P(y | s, a) = sum_i features[s, a, i] factors[i, y]`` (d-rectangular).

    Fields: ``ball`` any set by (s, a) whose size does not depend on (s, a); ``features`` [S, A, d], rows are distributions;
    ``factors`` [d, S], rows are distributions.
    """

    ball: Ambiguity
    features: Any
    factors: Any

    def __post_init__(self) -> None:
        features, factors = frozen(self.features, float), frozen(self.factors, float)
        if features.ndim != 3 or factors.ndim != 2 or features.shape[-1] != factors.shape[0]:
            raise ShapeError(
                f"features must be [S, A, d] and factors [d, S]; got {list(features.shape)} and {list(factors.shape)}"
            )
        if not isinstance(self.ball, Ball | Penalised):
            raise SettingError(f"a factored set needs a ball or a penalty around each factor; got {self.ball!r}")
        check_distributions(features, "features")
        check_distributions(factors, "factors")
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "factors", factors)


_TEXT: dict[str, Any] = {
    "tv": TotalVariation, "l1": L1, "kl": KL, "reverse-kl": ReverseKL, "chi2": ChiSquare, "linf": LInfinity,
    "w1": Wasserstein, "contamination": Contamination,
    "penalised-tv": lambda x: Penalised("tv", x), "penalised-kl": lambda x: Penalised("kl", x),
    "penalised-chi2": lambda x: Penalised("chi2", x),
    "shared-l1": lambda x: SharedBudget(L1, x), "shared-kl": lambda x: SharedBudget(KL, x),
    "shared-chi2": lambda x: SharedBudget(ChiSquare, x),
}  # fmt: skip


def ambiguity(x: Ambiguity | str) -> Ambiguity:
    """A set from a set or from its text ``NAME:RADIUS``, as on a command line: ``"kl:0.1"``, ``"shared-l1:0.8"``.

    Raises `UnknownNameError`, `SettingError`.
    """
    if isinstance(x, Ambiguity):
        return x
    name, _, number = str(x).partition(":")
    if name not in _TEXT:
        raise UnknownNameError("ambiguity set", name, _TEXT)
    try:
        return _TEXT[name](float(number))
    except ValueError as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(f"ambiguity = {x!r}; write it as NAME:RADIUS, such as {name}:0.1") from error


VARIANTS, WORST, ROWS = ("paper", "hull"), ("rectangular", "static"), ("best-response", "nominal")


def check_search(ball: Ambiguity, variant: str, worst: str, rows: str, tol: float) -> None:
    """Raise `UnknownNameError`, `SettingError` for settings of a worst-case search (IWOCS) that mean nothing."""
    for name, value, allowed in (
        ("variant", variant, VARIANTS),
        ("worst", worst, WORST),
        ("off_policy_rows", rows, ROWS),
    ):
        if value not in allowed:
            raise UnknownNameError(name, value, allowed)
    if isinstance(ball, SharedBudget | Penalised | Factored):
        raise SettingError(
            f"{type(ball).__name__} is no set of kernels by (s, a); the search takes those, or a list of kernels"
        )
    if worst == "static" and not isinstance(ball, Scenarios):
        raise SettingError(f"worst = 'static' takes a list of kernels (Scenarios); got {type(ball).__name__}")
    if not tol > 0:
        raise SettingError(f"tol = {tol}; the search stops when upper - lower is at most this, take a positive one")
