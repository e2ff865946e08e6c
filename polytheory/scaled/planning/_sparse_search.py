"""How a large sparse model is solved: by mixing where the chain forgets fast, by order where it does not."""

from __future__ import annotations

import math

import numpy as np

from polytheory.scaled.planning._sparse_gmres import gmres, norm
from polytheory.scaled.planning._sparse_sweeps import UNIT, Chain, Sweeps
from polytheory.scaled.planning.bellman import half_width, midpoint_shift, rounding_bound

INNER = 0.15  # policy sweeps shrink the interval of the last full sweep by this before the next one
FEW = 0.002  # share of states with a new action below which the policy is taken for settled
SLOW = 40  # policy sweeps to come that are not worth waiting for
CACHED = 32_768  # float64 values that any second-level cache holds
STUCK = 0.3  # share of the residual that Gauss-Seidel sweeps may leave before GMRES is called
CYCLE = 5  # GMRES iterations that must shrink the residual tenfold to be worth another cycle


class Search:
    """The iterate and its certificate.

    Fields: ``v`` [S], ``actions`` [S] int32, ``bound``, ``rounding``, ``status`` as in `SparseSolution`.
    """

    def __init__(self, sweeps: Sweeps, tol: float, max_sweeps: int):
        self.sweeps, self.gamma, self.tol, self.max_sweeps = sweeps, sweeps.gamma, tol, max_sweeps
        self.actions = np.empty(sweeps.S, dtype=np.int32)
        # values are gathered at random: half the bytes stay in the cache, and precision is for the end
        self.v = np.empty(sweeps.S, dtype=np.float32 if sweeps.S > CACHED else np.float64)
        sweeps.best_rewards(self.v, self.actions)  # one sweep from v = 0, which needs no transitions
        self._spare = np.empty_like(self.v)
        self._chain: Chain | None = None
        self.bound, self.rounding, self.status = np.inf, 0.0, ""
        self._low = float(np.min(self.v))  # of the last backup: T v - v is nowhere below it

    def run(self) -> None:
        """Search until ``status`` is known."""
        if not self._by_mixing():
            self._by_order()

    # ---- the certificate -------------------------------------------------------------------------------------------

    def certify(self) -> tuple[float, float, int]:
        """One full sweep from ``v``; certifies the middle of its interval, and takes it when nothing more is to do.

        Returns the extremes of ``T v - v`` and the number of states whose greedy action changed.
        """
        s, gamma = self.sweeps, self.gamma
        low, high, changed = s.backup(self.v, self._spare, self.actions)
        shift, change = midpoint_shift(low, high, gamma), max(abs(low), abs(high))
        size = max(float(np.max(self.v)), -float(np.min(self.v))) + change + abs(shift)
        self.rounding = float(rounding_bound(size, s.reward, change, gamma=gamma, terms=s.terms, row_gap=s.row_gap))
        analytic = float(half_width(low, high, gamma))
        self.bound, self._low = analytic + self.rounding, low
        if self.bound <= self.tol:
            self.status = "certified"
        elif analytic <= self.rounding:
            self.status = "limited by rounding"
        elif s.full >= self.max_sweeps:
            self.status = "out of sweeps"
        if self.status:
            np.add(self._spare, shift, out=self.v)
        return low, high, changed

    # ---- fast mixing -----------------------------------------------------------------------------------------------

    def _by_mixing(self) -> bool:
        """Modified policy iteration in the span seminorm. False when a policy's chain mixes too slowly for it.

        Until few actions change, values are known up to a constant only, and float32 when there are many; then they are
        float64, and every full sweep certifies.
        """
        allowed = 2 * self.tol * (1 - self.gamma) / self.gamma if self.gamma else np.inf
        width, changed = float(np.ptp(self.v)), self.sweeps.S
        left = self.max_sweeps - 1  # one is for the certificate
        while changed > FEW * self.sweeps.S and width > self._floor() and self.sweeps.full < left:
            if not self._evaluate_by_sweeps(max(self._floor(), INNER * width)):
                return False
            self.v -= (np.max(self.v) + np.min(self.v)) / 2
            low, high, changed = self.sweeps.backup(self.v, self._spare, self.actions)
            self.v, self._spare, width = self._spare, self.v, high - low
        self._to_float64()
        while not self.status:
            if not self._evaluate_by_sweeps(max(self._floor(), 0.3 * allowed)):
                return False
            self.certify()
            if not self.status:
                self.v, self._spare = self._spare, self.v
        return True

    def _floor(self) -> float:
        """A span of ``T v - v`` that rounding alone may leave."""
        size = max(float(np.max(self.v)), -float(np.min(self.v)), self.sweeps.reward)
        return 16 * size * (UNIT if self.v.dtype == np.float64 else 2.0**-24)

    def _to_float64(self) -> None:
        if self.v.dtype != np.float64:
            self.v = self.v.astype(np.float64)
            self._spare = np.empty_like(self.v)

    def _evaluate_by_sweeps(self, goal: float) -> bool:
        """Sweep the greedy policy until the span of the change is at most ``goal``; False when that takes too long."""
        self._chain = self.sweeps.chain(self.actions, self._chain)
        k, first = 0, np.inf
        while True:
            self._low, high = self.sweeps.policy_backup(self._chain, self.v, self._spare)
            self.v, self._spare = self._spare, self.v
            width, k = high - self._low, k + 1
            if width <= goal:
                if self.v.dtype == np.float64:
                    self.v += midpoint_shift(self._low, high, self.gamma)
                return True
            first = width if k == 1 else first
            if k >= 5 and math.log(goal / width) < SLOW * math.log(max(width / first, 1e-300)) / (k - 1):
                return False

    # ---- slow mixing -----------------------------------------------------------------------------------------------

    def _by_order(self) -> None:
        """Gauss-Seidel sweeps from below, forward and backward, of all actions and then of the policy found; repeated.

        From below, values only rise, and news travels along the order of the states in one sweep. What sweeps leave is
        a few modes that decay like powers of gamma (cycles of the policy): GMRES removes those.
        """
        self._to_float64()
        # T v - v >= low gives T w >= w for w = v + low / (1 - gamma), a value below V*
        self.v += min(self._low, 0.0) / (1 - self.gamma)
        order = self._order()
        while not self.status:
            for backward in (True, False):
                self.sweeps.ordered_backup(self.v, order, backward, self.actions)
            self.certify()
            if not self.status:
                self._chain = self.sweeps.chain(self.actions, self._chain)
                self._evaluate_by_order(self._chain, order)

    def _evaluate_by_order(self, chain: Chain, order: np.ndarray) -> None:
        before = norm(self._residual(chain))
        for _ in range(self.sweeps.kernels.PAIRS):
            self.sweeps.ordered_solve(chain, chain.r, order, self.v)
        residual = self._residual(chain)
        if norm(residual) > STUCK * before:
            self._evaluate_by_gmres(chain, order, residual)

    def _evaluate_by_gmres(self, chain: Chain, order: np.ndarray, residual: np.ndarray) -> None:
        """Add corrections to ``v`` as long as each solves the policy's equation much better than the last."""
        s = self.sweeps

        def apply(x: np.ndarray) -> np.ndarray:
            s.policy_backup(chain, x, self._spare)
            x -= self._spare
            x += chain.r
            return x

        def precondition(b: np.ndarray) -> np.ndarray:
            return s.ordered_solve(chain, b, order, np.zeros_like(b))

        size = norm(residual)
        goal = max(1e-3 * size, 0.1 * self.tol * (1 - self.gamma))
        while size > goal:
            correction, steps = gmres(apply, precondition, residual, goal=goal, cycle=CYCLE)
            s.krylov += steps
            if not math.isfinite(norm(correction)):
                break
            self.v += correction
            last, residual = size, self._residual(chain)
            size = norm(residual)
            if not size < last:
                self.v -= correction
            if not size <= 0.1 * last:
                break

    def _residual(self, chain: Chain) -> np.ndarray:
        """``T_pi v - v``."""
        self.sweeps.policy_backup(chain, self.v, self._spare)
        return self._spare - self.v

    def _order(self) -> np.ndarray:
        """The order to sweep in: as numbered where successors are near, else one that brings neighbours together."""
        s = self.sweeps
        _, indices, indptr = s.arrays
        some = np.arange(0, s.S * s.A, max(1, s.S * s.A // 1000))
        jump = np.mean(np.abs(indices[indptr[some]].astype(np.int64) - some // s.A))
        if jump <= 3 * math.sqrt(s.S):
            return np.arange(s.S, dtype=np.uint32)
        import scipy.sparse as sp
        from scipy.sparse.csgraph import reverse_cuthill_mckee

        signed = indices.view(f"i{indices.dtype.itemsize}"), indptr[:: s.A].copy().view(f"i{indptr.dtype.itemsize}")
        graph = sp.csr_matrix((np.ones(indices.size, dtype=np.int8), *signed), shape=(s.S, s.S))
        return reverse_cuthill_mckee(graph).astype(np.uint32)
