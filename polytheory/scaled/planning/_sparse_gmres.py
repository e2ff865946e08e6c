"""GMRES with a right preconditioner, which keeps only the vectors it has used so far."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polytheory._typing import Float


def dot(x: Float[np.ndarray, " S"], y: Float[np.ndarray, " S"]) -> float:
    """Inner product on this thread alone: BLAS would wake its own threads, which costs more than the product."""
    return float(np.einsum("i,i", x, y))


def norm(x: Float[np.ndarray, " S"]) -> float:
    """Euclidean norm on this thread alone."""
    return dot(x, x) ** 0.5


def gmres(
    apply: Callable[[np.ndarray], np.ndarray],
    precondition: Callable[[np.ndarray], np.ndarray],
    b: Float[np.ndarray, " S"],
    *,
    goal: float,
    cycle: int,
) -> tuple[Float[np.ndarray, " S"], int]:
    """One cycle of GMRES for ``A x = b`` from 0 [saad2003, Alg. 9.5].

    Minimises ``|b - A M^-1 y|`` over the Krylov space of ``A M^-1``, by modified Gram-Schmidt.

    Args:
        apply, precondition: ``x -> A x`` and ``x -> M^-1 x``; ``apply`` may overwrite its argument.
        goal: stop at this 2-norm of the residual. cycle: largest number of iterations, >= 1.

    Returns:
        x and the iterations taken.
    """
    size = norm(b)
    basis, H = [b / size], np.zeros((cycle + 1, cycle))
    target = np.zeros(cycle + 1)
    target[0] = size
    y, k = np.zeros(0), 0
    while k < cycle:
        w = apply(precondition(basis[k]))
        for i, q in enumerate(basis):
            H[i, k] = dot(q, w)
            w -= H[i, k] * q
        H[k + 1, k] = norm(w)
        k += 1
        y = np.linalg.lstsq(H[: k + 1, :k], target[: k + 1], rcond=None)[0]
        residual = float(np.linalg.norm(target[: k + 1] - H[: k + 1, :k] @ y))
        # a new direction of norm 0 means that the space holds the solution
        if residual <= goal or not H[k, k - 1] > 1e-14 * size:
            break
        w /= H[k, k - 1]
        basis.append(w)
    x = np.zeros_like(b)
    for c, q in zip(y, basis, strict=False):
        x += c * q
    return precondition(x), k
