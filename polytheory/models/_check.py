"""Checks on probabilities and sizes, shared by the models. Each error names the first bad entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory.errors import DiscountError, NonFiniteError, NotStochasticError, SettingError

ROW_SUM_TOL = 1e-8


def check_distributions(p: np.ndarray, name: str) -> None:
    """Raise unless the last axis of ``p`` holds probability distributions (row sums to 1e-8)."""
    for bad, what in ((~np.isfinite(p), "is not finite"), (p < 0, "is negative")):
        if bad.any():
            i = tuple(int(k) for k in np.argwhere(bad)[0])
            raise NotStochasticError(f"{name}{list(i)} = {p[i]} {what}; probabilities must lie in [0, 1]")
    sums = p.sum(axis=-1)
    off = np.abs(sums - 1) > ROW_SUM_TOL
    if off.any():
        i = tuple(int(k) for k in np.argwhere(off)[0])
        raise NotStochasticError(_row_message(name, list(i), float(sums[i])))


def check_csr(p: sp.csr_matrix, n_actions: int, name: str) -> None:
    """Raise unless every row of the CSR matrix of shape (S*A, S) is a distribution; rows are named [s, a]."""
    for bad, what in ((~np.isfinite(p.data), "is not finite"), (p.data < 0, "is negative")):
        if bad.any():
            k = int(np.argmax(bad))
            row = int(np.searchsorted(p.indptr, k, side="right") - 1)
            s, a = divmod(row, n_actions)
            raise NotStochasticError(
                f"{name}[{s}, {a}, {p.indices[k]}] = {p.data[k]} {what}; probabilities must lie in [0, 1]"
            )
    sums = np.asarray(p.sum(axis=1)).ravel()
    off = np.abs(sums - 1) > ROW_SUM_TOL
    if off.any():
        row = int(np.argmax(off))
        raise NotStochasticError(_row_message(name, list(divmod(row, n_actions)), float(sums[row])))


def check_finite(x: np.ndarray, name: str) -> None:
    """Raise unless every entry of ``x`` is a finite number."""
    bad = ~np.isfinite(x)
    if bad.any():
        i = tuple(int(k) for k in np.argwhere(bad)[0])
        raise NonFiniteError(f"{name}{list(i)} = {x[i]}; every entry must be finite")


def stored(P: sp.csr_matrix, S: int, A: int, sparse: bool) -> sp.csr_matrix | np.ndarray:
    """CSR transitions as they are, or as a dense ``[S, A, S]`` array when that has at most 2^28 entries (2 GiB)."""
    if sparse:
        return P
    if S * A * S > 2**28:
        raise SettingError(
            f"S = {S}, A = {A} would need {S * A * S * 8 / 2**30:.0f} GiB stored dense; pass sparse=True"
        )
    return P.toarray().reshape(S, A, S)


def check_discount(gamma: float, horizon: Any) -> None:
    """Raise unless gamma lies in [0, 1), or in [0, 1] with a horizon of at least one step."""
    if horizon is not None and (not np.isfinite(horizon) or int(horizon) != horizon or horizon < 1):
        raise DiscountError(f"horizon = {horizon}; it must be a whole number of steps >= 1, or None")
    if not np.isfinite(gamma) or gamma < 0 or gamma > 1:
        raise DiscountError(f"gamma = {gamma}; it must lie in [0, 1), or be 1 with a horizon")
    if gamma == 1 and horizon is None:
        raise DiscountError("gamma = 1 without a horizon leaves the return unbounded; pass gamma < 1 or horizon=...")


def _row_message(name: str, index: list[int], total: float) -> str:
    where = f"{name}{index}" if index else name
    return (
        f"rows of {name} must sum to 1 (tolerance {ROW_SUM_TOL}); {where} sums to {total:.9g}. "
        "Fix that row, or divide each row by its sum first"
    )
