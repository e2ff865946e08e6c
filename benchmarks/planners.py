"""Who solves a discounted model to ``max |v - V*| <= 1e-6`` in the planning benchmark, each by its own stopping rule.

Peers are asked for 1e-6 in their own terms. Preparing their input is never timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory import models
from polytheory.models import TabularMDP
from polytheory.scaled.planning.sparse import solve_sparse

TOL = 1e-6
UNLIMITED = 10**7  # iterations: peers stop by their own rule, or at the benchmark's time limit
THREADS = 2


@dataclass(frozen=True)
class Planner:
    """``prepare(model)`` gives a function that solves the model afresh and returns its values [S].

    ``rule`` is the stopping rule in words; ``package`` what must be installed; ``once`` when preparing costs more than
    solving, so that large models are solved once only.
    """

    name: str
    package: str
    rule: str
    prepare: Callable[[TabularMDP], Callable[[], np.ndarray]]
    once: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package can be imported."""
        return importlib.util.find_spec(self.package) is not None


def polytheory_with(threads: int, kernels: str) -> Callable[[TabularMDP], Callable[[], np.ndarray]]:
    """`solve_sparse` on so many threads."""

    def prepare(model: TabularMDP) -> Callable[[], np.ndarray]:
        def solve() -> np.ndarray:
            found = solve_sparse(model, tol=TOL, threads=threads, kernels=kernels)
            if found.status != "certified":
                raise RuntimeError(f"{model.name}: {found.status}, bound {found.bound:.2g}")
            return found.v

        return solve

    return prepare


def quantecon_mpi(model: TabularMDP) -> Callable[[], np.ndarray]:
    """QuantEcon's `DiscreteDP` in its sparse formulation by state-action pairs, modified policy iteration, k = 20."""
    from quantecon.markov import DiscreteDP

    pair = np.arange(model.S * model.A)
    P: Any = sp.csr_matrix(model.P_at())
    problem = DiscreteDP(np.array(model.r_at()).ravel(), P, model.gamma, pair // model.A, pair % model.A)
    return lambda: problem.solve(method="mpi", epsilon=2 * TOL, max_iter=UNLIMITED, k=20).v


def mdpsolver_mpi(model: TabularMDP) -> Callable[[], np.ndarray]:
    """mdpsolver's modified policy iteration with its defaults. It starts from its last result: one object a solve."""
    import mdpsolver

    P: Any = model.P_at()
    cuts = P.indptr.tolist()

    def nested(x: list) -> list:
        rows = [x[i:j] for i, j in pairwise(cuts)]
        return [rows[k : k + model.A] for k in range(0, len(rows), model.A)]

    problem = mdpsolver.model()
    problem.mdp(
        discount=model.gamma, rewards=np.array(model.r_at()).tolist(),
        tranMatProbs=nested(P.data.tolist()), tranMatColumns=nested(P.indices.tolist()),
    )  # fmt: skip

    def solve() -> np.ndarray:
        problem.solve(algorithm="mpi", tolerance=TOL)
        return np.array(problem.getValueVector())

    return solve


PLANNERS = (
    Planner(
        "polytheory", "numba",
        "MacQueen's interval of one full sweep is at most 2e-6 wide, rounding included; its middle is returned (certified)",
        polytheory_with(THREADS, "numba"),
    ),
    Planner("polytheory, 1 thread", "numba", "the same", polytheory_with(1, "numba")),
    Planner(
        "QuantEcon", "quantecon",
        "span(Tv - v) < epsilon (1 - gamma) / gamma with epsilon = 2e-6, then the middle: |v - V*| <= 1e-6 without rounding",
        quantecon_mpi,
    ),
    Planner(
        "mdpsolver", "mdpsolver",
        "tolerance = 1e-6 in its own terms (an epsilon-optimal policy), then its post-processing; parallel",
        mdpsolver_mpi, once=True,
    ),
)  # fmt: skip


def problem(name: str, S: int, gamma: float) -> TabularMDP:
    """A model of the benchmark with about S states (a grid is square)."""
    side = round(S**0.5)
    options: dict[str, dict[str, Any]] = {
        "garnet": {"S": S, "A": 10, "successors": 10, "sparse": True},
        "ring": {"S": S},
        "river": {"S": S},
        "gridworld": {"rows": side, "columns": side, "slip": 0.1, "sparse": True},
    }
    return models.make(name, gamma=gamma, **options[name])
