"""Arrays in pymdptoolbox's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory.errors import ShapeError
from polytheory.models.tabular import TabularMDP


def from_mdptoolbox(P: Any, R: Any, discount: float, *, mu: Any = None, horizon: int | None = None) -> TabularMDP:
    """Read pymdptoolbox's ``(P, R, discount)``.

    Args:
        P: ``[A, S, S]``, or a sequence of A sparse matrices ``(S, S)``.
        R: ``[S]`` by state, ``[S, A]``, ``[A, S, S]`` by transition, or a sequence of A sparse matrices.
        discount: gamma; 1 needs a horizon.
        mu: start distribution, default uniform.

    Raises:
        ShapeError: the arrays are not in that order. Others as in `TabularMDP`.
    """
    by_action = list(P)
    A, S = len(by_action), int(by_action[0].shape[0]) if len(by_action) else 0
    if not A or any(p.shape != (S, S) for p in by_action):
        raise ShapeError(f"P must be [A, S, S]; got {[tuple(np.shape(p)) for p in by_action][:3]}")
    mu = np.full(S, 1.0 / S) if mu is None else mu
    if any(sp.issparse(p) for p in by_action):
        interleave = np.arange(A * S).reshape(A, S).T.ravel()  # row s*A + a of the result is row a*S + s of the stack
        kernel = _stacked(by_action)[interleave]
        if _is_by_transition(R, A, S):
            return TabularMDP(kernel, _stacked(R)[interleave], mu, horizon, discount)
        return TabularMDP(kernel, _by_state_action(R, S, A), mu, horizon, discount)
    kernel = np.stack([np.asarray(p, dtype=float) for p in by_action], axis=1)
    if _is_by_transition(R, A, S):
        rewards = np.stack([np.asarray(x.toarray() if sp.issparse(x) else x, dtype=float) for x in R], axis=1)
        return TabularMDP(kernel, rewards, mu, horizon, discount)
    return TabularMDP(kernel, _by_state_action(R, S, A), mu, horizon, discount)


def _stacked(matrices: Any) -> Any:
    return sp.vstack([sp.csr_matrix(x) for x in matrices], format="csr")


def _is_by_transition(R: Any, A: int, S: int) -> bool:
    return len(R) == A and all(getattr(x, "shape", np.shape(x)) == (S, S) for x in R)


def _by_state_action(R: Any, S: int, A: int) -> np.ndarray:
    r = np.asarray(R.toarray() if sp.issparse(R) else R, dtype=float)
    if r.shape == (S,):
        return np.repeat(r[:, None], A, axis=1)
    if r.shape != (S, A):
        raise ShapeError(f"R must be [S] = [{S}], [S, A] = {[S, A]} or [A, S, S]; got {list(r.shape)}")
    return r
