"""Conjugate gradients for a symmetric system of which only products with vectors are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polytheory._typing import Float

CG_TOL = 1e-12  # of the residual, as a part of the right-hand side


def conjugate_gradients(
    apply: Callable[[Float[np.ndarray, " d"]], Float[np.ndarray, " d"]], b: Float[np.ndarray, " d"], *, steps: int
) -> Float[np.ndarray, " d"]:
    """x with ``apply(x) = b`` nearly, from 0; exact after as many steps as ``apply`` has distinct eigenvalues [hestenes1952].

    Stops where the residual is 1e-12 of ``b``, or before a direction of curvature that is not positive, with what it has (the
    zero vector, or an ascent direction).
    """
    x, r = np.zeros_like(b), b
    p, size = r, float(r @ r)
    goal = CG_TOL**2 * size
    for _ in range(steps):
        Ap = apply(p)
        bend = float(p @ Ap)
        if size <= goal or bend <= 0:
            break
        step = size / bend
        x, r = x + step * p, r - step * Ap
        size, old = float(r @ r), size
        p = r + (size / old) * p
    return x
