"""Compiled loops over CSR rows: one pass over memory, no array of state-action values, no lock on other threads.

Every loop works on a range of states, so that threads can share one sweep. Row ``s * A + a`` of the CSR arrays holds the
successors of (s, a). Index arrays arrive as unsigned views: without the check for negative indices that NumPy semantics
demands the loops run twice as fast.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from polytheory.errors import require

numba = require("numba", "fast")
_U, _ONE = numba.uint64, numba.uint64(1)
PAIRS = 12  # of Gauss-Seidel sweeps of a policy between two improvements
PASSES = (True, False)  # the directions of a pair
ROUNDS = 1  # sweeps that `ordered_backup` makes


def _loop(f: Any) -> Any:
    # a checker of annotations may have wrapped the function: the loop itself is what compiles
    return numba.njit(cache=True, nogil=True)(inspect.unwrap(f))


@_loop
def backup(data, indices, indptr, r, gamma, v, out, actions, first, last):
    """``out = T v`` for the states ``first <= s < last``, with the first maximising action of each.

    Returns the extremes of ``out - v`` and the number of actions that changed.
    """
    A = r.shape[1]
    low, high, changed = np.inf, -np.inf, 0
    row = _U(first * A)
    k = _U(indptr[row])
    for s in range(first, last):
        best, chosen = -np.inf, 0
        for a in range(A):
            row += _ONE
            end = _U(indptr[row])
            total = 0.0
            while k < end:
                total += data[k] * v[_U(indices[k])]
                k += _ONE
            q = r[s, a] + gamma * total
            if q > best:
                best, chosen = q, a
        if chosen != actions[s]:
            changed += 1
            actions[s] = chosen
        out[s] = best
        d = best - v[s]
        low, high = min(low, d), max(high, d)
    return low, high, changed


@_loop
def row_facts(data, indptr, first, last):
    """Longest row, and how far a row's sum is from 1, over the rows ``first <= row < last``."""
    terms, gap = 0, 0.0
    k = _U(indptr[_U(first)])
    for row in range(first, last):
        start = k
        end = _U(indptr[_U(row + 1)])
        total = 0.0
        while k < end:
            total += data[k]
            k += _ONE
        terms, gap = max(terms, numba.int64(end - start)), max(gap, abs(total - 1.0))
    return terms, gap


@_loop
def best_rewards(r, out, actions, first, last):
    """``out = max_a r`` and the first maximising action of the states ``first <= s < last``."""
    for s in range(first, last):
        best, chosen = -np.inf, 0
        for a in range(r.shape[1]):
            if r[s, a] > best:
                best, chosen = r[s, a], a
        out[s], actions[s] = best, chosen


@_loop
def copy_rows(data, indices, indptr, r, states, actions, to_data, to_indices, to_indptr, to_r, first, last):
    """Copy the rows and rewards of ``actions`` in ``states[first:last]`` to where ``to_indptr`` wants them."""
    for i in range(first, last):
        s = _U(states[i])
        a = _U(actions[s])
        to_r[s] = r[s, a]
        k = _U(indptr[s * _U(r.shape[1]) + a])
        j, end = _U(to_indptr[s]), _U(to_indptr[s + _ONE])
        while j < end:
            to_data[j] = data[k]
            to_indices[j] = indices[k]
            j += _ONE
            k += _ONE


@_loop
def policy_backup(data, indices, indptr, r, gamma, v, out, first, last):
    """``out = r + gamma P v`` for the rows of one policy; returns the extremes of ``out - v``."""
    low, high = np.inf, -np.inf
    k = _U(indptr[_U(first)])
    for s in range(first, last):
        end = _U(indptr[_U(s + 1)])
        total = 0.0
        while k < end:
            total += data[k] * v[_U(indices[k])]
            k += _ONE
        x = r[s] + gamma * total
        out[s] = x
        d = x - v[s]
        low, high = min(low, d), max(high, d)
    return low, high


@_loop
def ordered_backup(data, indices, indptr, r, gamma, v, order, backward, actions):
    """Gauss-Seidel: put the best value of every state into ``v`` at once, in the given order or backward.

    A state's own probability is solved for. Returns the number of actions that changed.
    """
    S, A = r.shape
    changed = 0
    for i in range(S):
        s = _U(order[S - 1 - i] if backward else order[i])
        row = s * _U(A)
        k = _U(indptr[row])
        best, chosen = -np.inf, 0
        for a in range(A):
            row += _ONE
            end = _U(indptr[row])
            total, own = 0.0, 0.0
            while k < end:
                y = _U(indices[k])
                if y == s:
                    own += data[k]
                else:
                    total += data[k] * v[y]
                k += _ONE
            q = (r[s, _U(a)] + gamma * total) / (1.0 - gamma * own)
            if q > best:
                best, chosen = q, a
        if chosen != actions[s]:
            changed += 1
            actions[s] = chosen
        v[s] = best
    return changed


@_loop
def ordered_solve(data, indices, indptr, gamma, b, order, backward, x):
    """One Gauss-Seidel sweep on ``(I - gamma P) x = b``, in the given order or backward."""
    S = b.size
    for i in range(S):
        s = _U(order[S - 1 - i] if backward else order[i])
        k, end = _U(indptr[s]), _U(indptr[s + _ONE])
        total, own = 0.0, 0.0
        while k < end:
            y = _U(indices[k])
            if y == s:
                own += data[k]
            else:
                total += data[k] * x[y]
            k += _ONE
        x[s] = (b[s] + gamma * total) / (1.0 - gamma * own)
