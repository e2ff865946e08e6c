"""The robust value of a given policy, with nature's kernel that attains it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.models.ambiguity import Ambiguity, ambiguity
from polytheory.models.tabular import TabularMDP
from polytheory.policies import Policy
from polytheory.reference.planning.certificate import certified, check_discounted, check_settings
from polytheory.reference.planning.evaluation import policy_table
from polytheory.reference.robust.bellman import Sweep, robust_policy_sweep
from polytheory.reference.robust.certificate import certify, inner_rounding

ROUNDS = 10_000


@dataclass(frozen=True, eq=False)
class RobustEvaluation:
    """Robust value of a policy.

    Fields: ``v`` [S], or [H+1, S] with a horizon; ``kernel`` [S, A, S] (or [H, S, A, S]) nature's choice, one fixed
    kernel that is worst from every state at once; ``bound`` certified ``max |v - V^pi|``.
    """

    v: Float[np.ndarray, "*H1 S"]
    kernel: Float[np.ndarray, "*H S A S"]
    bound: float


def robust_evaluate(model: TabularMDP, policy: Policy, ball: Ambiguity | str, *, tol: float = 1e-6) -> RobustEvaluation:
    """The smallest value that a policy can get from nature.

    Guarantee: for stationary policies and rectangular sets nature gains nothing from changing the kernel over time
    [iyengar2005; nilim2005; wiesemann2013]: the value of the policy under ``kernel`` is ``v``.

    Raises `PolicyError`, `SettingError`, `NotSolvedError` when float64 cannot certify ``tol``.
    """
    check_settings(tol)
    ball, table = ambiguity(ball), policy_table(model, policy)
    if model.horizon is not None:
        return _by_stages(ball, model, table)
    check_discounted(model, "robust_evaluate")
    v, _ = nature_iteration(ball, model, table, np.zeros(model.S), tol * (1 - model.gamma) / 4)
    bound = rounding = np.inf
    while True:
        sweep = robust_policy_sweep(ball, model, table, v)
        v, bound, rounding = certify(v, sweep, model, stop="span")
        if certified(bound, rounding, tol):
            return RobustEvaluation(v, sweep.kernel, bound)


def nature_iteration(
    ball: Ambiguity, model: TabularMDP, pi: Float[np.ndarray, "S A"], v: Float[np.ndarray, " S"], tolerance: float
) -> tuple[Float[np.ndarray, " S"], int]:
    """Nature's policy iteration: take the worst kernel at v, solve for the policy's value under it, until ``|L_pi v -
    v|`` is at most ``tolerance`` (or what rounding allows). Returns the value and the number of sweeps.

    The values fall monotonically from the second on; with finitely many extreme laws it ends after finitely many rounds.
    It starts with a sweep, so that a good v is not thrown away.
    """
    for i in range(1, ROUNDS):
        sweep = robust_policy_sweep(ball, model, pi, v)
        floor = 4 * (sweep.gap + inner_rounding(model, v, sweep.v)) / (1 - model.gamma)
        if np.max(np.abs(sweep.v - v)) <= max(tolerance, floor):
            return sweep.v, i
        v = value_under(model, pi, sweep, v)
    return v, ROUNDS


def value_under(
    model: TabularMDP, pi: Float[np.ndarray, "S A"], sweep: Sweep, v: Float[np.ndarray, " S"]
) -> Float[np.ndarray, " S"]:
    """The policy's value under the kernel of ``sweep = L_pi v``.

    What the sweep adds to ``gamma P v`` is paid at once, rewards and penalties alike, so that it need not be taken apart.
    """
    P = np.einsum("sa,sat->st", pi, sweep.kernel)
    paid = sweep.v - model.gamma * (P @ v)
    return np.linalg.solve(np.eye(model.S) - model.gamma * P, paid)


def _by_stages(ball: Ambiguity, model: TabularMDP, table: Float[np.ndarray, "*H S A"]) -> RobustEvaluation:
    H = int(model.horizon or 0)
    v, kernel, error = np.zeros((H + 1, model.S)), [], 0.0
    for h in reversed(range(H)):
        sweep = robust_policy_sweep(ball, model, table[h] if table.ndim == 3 else table, v[h + 1], h)
        v[h] = sweep.v
        kernel.insert(0, sweep.kernel)
        error = sweep.gap + inner_rounding(model, v[h], v[h + 1]) + model.gamma * error
    return RobustEvaluation(v, np.array(kernel), error)
