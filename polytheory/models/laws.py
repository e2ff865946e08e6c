"""Laws with finitely many atoms, in floats or in Fractions.

Atoms are numbers, or vectors of m numbers. A law is sorted, equal atoms are merged (floats: up to 1e-12 of their size).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._show import compact
from polytheory._typing import Array, Float
from polytheory.errors import NotStochasticError, SettingError, ShapeError

SAME = 1e-12  # floats nearer than this, relative to 1 + their size, are one atom


@dataclass(frozen=True, eq=False)
class Law:
    """A distribution: ``atoms`` [n] (or [n, m]) in increasing order, ``probs`` [n]. Made by `law`, which checks."""

    atoms: Array
    probs: Array

    __repr__ = compact

    def __len__(self) -> int:
        return len(self.probs)

    @property
    def mean(self) -> Any:
        """Expectation; [m] for vectors."""
        return (self.probs[:, None] * self.atoms).sum(0) if self.atoms.ndim == 2 else (self.probs * self.atoms).sum()

    def as_dict(self) -> dict[Any, Any]:
        """Atom to probability."""
        return dict(zip(map(_key, self.atoms.tolist()), self.probs.tolist(), strict=True))


def law(atoms: Any, probs: Any) -> Law:
    """A law from atoms in any order; equal ones are merged, those of probability 0 dropped.

    Raises `ShapeError` for lengths that differ, `NotStochasticError` for probabilities that are none.
    """
    atoms, probs = np.asarray(atoms), np.asarray(probs)
    if atoms.ndim not in (1, 2) or probs.shape != atoms.shape[:1]:
        raise ShapeError(
            f"a law needs atoms [n] or [n, m] and probs [n]; got {list(atoms.shape)} and {list(probs.shape)}"
        )
    total = probs.sum()
    if (probs < 0).any() or abs(float(total) - 1) > 1e-9 or not np.isfinite(atoms.astype(float)).all():
        raise NotStochasticError(
            f"probabilities must be >= 0 and sum to 1, atoms be finite; the sum is {float(total):.9g}"
        )
    return _merged(atoms, probs)


def _merged(atoms: Array, probs: Array) -> Law:
    keep = probs > 0
    atoms, probs = atoms[keep], probs[keep]
    if atoms.ndim == 1:
        order = np.argsort(atoms, kind="stable")
    else:
        order = np.array(sorted(range(len(atoms)), key=atoms.tolist().__getitem__), dtype=np.int64)
    atoms, probs = atoms[order], probs[order]
    step = abs(atoms[1:] - atoms[:-1])
    limit = 0 if atoms.dtype == object else SAME * (1 + abs(atoms[1:]))
    new = step > limit
    first = np.flatnonzero(np.concatenate([[True], new.any(-1) if atoms.ndim == 2 else new]))
    return Law(atoms[first], np.add.reduceat(probs, first))


def delta(x: Any) -> Law:
    """All mass on one atom (a number or a vector)."""
    return Law(np.asarray([x]), np.asarray([1]))


def push(of: Law, shift: Any, scale: Any = 1) -> Law:
    """The law of ``shift + scale X``, for a scale >= 0."""
    return _merged(shift + scale * of.atoms, of.probs)


def mix(weights: Sequence[Any], laws: Sequence[Law]) -> Law:
    """The mixture of laws."""
    atoms = np.concatenate([x.atoms for x in laws])
    return _merged(atoms, np.concatenate([w * x.probs for w, x in zip(weights, laws, strict=True)]))


def wasserstein(a: Law, b: Law) -> Any:
    """1-Wasserstein distance of scalar laws: the integral of ``|F_a - F_b|``."""
    x, gap = _cdf_gap(a, b)
    return (abs(gap[:-1]) * (x[1:] - x[:-1])).sum() if len(x) > 1 else 0


def cramer(a: Law, b: Law) -> float:
    """Cramer distance of scalar laws: the root of the integral of ``(F_a - F_b)^2``."""
    x, gap = _cdf_gap(a, b)
    return float((gap[:-1] * gap[:-1] * (x[1:] - x[:-1])).sum()) ** 0.5 if len(x) > 1 else 0.0


def _cdf_gap(a: Law, b: Law) -> tuple[Array, Array]:
    x = np.concatenate([a.atoms, b.atoms])
    order = np.argsort(x, kind="stable")
    return x[order], np.concatenate([a.probs, -b.probs])[order].cumsum()


def quantile(of: Law, level: Any) -> Any:
    """Smallest atom x with ``P(X <= x) >= level``, for a level in (0, 1]. Raises `SettingError` for another level."""
    if not 0 < level <= 1:
        raise SettingError(f"quantile level {level}; it lies in (0, 1]")
    slack = 0 if of.probs.dtype == object else SAME
    return of.atoms[min(int(np.searchsorted(of.probs.cumsum(), level - slack)), len(of) - 1)]


def lower_mean(of: Law, tau: Any) -> Any:
    """CVaR: mean of the lowest share tau in (0, 1], by the sorted prefix. Raises `SettingError` for another share."""
    if not 0 < tau <= 1:
        raise SettingError(f"tau = {tau}; the share of returns that is averaged lies in (0, 1]")
    before = of.probs.cumsum() - of.probs
    weight = np.minimum(of.probs, np.maximum(tau - before, 0))
    return (weight * of.atoms).sum() / weight.sum()


def histogram(of: Law, edges: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B1"]:
    """Probability of each bin ``[edges[i], edges[i + 1])``, the last one closed."""
    return np.histogram(of.atoms.astype(float), edges, weights=of.probs.astype(float))[0]


def _key(x: Any) -> Any:
    return tuple(x) if isinstance(x, list) else x
