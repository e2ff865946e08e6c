"""Compiled loops over CSR rows for large robust models: nature's problem in one row costs a few passes over its successors.

Row ``s * A + a`` of the CSR arrays holds the successors of (s, a); index arrays arrive as unsigned views (see the loops of
`polytheory.scaled.planning`). Every loop works on a range of states, so that threads can share a sweep. Terminal states are the
nominal model's.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from polytheory.errors import require

numba = require("numba", "fast")
_U, _ONE = numba.uint64, numba.uint64(1)
NEWTON = 60  # steps of a search: it is quadratic from where it starts


def _loop(f: Any) -> Any:
    # a checker of annotations may have wrapped the function: the loop itself is what compiles
    return numba.njit(cache=True, nogil=True)(inspect.unwrap(f))


@_loop
def worst_l1(q, z, n, low, moved):
    """Value of ``sum q z`` after ``moved`` of the probability has gone from the best outcomes to ``low``; z is used up.

    Repeated selection: a small radius takes from few outcomes, so that nothing is sorted.
    """
    total = 0.0
    for i in range(n):
        total += q[i] * z[i]
    while moved > 0.0:
        best, which = -np.inf, -1
        for i in range(n):
            if z[i] > best:
                best, which = z[i], i
        if which < 0 or best <= low:
            break
        share = min(moved, q[which])
        total -= share * (best - low)
        moved -= share
        z[which] = -np.inf
    return total


@_loop
def worst_kl(q, z, n, radius, start):
    """Value of the worst law with ``KL(q', q) <= radius``, its multiplier, and how far the dual may be from it.

    Newton's search for the multiplier t from ``start`` (the one of the last sweep), safeguarded by a bracket.
    """
    low = np.inf
    mean = 0.0
    for i in range(n):
        if q[i] > 0.0:
            low = min(low, z[i])
            mean += q[i] * z[i]
    mass, high = 0.0, 0.0
    for i in range(n):
        z[i] -= low
        if q[i] > 0.0:
            high = max(high, z[i])
            if z[i] == 0.0:
                mass += q[i]
    if high == 0.0 or radius == 0.0:
        return mean, start, 0.0
    if radius >= -math.log(mass):
        return low, start, 0.0
    centre, spread = mean - low, 0.0
    for i in range(n):
        spread += q[i] * (z[i] - centre) ** 2
    t = start if start > 0.0 else math.sqrt(2.0 * radius / spread)
    under, over = 0.0, np.inf
    value, gap = 0.0, np.inf
    for _ in range(NEWTON):
        one, d1, d2 = 0.0, 0.0, 0.0
        for i in range(n):
            w = q[i] * math.exp(-t * z[i])
            one += w
            d1 += w * z[i]
            d2 += w * z[i] * z[i]
        m = d1 / one
        log_one = math.log(one)
        away = -t * m - log_one  # KL of the tilted law
        value = -(log_one + radius) / t
        gap = abs(away - radius) / t  # between this dual and the primal at the same t
        if gap <= 4e-16 * (abs(low) + high) or abs(away - radius) <= 1e-9 * radius:
            break
        if away <= radius:
            under = t
        else:
            over = t
        slope = t * (d2 / one - m * m)
        new = t + (radius - away) / slope if slope > 0.0 else np.inf
        if not (under < new < over):
            new = 0.5 * (under + over) if over < np.inf else 2.0 * t
        if new == t:
            break
        t = new
    return low + value, t, gap


@_loop
def robust_backup(
    kind, radius, data, indices, indptr, r, gamma, v, out, actions, terminal, terms, floor, warm, first, last
):
    """``out = L v`` for the states ``first <= s < last``, with the first maximising action of each.

    ``kind`` 0: total variation within ``radius / 2``, over all states, whose smallest value is ``floor``; 1: the same
    over the nominal support; 2: relative entropy within ``radius``, ``warm`` [S * A] keeps the multipliers (0: none yet).
    ``terms`` is the length of the longest row. Returns the extremes of ``out - v``, the number of actions that changed,
    and the largest gap of an inner problem.
    """
    A = r.shape[1]
    lowest, highest, changed, worst_gap = np.inf, -np.inf, 0, 0.0
    q, z = np.empty(terms), np.empty(terms)
    for s in range(first, last):
        best, chosen = -np.inf, 0
        for a in range(A):
            row = _U(s * A + a)
            start, end = indptr[row], indptr[row + _ONE]
            n = numba.int64(end) - numba.int64(start)
            small, own = np.inf, 0.0
            k = _U(start)
            for i in range(n):
                q[i], z[i] = data[k], v[_U(indices[k])]
                if z[i] < small and q[i] > 0.0:
                    small, own = z[i], q[i]
                elif z[i] == small:
                    own += q[i]
                k += _ONE
            if terminal[s]:
                total = 0.0
                for i in range(n):
                    total += q[i] * z[i]
            elif kind == 2:
                total, warm[row], gap = worst_kl(q, z, n, radius, warm[row])
                worst_gap = max(worst_gap, gap)
            elif kind == 1:
                total = worst_l1(q, z, n, small, min(radius / 2.0, 1.0 - own))
            else:
                total = worst_l1(q, z, n, floor, radius / 2.0)
            value = r[s, a] + gamma * total
            if value > best:
                best, chosen = value, a
        if chosen != actions[s]:
            changed += 1
            actions[s] = chosen
        out[s] = best
        d = best - v[s]
        lowest, highest = min(lowest, d), max(highest, d)
    return lowest, highest, changed, worst_gap
