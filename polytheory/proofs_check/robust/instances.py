"""Small problems on which the claims of robust planning are checked, and the independent routes to their answers: linear
and conic programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.errors import require
from polytheory.models.tabular import TabularMDP

EXACT = 1e-12  # closed forms: a few roundings of numbers of size 1
CONIC = 1e-6  # interior-point solutions: solver tolerance 1e-9 times a condition of a few hundred


@dataclass(frozen=True, eq=False)
class Row:
    """One inner problem: outcomes ``z`` [n], nominal law ``p`` [n], a radius."""

    z: Float[np.ndarray, " n"]
    p: Float[np.ndarray, " n"]
    radius: float


CASE_Z, CASE_P = np.array([1.0, 3.0, 0.0, 2.0]), np.array([0.4, 0.3, 0.1, 0.2])


def worked_rows() -> list[Row]:
    """Four outcomes at several radii; and the ugly ones: an outcome without mass below all others, ties, one outcome."""
    rows = [Row(CASE_Z, CASE_P, radius) for radius in (0.05, 0.2, 0.5, 1.0)]
    rows.append(Row(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5, 0.5]), 0.3))
    rows.append(Row(np.array([1.0, 3.0, 0.0]), np.array([0.6, 0.4, 0.0]), 0.4))
    rows.append(Row(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.25, 0.25, 0.25, 0.25]), 0.1))
    return [*rows, Row(np.array([2.0]), np.array([1.0]), 0.5), Row(CASE_Z, CASE_P, 0.0)]


def rows() -> Any:
    """Strategy: at most five outcomes in steps of 1/4, masses in eighths."""
    st = require("hypothesis", "conform").strategies

    @st.composite
    def build(draw: Any) -> Row:
        n = draw(st.integers(1, 5))
        z = np.array(draw(st.lists(st.integers(-12, 12), min_size=n, max_size=n))) / 4
        tokens = draw(st.lists(st.integers(0, n - 1), min_size=8, max_size=8))
        return Row(z, np.bincount(tokens, minlength=n) / 8, draw(st.sampled_from((0.0, 0.05, 0.25, 0.5, 1.0))))

    return build()


def three_states(gamma: float = 0.9) -> TabularMDP:
    """Three states, two actions; optimal actions (0, 1, 0) under every set of the table below."""
    P = [[[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], [[0.3, 0.3, 0.4], [0.05, 0.05, 0.9]], [[0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]]
    return TabularMDP(P, [[1, 0], [0, 2], [0.5, -1]], np.ones(3) / 3, gamma=gamma, name="three-states")


# robust values of `three_states`, ten decimals, from convex programs in place of the closed forms
VALUES = {
    "tv:0": (10.4621461488, 10.9940750494, 9.9117840685),
    "l1:0.4": (8.5316440567, 9.1890276699, 7.9878085221),
    "tv:0.2": (8.5316440567, 9.1890276699, 7.9878085221),
    "kl:0.1": (9.2113835157, 9.7561457489, 8.6172984619),
    "chi2:0.2": (9.2186738969, 9.7602894032, 8.6225437813),
    "linf:0.1": (9.5106815311, 10.0653522983, 8.9615025537),
    "w1:0.1": (9.5223336122, 10.0887310229, 8.9737646914),
    "w1:0.5": (7.5964391691, 8.3026706231, 7.0029673590),
    "contamination:0.2": (9.5498139727, 10.1740388590, 9.0144687888),
    "penalised-tv:1": (10.3018292683, 10.8422256098, 9.7469512195),
    "penalised-kl:1": (10.0177820280, 10.5410003766, 9.4327540547),
    "penalised-chi2:1": (10.2420068847, 10.7662626962, 9.6745349865),
    "shared-l1:0.8": (7.3988439306, 8.1387283237, 6.8208092485),
}
PRINTED = 1e-9  # of the table


def linear_minimum(
    z: np.ndarray, *, below: tuple[np.ndarray, np.ndarray], equal: tuple[np.ndarray, np.ndarray], bounds: Any
) -> float:
    """A linear program by HiGHS."""
    from scipy.optimize import linprog

    found = linprog(z, A_ub=below[0], b_ub=below[1], A_eq=equal[0], b_eq=equal[1], bounds=bounds, method="highs")
    return float(found.fun)


def l1_program(row: Row, support: str = "full") -> float:
    """``min q . z`` with ``sum |q - p| <= radius``: variables q and |q - p|."""
    n = len(row.z)
    eye, total = np.eye(n), np.ones((1, n))
    A = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, n)), total]])
    b = np.concatenate([row.p, -row.p, [row.radius]])
    top = np.where((row.p > 0) | (support == "full"), 1.0, 0.0)
    bounds = [(0, t) for t in top] + [(0, None)] * n
    equal = np.concatenate([total, 0 * total], 1), np.ones(1)
    return linear_minimum(np.concatenate([row.z, np.zeros(n)]), below=(A, b), equal=equal, bounds=bounds)


def transport_program(row: Row, cost: np.ndarray) -> float:
    """``min sum plan[x, y] z_y``: rows of the plan sum to p, its cost is at most the radius."""
    n = len(row.z)
    sums = np.kron(np.eye(n), np.ones((1, n)))
    below = cost.reshape(1, -1), np.array([row.radius])
    return linear_minimum(np.tile(row.z, n), below=below, equal=(sums, row.p), bounds=[(0, None)] * (n * n))


def interval_program(row: Row, low: np.ndarray, high: np.ndarray) -> float:
    """``min q . z`` with ``low <= q <= high``."""
    n = len(row.z)
    return linear_minimum(
        row.z,
        below=(np.zeros((1, n)), np.zeros(1)),
        equal=(np.ones((1, n)), np.ones(1)),
        bounds=list(zip(low, high, strict=True)),
    )


def conic_minimum(row: Row, divergence: str, *, strength: float | None = None) -> float:
    """``min q . z`` within a ball of a divergence, or with the divergence charged, by an interior-point method."""
    cp = require("cvxpy", "certify")
    inside = row.p > 0
    q = cp.Variable(len(row.z))
    p = row.p[inside]
    if divergence == "kl":
        D = cp.sum(cp.rel_entr(q[inside], p))
    elif divergence == "chi2":
        D = cp.sum(cp.multiply(1 / p, cp.square(q[inside] - p)))
    elif divergence == "reverse-kl":
        D = cp.sum(cp.rel_entr(p, q[inside]))
    else:
        D = cp.norm1(q - row.p) / 2
    rules = [cp.sum(q) == 1, q >= 0]
    if divergence in ("kl", "chi2"):
        rules.append(q[~inside] == 0) if (~inside).any() else None
    goal = row.z @ q if strength is None else row.z @ q + strength * D
    if strength is None:
        rules.append(D <= row.radius)
    problem = cp.Problem(cp.Minimize(goal), rules)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(problem.value)


def divergence_of(name: str, q: np.ndarray, p: np.ndarray) -> float:
    """How far q is from p, by its definition; infinite where q leaves the support and may not."""
    if name == "l1":
        return float(np.abs(q - p).sum())
    if name == "linf":
        return float(np.abs(q - p).max())
    inside = p > 0
    if name != "reverse-kl" and (q[~inside] > 0).any():
        return float("inf")
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "kl":
            return float(np.where(q[inside] > 0, q[inside] * np.log(q[inside] / p[inside]), 0.0).sum())
        if name == "chi2":
            return float(((q[inside] - p[inside]) ** 2 / p[inside]).sum())
        return float((p[inside] * np.log(p[inside] / q[inside])).sum())


def game_program(z: np.ndarray, p: np.ndarray, kappa: float) -> float:
    """Value of the game with a shared L1 budget, ``z``, ``p`` [A, n], as one linear program for the policy: nature's problem is
    replaced by its dual. Variables d, x, up, down, price."""
    from scipy.optimize import linprog

    A, n = z.shape
    size = A + A + 2 * A * n + 1
    c = np.zeros(size)
    c[A : 2 * A], c[-1] = -1, kappa
    up, down = (2 * A + k * A * n + np.arange(A * n).reshape(A, n) for k in (0, 1))
    c[up.ravel()], c[down.ravel()] = p.ravel(), -p.ravel()
    lines, bound = [], []
    for a in range(A):
        for i in range(n):
            line = np.zeros(size)
            line[A + a], line[up[a, i]], line[down[a, i]], line[a] = 1, -1, 1, -z[a, i]
            lines.append(line)
            line = np.zeros(size)
            line[up[a, i]], line[down[a, i]], line[-1] = 1, 1, -1
            lines.append(line)
            bound += [0.0, 0.0]
    simplex = np.zeros((1, size))
    simplex[0, :A] = 1
    free = [(0, None)] * A + [(None, None)] * A + [(0, None)] * (2 * A * n + 1)
    found = linprog(c, A_ub=np.array(lines), b_ub=bound, A_eq=simplex, b_eq=[1.0], bounds=free, method="highs")
    return -float(found.fun)
