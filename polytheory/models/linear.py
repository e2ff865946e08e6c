"""Linear MDPs: transitions and rewards linear in known features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Array, Float
from polytheory.errors import ShapeError
from polytheory.models._arrays import by_stage, frozen
from polytheory.models._check import check_discount, check_distributions, check_finite
from polytheory.models.tabular import TabularMDP


@dataclass(frozen=True, eq=False)
class LinearMDP:
    """``P_h(s' | s, a) = phi(s, a) . measures_h(s')`` and ``r_h(s, a) = phi(s, a) . theta_h`` [jin2020, Assumption A].

    Args:
        phi: features ``[S, A, d]``.
        measures: ``[d, S]``, or stage-dependent ``[H, d, S]``; signed entries are allowed as long as every product with a
            feature is a distribution.
        theta: ``[d]`` or ``[H, d]``.
        mu: start distribution ``[S]``.
        horizon, gamma, name: as in `TabularMDP`.

    Raises:
        ShapeError, NotStochasticError, NonFiniteError, DiscountError: with the bad entry named.
    """

    phi: Array
    measures: Array
    theta: Array
    mu: Array
    horizon: int | None = None
    gamma: float = 1.0
    name: str = "linear"

    def __post_init__(self) -> None:
        check_discount(self.gamma, self.horizon)
        for field in ("phi", "measures", "theta", "mu"):
            array = frozen(getattr(self, field), float)
            check_finite(array, field)
            object.__setattr__(self, field, array)
        if self.phi.ndim != 3 or 0 in self.phi.shape:
            raise ShapeError(f"phi must be [S, A, d] with S, A, d >= 1; got {list(self.phi.shape)}")
        S, _, d = self.phi.shape
        if self.mu.shape != (S,):
            raise ShapeError(f"mu must have shape [S] = [{S}]; got {list(self.mu.shape)}")
        for field, rank, tail in (("measures", 2, (d, S)), ("theta", 1, (d,))):
            shape = getattr(self, field).shape
            stages = shape[:-rank]
            if shape[-rank:] != tail or stages not in ((), (self.horizon,)):
                raise ShapeError(
                    f"{field} must be {list(tail)} or [horizon, ...] = {[self.horizon, *tail]}; got {list(shape)}"
                )
        check_distributions(self.kernel, "phi . measures")
        check_distributions(self.mu, "mu")

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.phi.shape[-1])

    @property
    def kernel(self) -> Float[np.ndarray, "*H S A S"]:
        """Transition probabilities ``phi . measures``; rounding below zero by less than 1e-12 is cut."""
        P = np.einsum("sad,...dx->...sax", self.phi, self.measures)
        return np.where((P < 0) & (P > -1e-12), 0.0, P)

    def to_tabular(self) -> TabularMDP:
        """The same model as a checked `TabularMDP`."""
        r = np.einsum("sad,...d->...sa", self.phi, self.theta)
        return TabularMDP(self.kernel, by_stage(r, self.horizon), self.mu, self.horizon, self.gamma, name=self.name)
