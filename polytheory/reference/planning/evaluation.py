"""The value of a given policy: exact, iterative or by stages; its return and its state-action occupancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Array, Float
from polytheory.errors import PolicyError, UnknownNameError
from polytheory.models.tabular import TabularMDP
from polytheory.policies import Memoryless, Policy, TabularPolicy
from polytheory.reference.planning.bellman import UNIT, policy_backup
from polytheory.reference.planning.certificate import Facts, certified, certify, check_settings, facts, stage_error

METHODS = ("direct", "iterative")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Value of a policy.

    Fields: ``v`` [S], or [H+1, S] with a horizon; ``bound`` certified ``max |v - V^pi|``; ``sweeps`` of the policy's
    Bellman operator.
    """

    v: Float[np.ndarray, "*H S"]
    bound: float
    sweeps: int


def evaluate(model: TabularMDP, policy: Policy, *, method: str = "direct", tol: float = 1e-6) -> Evaluation:
    """Value of a policy, with a certified error.

    A model with a horizon is evaluated backward by stages, ``v_h = T_pi_h v_{h+1}``. Without one, ``"direct"`` solves
    ``(I - gamma P_pi) v = r_pi`` (LU, sparse when the model is) and ``"iterative"`` applies ``T_pi`` until MacQueen's
    bounds certify ``tol`` [puterman2005, Thm. 6.1.1 and 6.6.3]: a policy is an MDP with one action.

    Raises:
        PolicyError: the table does not fit the model. UnknownNameError: unknown method.
        NotSolvedError: ``tol`` is below what float64 can certify (iterative).
    """
    check_settings(tol)
    if method not in METHODS:
        raise UnknownNameError("evaluation method", method, METHODS)
    table = policy_table(model, policy)
    known = _facts_under(model, table)
    if model.horizon is not None:
        return _by_stages(model, table, known)
    P, r, gamma = model.P_at(), model.r_at(), model.gamma
    v = solve_linear(*policy_chain(P, r, table), gamma=gamma) if method == "direct" else np.zeros(model.S)
    sweeps, bound, rounding = 0, np.inf, 0.0
    while not sweeps or (method == "iterative" and not certified(bound, rounding, tol)):
        raw = policy_backup(P, r, table, v, gamma=gamma)
        v, bound, rounding = certify(v, raw, known, gamma=gamma, stop="span")
        sweeps += 1
    return Evaluation(v, bound, sweeps)


def _by_stages(model: TabularMDP, table: np.ndarray, known: Facts) -> Evaluation:
    H = int(model.horizon or 0)
    v, error = np.zeros((H + 1, model.S)), np.zeros(H + 1)
    for h in reversed(range(H)):
        pi = table[h] if table.ndim == 3 else table
        v[h] = policy_backup(model.P_at(h), model.r_at(h), pi, v[h + 1], gamma=model.gamma)
        error[h] = stage_error(error[h + 1], float(np.max(np.abs(v[h + 1]))), known, gamma=model.gamma)
    return Evaluation(v, float(np.max(error)), H)


def _facts_under(model: TabularMDP, table: np.ndarray) -> Facts:
    # averaging over A actions lengthens every dot product by A products and sums, and mixes two row gaps
    known, A = facts(model), table.shape[-1]
    gap = float(np.max(np.abs(table.sum(axis=-1) - 1))) + A * UNIT
    return Facts(known.terms + A + 1, known.row_gap + gap + known.row_gap * gap, known.reward * (1 + gap))


def policy_table(model: TabularMDP, policy: Policy) -> Float[np.ndarray, "*H S A"]:
    """Action probabilities of a policy, checked against the model: ``[S, A]``, or ``[H, S, A]`` with a horizon.

    Raises `PolicyError` when the shape does not fit, or a staged policy meets a model without horizon.
    """
    if not isinstance(policy, Memoryless):
        raise PolicyError(
            f"{type(policy).__name__} has memory; exact evaluation by states needs a policy that looks only at (h, s)"
        )
    if isinstance(policy, TabularPolicy):
        table = policy.table
    else:  # another kind is asked in every state, and where there are stages at each of them: it may look at the stage
        stages = [policy.probs(None, h, np.arange(model.S)) for h in range(model.horizon or 1)]
        table = np.stack(stages) if model.horizon is not None else stages[0]
    shape = table.shape
    allowed = [(model.S, model.A)] + ([(model.horizon, model.S, model.A)] if model.horizon is not None else [])
    if shape not in allowed:
        names = " or ".join(str(list(x)) for x in allowed)
        raise PolicyError(f"policy table has shape {list(shape)}; {model.name} needs {names}")
    return table


def policy_chain(
    P: Array, r: Float[np.ndarray, "S A"], pi: Float[np.ndarray, "S A"]
) -> tuple[Array, Float[np.ndarray, " S"]]:
    """Transitions ``[S, S]`` (CSR when ``P`` is) and rewards ``[S]`` of a randomised policy."""
    S, A = r.shape
    if isinstance(P, np.ndarray):
        return np.einsum("sa,sat->st", pi, P), np.sum(pi * r, axis=1)
    average = sp.csr_matrix((pi.ravel(), np.arange(S * A), np.arange(0, S * A + 1, A)), shape=(S, S * A))
    return average @ P, np.sum(pi * r, axis=1)


def solve_linear(
    P_pi: Array, b: Float[np.ndarray, " S"], *, gamma: float, transpose: bool = False
) -> Float[np.ndarray, " S"]:
    """Solve ``(I - gamma P_pi) x = b`` (or with the transpose) by LU, sparse when ``P_pi [S, S]`` is."""
    M: Any = P_pi.T if transpose else P_pi
    if isinstance(M, np.ndarray):
        return np.linalg.solve(np.eye(b.size) - gamma * M, b)
    from scipy.sparse.linalg import splu

    return splu(sp.csc_matrix(sp.identity(b.size) - gamma * M)).solve(b)


def discounted_occupancy(model: TabularMDP, policy: Policy) -> Float[np.ndarray, "*H S A"]:
    """Discounted expected visits from the start distribution.

    Returns:
        ``[S, A]``: ``x(s, a) = sum_t gamma^t Pr(s_t = s, a_t = a)``, which sums to ``1 / (1 - gamma)``; with a horizon
        ``[H, S, A]``, stage h weighted by ``gamma^h`` [puterman2005, sec. 6.9].
    """
    table = policy_table(model, policy)
    if model.horizon is None:
        P_pi, _ = policy_chain(model.P_at(), model.r_at(), table)
        return solve_linear(P_pi, model.mu, gamma=model.gamma, transpose=True)[:, None] * table
    x, d = np.zeros((model.horizon, model.S, model.A)), model.mu
    for h in range(model.horizon):
        pi = table[h] if table.ndim == 3 else table
        x[h] = d[:, None] * pi
        P_pi, _ = policy_chain(model.P_at(h), model.r_at(h), pi)
        d = model.gamma * (P_pi.T @ d)
    return x


def return_of(model: TabularMDP, policy: Policy) -> float:
    """Expected discounted return from the start distribution: ``J = mu . V^pi``, by exact evaluation."""
    v = evaluate(model, policy).v
    return float(model.mu @ (v if model.horizon is None else v[0]))
