"""Random models, reproducible from a seed."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from polytheory.errors import SettingError
from polytheory.models._check import stored
from polytheory.models.tabular import TabularMDP


def garnet(
    *, S: int = 100, A: int = 4, successors: int = 5, gamma: float = 0.95, horizon: int | None = None, seed: int = 0,
    sparse: bool = False,
) -> TabularMDP:  # fmt: skip
    """A Garnet [archibald1995; bhatnagar2009]: every (s, a) reaches ``successors`` distinct random states.

    Probabilities are the gaps between sorted uniforms, rewards are uniform in [0, 1]. ``sparse=True`` stores CSR with
    int32 indices; a million state-action pairs take seconds.
    """
    if not (S >= 1 and A >= 1 and 1 <= successors <= S):
        raise SettingError(f"garnet(S = {S}, A = {A}, successors = {successors}); 1 <= successors <= S is needed")
    rng = np.random.default_rng(seed)
    rows = S * A
    columns = _distinct(rng, rows, successors, S)
    cuts = np.sort(rng.random((rows, successors - 1)), axis=1)
    p = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
    indptr = np.arange(rows + 1, dtype=np.int32 if rows * successors < 2**31 else np.int64) * successors
    P = sp.csr_matrix((p.ravel(), columns.astype(np.int32).ravel(), indptr), shape=(rows, S))
    r = rng.random((S, A))
    mu = np.full(S, 1.0 / S)
    return TabularMDP(stored(P, S, A, sparse), r, mu, horizon, gamma, name="garnet")


def _distinct(rng: np.random.Generator, rows: int, k: int, n: int) -> np.ndarray:
    """Sorted distinct columns: k of n for each row; rows with a repetition are drawn again."""
    if 3 * k >= n:
        return np.sort(np.argsort(rng.random((rows, n)), axis=1)[:, :k], axis=1)
    out = np.sort(rng.integers(n, size=(rows, k)), axis=1)
    while True:
        again = np.flatnonzero((np.diff(out, axis=1) == 0).any(axis=1))
        if not again.size:
            return out
        out[again] = np.sort(rng.integers(n, size=(again.size, k)), axis=1)


def random_linear(*, S: int = 10, A: int = 3, d: int = 4, horizon: int = 5, seed: int = 0):
    """A random linear MDP: features and measures are points of the simplex, so that every kernel is a mixture of d laws.

    Returns a `LinearMDP`; `make` reduces it to tabular form.
    """
    from polytheory.models.linear import LinearMDP

    if min(S, A, d, horizon) < 1:
        raise SettingError(f"random_linear(S = {S}, A = {A}, d = {d}, horizon = {horizon}); all must be at least 1")
    rng = np.random.default_rng(seed)
    phi = rng.dirichlet(np.ones(d), size=(S, A))
    measures = rng.dirichlet(np.full(S, 0.5), size=(horizon, d))
    theta = rng.random((horizon, d))
    return LinearMDP(phi, measures, theta, np.eye(S)[0], horizon=horizon, name="random-linear")
