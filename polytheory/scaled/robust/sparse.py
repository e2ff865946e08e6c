"""Large sparse robust models on a CPU: the robust value to a certified error, by compiled sweeps.

Setting: one discounted `TabularMDP` with CSR transitions and rewards [S, A]; total variation, L1 or relative entropy by (s, a).
Method: robust value iteration with MacQueen's midpoint; the multipliers of relative entropy are kept from sweep to sweep.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import DiscountError, SettingError, require
from polytheory.models.ambiguity import KL, L1, Ambiguity, TotalVariation, ambiguity
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.scaled.planning.certificate import check_settings

UNIT = 2.0**-53
RANGES = 6  # pieces of a sweep for each thread


@dataclass(frozen=True, eq=False)
class SparseRobustSolution:
    """What `solve_sparse` returns.

    Fields: ``v`` [S] within ``bound`` of the optimal robust value; ``actions`` [S] of a policy that loses at most ``2 *
    bound``; ``bound`` certified ``max |v - V*|``, rounding and inner gaps included; ``rounding`` the part owed to them;
    ``status`` "certified", "limited by rounding" or "out of sweeps"; ``sweeps``; ``n_actions``.
    """

    v: Float[np.ndarray, " S"]
    actions: Int[np.ndarray, " S"]
    bound: float
    rounding: float
    status: str
    sweeps: int
    n_actions: int

    @property
    def policy(self) -> TabularPolicy:
        """The policy as a table [S, A]."""
        return TabularPolicy.deterministic(self.actions, self.n_actions)


class RobustSweeps:
    """A model's CSR arrays, an ambiguity set, and the threads that share a sweep."""

    def __init__(self, model: TabularMDP, ball: Ambiguity | str, *, threads: int = 1):
        from polytheory.scaled.robust import _sparse_kernels as kernels

        self.kind, self.radius = _kind(ambiguity(ball))
        self.loop = kernels.robust_backup
        P: Any = model.P_at()
        self.arrays = (P.data, _unsigned(P.indices), _unsigned(P.indptr))
        self.r, self.gamma, self.terminal = np.ascontiguousarray(model.r_at()), model.gamma, np.asarray(model.terminal)
        self.S, self.A, self.threads = model.S, model.A, threads
        self.terms = int(np.max(np.diff(P.indptr)))
        self.row_gap = float(np.max(np.abs(np.asarray(P.sum(axis=1)) - 1))) + (self.terms + 1) * UNIT
        self.reward = float(np.max(np.abs(self.r)))
        self.warm = np.zeros(self.S * self.A if self.kind == 2 else 1)

    def backup(
        self, v: Float[np.ndarray, " S"], out: Float[np.ndarray, " S"], actions: Int[np.ndarray, " S"]
    ) -> tuple[float, float, float]:
        """``out = L v`` and its greedy ``actions``; extremes of ``out - v``, largest inner gap."""
        floor = float(v.min())
        given = (
            self.kind,
            self.radius,
            *self.arrays,
            self.r,
            self.gamma,
            v,
            out,
            actions,
            self.terminal,
            self.terms,
            floor,
            self.warm,
        )
        pieces = RANGES * self.threads if self.threads > 1 else 1
        ranges = [(self.S * i // pieces, self.S * (i + 1) // pieces) for i in range(pieces)]
        if self.threads == 1:
            parts = [self.loop(*given, *ranges[0])]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                parts = list(pool.map(lambda ends: self.loop(*given, *ends), ranges))
        return min(p[0] for p in parts), max(p[1] for p in parts), max(p[3] for p in parts)


def solve_sparse(
    model: TabularMDP, ball: Ambiguity | str, *, tol: float = 1e-6, threads: int = 2, max_sweeps: int = 100_000
) -> SparseRobustSolution:
    """Solve a large sparse discounted MDP against an ambiguity set to a certified ``max |v - V*| <= tol``.

    Args:
        model: discounted, without horizon, CSR transitions, rewards [S, A].
        ball: `TotalVariation`, `L1` or `KL`, or its text.
        tol: >= 0, in units of the value. threads: of a sweep, >= 1. max_sweeps: before giving up, >= 1.

    Raises:
        DiscountError, SettingError: the problem is of another kind; MissingExtraError: without numba (extra ``fast``).
    """
    check_settings(tol)
    require("numba", "fast")
    for name, value in (("threads", threads), ("max_sweeps", max_sweeps)):
        if int(value) != value or value < 1:
            raise SettingError(f"{name} = {value}; it must be a whole number >= 1")
    if model.horizon is not None:
        raise DiscountError(
            f"solve_sparse takes discounted problems without end; {model.name} has horizon = {model.horizon}"
        )
    if not model.is_sparse or np.ndim(model.r) != 2:
        raise SettingError(
            f"solve_sparse needs CSR transitions and rewards [S, A]; for {model.name} use RobustValueIteration"
        )
    sweeps = RobustSweeps(model, ball, threads=threads)
    gamma, g = model.gamma, model.gamma / (1 - model.gamma)
    v, out, actions = np.zeros(model.S), np.empty(model.S), np.zeros(model.S, dtype=np.int32)
    bound = rounding = np.inf
    for i in range(1, max_sweeps + 1):
        low, high, gap = sweeps.backup(v, out, actions)
        size = max(float(np.max(np.abs(v))), float(np.max(np.abs(out))))
        inner = (8 * (sweeps.terms + 4) * UNIT + sweeps.row_gap) * (sweeps.reward + gamma * size)
        rounding = (gamma * gap + inner) / (1 - gamma)
        bound = g * (high - low) / 2 + rounding
        v, out = out + g * (low + high) / 2, v
        if bound <= tol or bound - rounding <= rounding:
            status = "certified" if bound <= tol else "limited by rounding"
            return SparseRobustSolution(v, actions, bound, rounding, status, i, model.A)
    return SparseRobustSolution(v, actions, bound, rounding, "out of sweeps", max_sweeps, model.A)


def _kind(ball: Ambiguity) -> tuple[int, float]:
    match ball:
        case TotalVariation():
            return int(ball.support == "nominal"), 2 * ball.radius
        case L1():
            return int(ball.support == "nominal"), ball.radius
        case KL():
            return 2, ball.radius
    raise SettingError(f"{type(ball).__name__} has no compiled sweep; use RobustValueIteration, or one of tv, l1, kl")


def _unsigned(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint32 if x.dtype.itemsize == 4 else np.uint64)
