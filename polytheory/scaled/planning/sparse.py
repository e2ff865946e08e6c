"""Large sparse models on a CPU: the optimal value to a certified error, in little memory.

Setting: one discounted `TabularMDP` with CSR transitions, up to some 10^8 stored probabilities.

Method: modified policy iteration [puterman1978] where the policy's chain mixes fast, else Gauss-Seidel sweeps and policy
evaluation by GMRES with a Gauss-Seidel preconditioner [saad2003, sec. 9.3, 10.1]. Which it is shows in the contraction of
the first policy sweeps. However a value was found, one full Bellman sweep certifies it, by MacQueen's interval with its
midpoint and the rounding of that sweep: the certificate of the reference, for the full model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import DiscountError, MissingExtraError, SettingError, UnknownNameError
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.scaled.planning._sparse_search import Search
from polytheory.scaled.planning._sparse_sweeps import Sweeps
from polytheory.scaled.planning.certificate import check_settings

KERNELS = ("auto", "numba", "scipy")


@dataclass(frozen=True, eq=False)
class SparseSolution:
    """What `solve_sparse` returns.

    Fields:
        v: [S], within ``bound`` of the optimal value V*.
        actions: [S] a deterministic policy that loses at most ``2 * bound`` in every state (int32).
        bound: certified ``max |v - V*|``, rounding included.
        rounding: the part of ``bound`` owed to floating point.
        status: "certified" when ``bound <= tol``; "limited by rounding" when float64 cannot certify it; "out of sweeps".
        sweeps: full Bellman sweeps; ``policy_sweeps``: sweeps of one policy's rows; ``krylov``: GMRES iterations.
    """

    v: Float[np.ndarray, " S"]
    actions: Int[np.ndarray, " S"]
    bound: float
    rounding: float
    status: str
    sweeps: int
    policy_sweeps: int
    krylov: int
    n_actions: int

    @property
    def policy(self) -> TabularPolicy:
        """The policy as a table [S, A]."""
        return TabularPolicy.deterministic(self.actions, self.n_actions)


def solve_sparse(
    model: TabularMDP, *, tol: float = 1e-6, kernels: str = "auto", threads: int = 2, max_sweeps: int = 100_000
) -> SparseSolution:
    """Solve a large sparse discounted MDP to a certified ``max |v - V*| <= tol``.

    Guarantee: ``bound`` holds for the numbers as stored, whatever the iterations did. ``status`` says whether it reached
    ``tol``. Memory beyond the model: the rows of one policy (about 1/A of the model), at most 24 vectors [S] where GMRES
    is needed, 4 where not.

    Args:
        model: discounted, without horizon, ``P`` as CSR.
        tol: wanted accuracy, >= 0, in units of the value.
        kernels: "numba" (extra ``fast``), "scipy" (slower, more memory), or "auto": numba where installed.
        threads: of a sweep, >= 1.
        max_sweeps: full sweeps before giving up, >= 1.

    Raises:
        DiscountError: a horizon, or rows that leave no contraction. SettingError: a bad number, dense transitions.
        UnknownNameError: unknown kernels. MissingExtraError: ``kernels="numba"`` without numba.

    References: [macqueen1966], [puterman2005, Thm. 6.6.3 and sec. 6.5], [saad2003] Iterative Methods for Sparse Linear
    Systems, SIAM, [gargiani2024].

    Example:
        >>> from polytheory.models import make
        >>> solution = solve_sparse(make("ring", S=1000, gamma=0.99))
        >>> solution.status, bool(solution.bound <= 1e-6)
        ('certified', True)
    """
    check_settings(tol)
    for name, value in (("threads", threads), ("max_sweeps", max_sweeps)):
        if int(value) != value or value < 1:
            raise SettingError(f"{name} = {value}; it must be a whole number >= 1")
    if model.horizon is not None:
        raise DiscountError(
            f"solve_sparse takes discounted problems without end; {model.name} has horizon = {model.horizon}: "
            "use BackwardInduction, or make the model with horizon=None and gamma < 1"
        )
    if not model.is_sparse:
        raise SettingError(f"solve_sparse needs CSR transitions; {model.name} is dense: use ModifiedPolicyIteration")
    with Sweeps(model, kernels_of(kernels), threads) as sweeps:
        search = Search(sweeps, tol, max_sweeps)
        search.run()
        found = search.v, search.actions, search.bound, search.rounding, search.status
        return SparseSolution(*found, sweeps.full, sweeps.policy, sweeps.krylov, model.A)


def kernels_of(name: str) -> Any:
    """The module with the inner loops: compiled, or plain SciPy."""
    if name not in KERNELS:
        raise UnknownNameError("kernels", name, KERNELS)
    if name != "scipy":
        try:
            from polytheory.scaled.planning import _sparse_kernels as compiled

            return compiled
        except MissingExtraError:
            if name == "numba":
                raise
    from polytheory.scaled.planning import _sparse_plain as plain

    return plain
