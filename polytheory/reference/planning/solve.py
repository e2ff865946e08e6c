"""Solve a model in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._show import compact
from polytheory._typing import Float
from polytheory.access import KnownModel
from polytheory.errors import NotSolvedError, UnknownNameError
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.backward_induction import BackwardInduction
from polytheory.reference.planning.inexact_policy_iteration import InexactPolicyIteration
from polytheory.reference.planning.linear_program import LinearProgram
from polytheory.reference.planning.modified_policy_iteration import ModifiedPolicyIteration
from polytheory.reference.planning.policy_iteration import PolicyIteration
from polytheory.reference.planning.value_iteration import ValueIteration

METHODS: dict[str, Any] = {
    "value-iteration": ValueIteration,
    "modified-policy-iteration": ModifiedPolicyIteration,
    "policy-iteration": PolicyIteration,
    "inexact-policy-iteration": InexactPolicyIteration,
    "linear-program": LinearProgram,
    "backward-induction": BackwardInduction,
}
DIRECT_STATES = 300  # up to here one LU of S^3 costs less than the sweeps it saves


@dataclass(frozen=True, eq=False)
class Solution:
    """An optimal value and policy with their certificate.

    Fields:
        v: [S], or [H+1, S] with a horizon.
        policy: loses at most ``2 * bound`` in every state.
        bound: certified ``max |v - V*|``, rounding included.
        status: "certified" when ``bound <= tol``, else "limited by rounding": float64 cannot do better.
        sweeps: full Bellman sweeps (stages with a horizon).
    """

    v: Float[np.ndarray, "*H S"]
    policy: TabularPolicy
    bound: float
    status: str
    sweeps: int

    __repr__ = compact


def solve(model: TabularMDP, *, method: str = "auto", tol: float = 1e-6) -> Solution:
    """Solve a finite MDP to a certified ``max |v - V*| <= tol``.

    Args:
        model: with a horizon, or discounted.
        method: one of `METHODS`; "auto" takes backward induction for a horizon, policy iteration for small dense models
            and modified policy iteration otherwise.
        tol: wanted accuracy, >= 0, in units of the value.

    Raises:
        UnknownNameError: unknown method. SettingError: bad tol. DiscountError: the method does not fit the horizon.

    Example:
        >>> from polytheory.models import TabularMDP
        >>> two_state = TabularMDP(
        ...     P=[[[1, 0], [0, 1]], [[0, 1], [1, 0]]], r=[[1, 0], [2, 0]], mu=[0.5, 0.5], gamma=0.5
        ... )
        >>> solution = solve(two_state)
        >>> solution.v.round(6).tolist(), solution.policy.table.argmax(axis=1).tolist(), solution.status
        ([2.0, 4.0], [0, 0], 'certified')
    """
    if method == "auto":
        small = not model.is_sparse and model.S <= DIRECT_STATES
        method = "policy-iteration" if small else "modified-policy-iteration"
        method = method if model.horizon is None else "backward-induction"
    if method not in METHODS:
        raise UnknownNameError("planning method", method, [*METHODS, "auto"])
    algorithm = METHODS[method](tol=tol)
    access = KnownModel(model)
    state = algorithm.init(access, 0)
    status = "certified"
    try:
        while not state.sweeps or not algorithm.done(state):
            state, _ = algorithm.step(state, access)
    except NotSolvedError:
        status = "limited by rounding"
    return Solution(state.v, algorithm.policy(state), state.bound, status, state.sweeps)
