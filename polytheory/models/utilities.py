"""Expected utilities of stock + return, and the certainty equivalents that optimise the initial stock.

References:
    [pires2025] Pires et al., Optimizing Return Distributions with Distributional Dynamic Programming, JMLR 2025,
    arXiv:2501.13028. [rockafellar2000] Rockafellar and Uryasev, Optimization of conditional value-at-risk, J. Risk 2(3).
    [bental2007] Ben-Tal and Teboulle, An old-new concept of convex risk measures: the optimized certainty equivalent, Math.
    Finance 17(3). [bauerle2011] Bäuerle and Ott, Markov decision processes with average-value-at-risk criteria, Math. Methods
    Oper. Res. 74(3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from polytheory.errors import SettingError

Number = int | float | Fraction


@dataclass(frozen=True)
class Objective:
    """An expected utility ``E f(c + G)`` with a given initial stock; the base of all objectives.

    Everything is written with operators, so that Fractions, NumPy arrays and torch tensors all pass.

    Class attributes:
        mixtures: whether K is indifferent to mixtures.
        outer: None, or "max" / "min": the value is ``-c0 + K`` optimised over the initial stock c0.
        degree: d with ``f(g x) = g^d f(x)`` for g in (0, 1]; None where there is none. It makes K indifferent to gamma.
        text: name in texts such as ``cvar:0.25``; None for objectives that have no text.
        straight: whether f is linear on either side of 0; beyond all returns the stock then changes nothing.
    """

    text: ClassVar[str | None] = None
    mixtures: ClassVar[bool] = True
    outer: ClassVar[str | None] = None
    degree: ClassVar[int | None] = 1
    straight: ClassVar[bool] = True

    def utility(self, x: Any) -> Any:
        """f, entry by entry (vector returns: over the last axis)."""
        return x

    def value(self, atoms: Any, probs: Any) -> Any:
        """K of laws with ``atoms`` [..., n] (vector: [..., n, m]) and ``probs`` [..., n]; shape [...]."""
        return (probs * self.utility(atoms)).sum(-1)

    @property
    def lipschitz(self) -> float | None:
        """L with ``|K(nu) - K(nu')| <= L W1(nu, nu')``, or None."""
        return 1.0

    @property
    def stock(self) -> Any:
        """The initial stock, where it is not optimised."""
        return 0

    def total(self, value: Any, stock: Any) -> Any:
        """The objective from K at an initial stock: ``-c0 + K`` where the stock is optimised, else K."""
        return value if self.outer is None else value - stock

    def of_return(self, atoms: Any, probs: Any) -> Any:
        """The objective of one return law, ``atoms`` [n] and ``probs`` [n], with no stock beside it."""
        if self.outer is None:
            return self.value(atoms + self.stock, probs)
        # -c0 + E f(c0 + G) is piecewise linear in c0: its best point is a kink, minus an attainable return
        found = [self.total(self.value(atoms + c, probs), c) for c in -atoms]
        return max(found) if self.outer == "max" else min(found)

    @classmethod
    def of_numbers(cls, *numbers: float) -> Objective:
        """The objective from the numbers of its text."""
        return cls(*numbers)

    def numbers(self) -> tuple[Number, ...]:
        """The numbers of its text."""
        return tuple(getattr(self, f.name) for f in fields(self))

    def __str__(self) -> str:
        if self.text is None:
            return repr(self)
        return ":".join([self.text, *(f"{float(x):g}" for x in self.numbers())])


@dataclass(frozen=True)
class Mean(Objective):
    """Expected return; the stock is irrelevant."""

    text = "mean"


def check_share(name: str, tau: Number) -> None:
    """Raise `SettingError` unless tau lies in (0, 1]."""
    if not 0 < tau <= 1:
        raise SettingError(f"{name} = {tau}; the share of returns that is averaged lies in (0, 1], try 0.25")


@dataclass(frozen=True)
class CVaR(Objective):
    """Mean of the worst share tau of returns, ``max_c0 -c0 + E (c0 + G)_- / tau`` [rockafellar2000; bauerle2011]."""

    text = "cvar"

    tau: Number

    outer = "max"

    def __post_init__(self) -> None:
        check_share("tau", self.tau)

    def utility(self, x: Any) -> Any:
        """``min(x, 0) / tau``."""
        return x * (x < 0) / self.tau

    @property
    def lipschitz(self) -> float:
        """``1 / tau``."""
        return float(1 / self.tau)


@dataclass(frozen=True)
class OptimisticCVaR(CVaR):
    """Mean of the best share tau, ``min_c0 -c0 + E (c0 + G)_+ / tau``: a minimum over c0 of a maximum over policies."""

    text = "optimistic-cvar"
    outer = "min"

    def utility(self, x: Any) -> Any:
        """``max(x, 0) / tau``."""
        return x * (x > 0) / self.tau


@dataclass(frozen=True)
class MeanCVaR(Objective):
    """``weight E G + (1 - weight) CVaR_tau``, an optimised certainty equivalent [bental2007]."""

    text = "mean-cvar"

    weight: Number
    tau: Number

    outer = "max"

    def __post_init__(self) -> None:
        check_share("tau", self.tau)
        if not 0 <= self.weight <= 1:
            raise SettingError(f"weight = {self.weight}; the weight of the mean lies in [0, 1]")

    def utility(self, x: Any) -> Any:
        """``weight x + (1 - weight) min(x, 0) / tau``."""
        return self.weight * x + (1 - self.weight) * x * (x < 0) / self.tau

    @property
    def lipschitz(self) -> float:
        """``weight + (1 - weight) / tau``."""
        return float(self.weight + (1 - self.weight) / self.tau)


def _map(name: str, x: Any) -> Any:
    """exp or log of a number, an array (Fractions become floats) or a tensor."""
    if hasattr(x, name):
        return getattr(x, name)()
    x = np.asarray(x)
    return getattr(np, name)(x.astype(float) if x.dtype == object else x)


def _check_positive(name: str, x: Number) -> None:
    if not (x > 0 and math.isfinite(x)):
        raise SettingError(f"{name} = {x}; it must be a positive number")


@dataclass(frozen=True)
class Exponential(Objective):
    """``-E exp(-beta (c0 + G))``. Indifferent to gamma only for gamma = 1, where it needs no stock either."""

    text = "exponential"

    beta: Number

    degree = None
    straight = False

    def __post_init__(self) -> None:
        _check_positive("beta", self.beta)

    def utility(self, x: Any) -> Any:
        """``-exp(-beta x)``."""
        return -_map("exp", -self.beta * x)

    @property
    def lipschitz(self) -> None:
        """None: its slope has no bound."""


@dataclass(frozen=True)
class Entropic(Exponential):
    """Entropic certainty equivalent ``-log E exp(-beta G) / beta``: the exponential utility in units of the return.

    It is ``max_c0 -c0 + E u(c0 + G)`` with ``u(x) = (1 - exp(-beta x)) / beta``, whose maximum has a closed form: no search.
    """

    text = "entropic"

    def utility(self, x: Any) -> Any:
        """``(1 - exp(-beta x)) / beta``."""
        return (1 - _map("exp", -self.beta * x)) / self.beta

    def total(self, value: Any, stock: Any) -> Any:
        """The certainty equivalent, from K at any initial stock."""
        return -stock - _map("log", 1 - self.beta * value) / self.beta

    def of_return(self, atoms: Any, probs: Any) -> Any:
        """In closed form."""
        low = min(atoms.tolist())
        return low - math.log(float((probs * _map("exp", -self.beta * (atoms - low))).sum())) / self.beta


@dataclass(frozen=True)
class Threshold(Objective):
    """Probability that the return reaches ``level``. Not continuous: it needs a horizon."""

    text = "threshold"

    level: Number = 0

    degree = 0

    def utility(self, x: Any) -> Any:
        """1 where ``x >= 0``."""
        return (x >= 0) * 1

    @property
    def stock(self) -> Any:
        """Minus the level."""
        return -self.level

    @property
    def lipschitz(self) -> None:
        """None: the utility jumps."""


@dataclass(frozen=True)
class Target(Objective):
    """Generate returns near ``level``: ``-E |G - level|``."""

    text = "target"

    level: Number = 0

    def utility(self, x: Any) -> Any:
        """``-|x|``."""
        return -abs(x)

    @property
    def stock(self) -> Any:
        """Minus the level."""
        return -self.level


@dataclass(frozen=True)
class SquaredTarget(Target):
    """``-E (G - level)^2``. Its slope has no bound: it needs a horizon."""

    text = "squared-target"
    degree = 2
    straight = False

    def utility(self, x: Any) -> Any:
        """``-x^2``."""
        return -(x * x)

    @property
    def lipschitz(self) -> None:
        """None: its slope has no bound."""


@dataclass(frozen=True)
class PiecewiseLinear(Objective):
    """``E [above (c0 + G)_+ + below (c0 + G)_-]`` with slopes >= 0."""

    text = "piecewise-linear"

    above: Number
    below: Number

    def __post_init__(self) -> None:
        if min(self.above, self.below) < 0:
            raise SettingError(f"slopes {self.above} and {self.below}; more return must not be worse: slopes >= 0")

    def utility(self, x: Any) -> Any:
        """``above x`` for x > 0, ``below x`` for x < 0."""
        return self.above * x * (x > 0) + self.below * x * (x < 0)

    @property
    def lipschitz(self) -> float:
        """The larger slope."""
        return float(max(self.above, self.below))
