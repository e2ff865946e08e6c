"""The loops of `_sparse_kernels` by SciPy and NumPy, for where numba is not installed: same results, more memory and time."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

PAIRS, PASSES, ROUNDS = 1, (True,), 10  # see `_sparse_kernels`: here solves are exact, sweeps know no order


def _rows(data, indices, indptr, first: int, last: int, S: int) -> sp.csr_matrix:
    cut = slice(int(indptr[first]), int(indptr[last]))
    start = indptr[first : last + 1].astype(np.int64) - int(indptr[first])
    return sp.csr_matrix((data[cut], indices[cut].astype(np.int64), start), shape=(last - first, S), copy=False)


def backup(data, indices, indptr, r, gamma, v, out, actions, first, last):
    """See `_sparse_kernels.backup`."""
    A = r.shape[1]
    q = r[first:last] + gamma * (_rows(data, indices, indptr, first * A, last * A, v.size) @ v).reshape(-1, A)
    best = np.argmax(q, axis=1)
    changed = int(np.sum(best != actions[first:last]))
    actions[first:last], out[first:last] = best, np.max(q, axis=1)
    d = out[first:last] - v[first:last]
    return float(d.min()), float(d.max()), changed


def row_facts(data, indptr, first, last):
    """See `_sparse_kernels.row_facts`."""
    sums = np.add.reduceat(data, indptr[first:last].astype(np.int64))
    return int(np.max(np.diff(indptr[first : last + 1].astype(np.int64)))), float(np.max(np.abs(sums - 1)))


def best_rewards(r, out, actions, first, last):
    """See `_sparse_kernels.best_rewards`."""
    actions[first:last] = np.argmax(r[first:last], axis=1)
    out[first:last] = np.max(r[first:last], axis=1)


def copy_rows(data, indices, indptr, r, states, actions, to_data, to_indices, to_indptr, to_r, first, last):
    """See `_sparse_kernels.copy_rows`."""
    some = states[first:last]
    start = to_indptr[some].astype(np.int64)
    count = to_indptr[some + 1].astype(np.int64) - start
    slot = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    into = np.repeat(start, count) + slot
    take = np.repeat(indptr[some * r.shape[1] + actions[some]].astype(np.int64), count) + slot
    to_data[into], to_indices[into], to_r[some] = data[take], indices[take], r[some, actions[some]]


def policy_backup(data, indices, indptr, r, gamma, v, out, first, last):
    """See `_sparse_kernels.policy_backup`."""
    out[first:last] = r[first:last] + gamma * (_rows(data, indices, indptr, first, last, v.size) @ v)
    d = out[first:last] - v[first:last]
    return float(d.min()), float(d.max())


def ordered_backup(data, indices, indptr, r, gamma, v, order, backward, actions):
    """Plain sweeps instead: to use values as soon as they are known takes a loop over states."""
    out, changed = np.empty_like(v), 0
    for _ in range(ROUNDS):
        changed += backup(data, indices, indptr, r, gamma, v, out, actions, 0, v.size)[2]
        v[:] = out
    return changed


def ordered_solve(data, indices, indptr, gamma, b, order, backward, x):
    """Sparse LU instead of Gauss-Seidel sweeps: exact."""
    from scipy.sparse.linalg import splu

    P = _rows(data, indices, indptr, 0, b.size, b.size)
    x[:] = splu(sp.csc_matrix(sp.identity(b.size) - gamma * P)).solve(b)
