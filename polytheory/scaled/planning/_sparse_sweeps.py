"""A sparse model's arrays, the loops over them, and the threads that share a sweep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.errors import DiscountError
from polytheory.models.tabular import TabularMDP

UNIT = 2.0**-53
PARALLEL_ENTRIES = 300_000  # a sweep over fewer stored probabilities takes less time than waking a thread
RANGES = 6  # pieces of a sweep for each thread


@dataclass(eq=False)
class Chain:
    """The rows of one policy: CSR arrays, rewards [S] and the actions [S] they belong to."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    r: np.ndarray
    actions: np.ndarray


class Sweeps:
    """A model's CSR arrays, the loops over them and the threads that share a sweep; counts what was done."""

    def __init__(self, model: TabularMDP, kernels: Any, threads: int):
        P: Any = model.P_at()
        self.kernels, self.gamma, self.r = kernels, model.gamma, model.r_at()
        self.S, self.A, self.name = model.S, model.A, model.name
        self.arrays = (P.data, _unsigned(P.indices), _unsigned(P.indptr))
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 and P.nnz >= PARALLEL_ENTRIES else None
        self.full = self.policy = self.krylov = 0
        facts = self._share(kernels.row_facts, (P.data, self.arrays[2]), self.S * self.A, P.nnz)
        self.terms = max(t for t, _ in facts)
        self.row_gap = max(g for _, g in facts) + (self.terms + 1) * UNIT
        self.reward = max(float(np.max(self.r)), -float(np.min(self.r)))
        if self.gamma * (1 + self.row_gap) >= 1:
            raise DiscountError(
                f"gamma = {self.gamma} with rows of P that sum to 1 only up to {self.row_gap:.1e} is no contraction; "
                "divide each row by its sum, or lower gamma"
            )

    def __enter__(self) -> Sweeps:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def backup(self, v: np.ndarray, out: np.ndarray, actions: np.ndarray) -> tuple[float, float, int]:
        """``out = T v`` and its greedy ``actions``; extremes of ``out - v``, number of changed actions."""
        self.full += 1
        parts = self._share(self.kernels.backup, (*self.arrays, self.r, self.gamma, v, out, actions), self.S)
        return min(p[0] for p in parts), max(p[1] for p in parts), sum(p[2] for p in parts)

    def best_rewards(self, out: np.ndarray, actions: np.ndarray) -> None:
        """``out = max_a r`` and the actions that attain it."""
        self._share(self.kernels.best_rewards, (self.r, out, actions), self.S)

    def chain(self, actions: np.ndarray, last: Chain | None = None) -> Chain:
        """The rows of a policy, copied; ``last`` is changed in place where its rows have room for the new ones."""
        _, indices, indptr = self.arrays
        states = np.arange(self.S) if last is None else np.flatnonzero(actions != last.actions)
        rows = states * self.A + actions[states]
        sizes = indptr[rows + 1] - indptr[rows]
        if last is None:
            ends = np.zeros(self.S + 1, dtype=indptr.dtype)
            np.cumsum(sizes, out=ends[1:])
            size = int(ends[-1])
            place = np.empty(size), np.empty(size, dtype=indices.dtype), ends, np.empty(self.S)
            last = Chain(*place, np.empty_like(actions))
        elif not np.array_equal(last.indptr[states + 1] - last.indptr[states], sizes):
            return self.chain(actions)
        into = last.data, last.indices, last.indptr, last.r
        self._share(
            self.kernels.copy_rows, (*self.arrays, self.r, states, actions, *into), states.size, int(np.sum(sizes))
        )
        last.actions[states] = actions[states]
        return last

    def policy_backup(self, chain: Chain, v: np.ndarray, out: np.ndarray) -> tuple[float, float]:
        """``out = T_pi v``; extremes of ``out - v``."""
        self.policy += 1
        arrays = (chain.data, chain.indices, chain.indptr, chain.r, self.gamma, v, out)
        parts = self._share(self.kernels.policy_backup, arrays, self.S, chain.data.size)
        return min(p[0] for p in parts), max(p[1] for p in parts)

    def ordered_backup(self, v: np.ndarray, order: np.ndarray, backward: bool, actions: np.ndarray) -> int:
        """One Gauss-Seidel sweep of all actions on ``v`` in place; number of changed actions."""
        self.full += self.kernels.ROUNDS
        return self.kernels.ordered_backup(*self.arrays, self.r, self.gamma, v, order, backward, actions)

    def ordered_solve(self, chain: Chain, b: np.ndarray, order: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Two Gauss-Seidel sweeps on ``(I - gamma P_pi) x = b`` in place, backward and forward; returns x."""
        for backward in self.kernels.PASSES:
            self.policy += 1
            self.kernels.ordered_solve(chain.data, chain.indices, chain.indptr, self.gamma, b, order, backward, x)
        return x

    def _share(self, loop: Any, arguments: tuple[Any, ...], n: int, entries: int | None = None) -> list[Any]:
        """Run ``loop(*arguments, first, last)`` on ranges that cover 0..n, shared by the threads.

        There are more ranges than threads: a thread that has to wait for a busy core holds up the others by one range.
        """
        if self._pool is None or (entries is not None and entries < PARALLEL_ENTRIES):
            return [loop(*arguments, 0, n)]
        pieces = RANGES * self.threads
        ranges = iter([(n * i // pieces, n * (i + 1) // pieces) for i in range(pieces)])

        def work() -> list[Any]:
            return [loop(*arguments, first, last) for first, last in ranges if first < last]

        others = [self._pool.submit(work) for _ in range(self.threads - 1)]
        done = work()
        return done + [x for f in others if not f.cancel() for x in f.result()]


def _unsigned(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint32 if x.dtype.itemsize == 4 else np.uint64)
