"""Exact quantities of a parametric policy on a known tabular model: what sampling can only estimate.

``J = E[sum_t gamma^t r_t]`` without end by linear solves, or over the first ``truncation`` steps by stages (``J_H``).
Policies are `softmax.SoftmaxTable`; models are stationary and discounted, or cut by ``truncation``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float, Shaped
from polytheory.errors import NotSolvedError, SettingError
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.reference.policy_gradient.softmax import SoftmaxTable
from polytheory.reference.policy_gradient.theory import domination_bound
from polytheory.trajectories import Trajectories, discounts

MAX_TRAJECTORIES = 1_000_000


@dataclass(frozen=True, eq=False)
class Derivatives:
    """``J``, its gradient [d] and Hessian [d, d] in theta."""

    J: float
    gradient: Float[np.ndarray, " d"]
    hessian: Float[np.ndarray, "d d"]


def objective(model: TabularMDP, policy: SoftmaxTable, *, truncation: int | None = None) -> float:
    """``J``, or ``J_H`` over the first ``truncation`` steps."""
    P_pi, r_pi = _chain(model, policy.table())
    if truncation is None:
        return float(model.mu @ np.linalg.solve(np.eye(model.S) - _discount(model) * P_pi, r_pi))
    v = np.zeros(model.S)
    for _ in range(truncation):
        v = r_pi + model.gamma * P_pi @ v
    return float(model.mu @ v)


def derivatives(model: TabularMDP, policy: SoftmaxTable, *, truncation: int | None = None) -> Derivatives:
    """J, gradient and Hessian by the policy gradient theorem and its second-order form.

    With visits x, scores z and action values Q, ``grad J = sum x pi z Q`` and
    ``hess J = sum x pi (Q z z^T + Q hess log pi + z (grad Q)^T + (grad Q) z^T)`` [sutton1999; furmston2016, Thm. 3].
    """
    pi, z, curvature = policy.table(), policy.scores(), policy.curvatures()
    P = _dense(model)
    d = z.shape[2]
    if truncation is None:
        P_pi, r_pi = _chain(model, pi)
        M = np.eye(model.S) - _discount(model) * P_pi
        v = np.linalg.solve(M, r_pi)
        q = model.r_at() + model.gamma * P @ v
        dv = np.linalg.solve(M, np.einsum("sa,sad,sa->sd", pi, z, q))
        x = np.linalg.solve(M.T, model.mu)
        return _assembled(float(model.mu @ v), x, pi, z, curvature, q, model.gamma * P @ dv)
    stages, v, dv = [], np.zeros(model.S), np.zeros((model.S, d))
    for _ in range(truncation):
        q, dq = model.r_at() + model.gamma * P @ v, model.gamma * P @ dv
        v, dv = np.sum(pi * q, axis=1), np.einsum("sa,sad->sd", pi, z * q[..., None] + dq)
        stages.append((q, dq))
    P_pi, x, total = np.einsum("sa,sat->st", pi, P), model.mu, Derivatives(0.0, np.zeros(d), np.zeros((d, d)))
    for q, dq in reversed(stages):
        part = _assembled(0.0, x, pi, z, curvature, q, dq)
        total = Derivatives(0.0, total.gradient + part.gradient, total.hessian + part.hessian)
        x = model.gamma * P_pi.T @ x
    return Derivatives(float(model.mu @ v), total.gradient, total.hessian)


def policy_gradient(
    x: Shaped[np.ndarray, " S"],
    pi: Shaped[np.ndarray, "S A"],
    z: Shaped[np.ndarray, "S A d"],
    q: Shaped[np.ndarray, "S A"],
) -> Shaped[np.ndarray, " d"]:
    """The policy gradient theorem: ``sum_{s, a} x(s) pi(a | s) z(s, a) Q(s, a)`` with unnormalised visits x.

    Numbers or symbols [sutton1999, Thm. 1].
    """
    return ((x[:, None] * pi * q)[..., None] * z).sum(axis=(0, 1))


def _assembled(J, x, pi, z, curvature, q, dq) -> Derivatives:
    w = x[:, None] * pi
    cross = np.einsum("sa,sad,sae->de", w, z, dq)
    outer = np.einsum("sa,sad,sae->de", w * q, z, z) + np.einsum("sa,sde->de", w * q, curvature)
    return Derivatives(J, policy_gradient(x, pi, z, q), outer + cross + cross.T)


def discounted_visits(model: TabularMDP, policy: SoftmaxTable) -> Float[np.ndarray, " S"]:
    """``d(s) = (1 - gamma) sum_t gamma^t Pr(s_t = s)``, which sums to 1."""
    P_pi, _ = _chain(model, policy.table())
    gamma = _discount(model)
    return (1 - gamma) * np.linalg.solve(np.eye(model.S) - gamma * P_pi.T, model.mu)


def fisher(model: TabularMDP, policy: SoftmaxTable) -> Float[np.ndarray, "d d"]:
    """``F = E_{s ~ d, a ~ pi}[score score^T]``."""
    z, w = policy.scores(), discounted_visits(model, policy)[:, None] * policy.table()
    return np.einsum("sa,sad,sae->de", w, z, z)


def advantages(model: TabularMDP, policy: SoftmaxTable) -> Float[np.ndarray, "S A"]:
    """``A(s, a) = Q(s, a) - V(s)``."""
    P_pi, r_pi = _chain(model, policy.table())
    v = np.linalg.solve(np.eye(model.S) - _discount(model) * P_pi, r_pi)
    return model.r_at() + model.gamma * _dense(model) @ v - v[:, None]


def best_policy(model: TabularMDP) -> tuple[float, TabularPolicy]:
    """``J*`` over all policies and a policy that attains it, by policy iteration."""
    actions = np.zeros(model.S, dtype=int)
    for _ in range(model.A**model.S + 1):
        chosen = TabularPolicy.deterministic(actions, model.A)
        P_pi, r_pi = _chain(model, chosen.table)
        v = np.linalg.solve(np.eye(model.S) - _discount(model) * P_pi, r_pi)
        q = model.r_at() + model.gamma * _dense(model) @ v
        better = q.max(axis=1) > q[np.arange(model.S), actions] + 1e-12 * (1 + np.abs(v).max())
        if not better.any():
            return float(model.mu @ v), chosen
        actions = np.where(better, q.argmax(axis=1), actions)
    raise NotSolvedError("policy iteration cycled: rounding; use polytheory.reference.planning")


@dataclass(frozen=True, eq=False)
class Domination:
    """Relaxed weak gradient domination at one theta.

    Fields: ``gap`` ``J* - J``; ``bound`` the right-hand side; ``mu_F`` smallest eigenvalue of the Fisher matrix here;
    ``eps_bias`` error of the compatible weights ``w`` [d] under the optimal policy's visits; ``gradient_norm``.
    """

    gap: float
    bound: float
    mu_F: float
    eps_bias: float
    w: Float[np.ndarray, " d"]
    gradient_norm: float


def domination(model: TabularMDP, policy: SoftmaxTable, M_g: float, *, tol: float = 1e-9) -> Domination:
    """``J* - J(theta) <= (M_g / mu_F) |grad J| + sqrt(eps_bias) / (1 - gamma)`` at this theta, with local constants.

    ``w = F^{-1} grad J`` minimises ``E_{d, pi}[(A - (1 - gamma) w . score)^2]``; ``eps_bias`` is that error under the
    optimal policy's visits and actions.

    Raises `NotSolvedError` when ``mu_F <= tol``: the Fisher matrix is degenerate (a full tabular softmax always, any
    softmax near a deterministic policy) and the theorem says nothing.
    """
    F = fisher(model, policy)
    mu_F = float(np.linalg.eigvalsh(F)[0])
    if mu_F <= tol:
        raise NotSolvedError(
            f"the Fisher matrix is degenerate: smallest eigenvalue {mu_F:.3g} <= {tol:.3g}, so the global guarantee does "
            "not apply; use fewer parameters (one_logit_per_state) or stay away from deterministic policies"
        )
    now = derivatives(model, policy)
    w = np.linalg.solve(F, now.gradient)
    J_star, best = best_policy(model)
    P_star, _ = _chain(model, best.table)
    d_star = (1 - model.gamma) * np.linalg.solve(np.eye(model.S) - model.gamma * P_star.T, model.mu)
    residual = advantages(model, policy) - (1 - model.gamma) * policy.scores() @ w
    eps_bias = float(np.sum(d_star[:, None] * best.table * residual**2))
    norm = float(np.linalg.norm(now.gradient))
    bound = domination_bound(norm, M_g, mu_F, eps_bias, model.gamma)
    return Domination(J_star - now.J, bound, mu_F, eps_bias, w, norm)


def enumerate_trajectories(
    model: TabularMDP, policy: SoftmaxTable, truncation: int
) -> tuple[Float[np.ndarray, " n"], Trajectories]:
    """Every trajectory of positive probability, and the probabilities [n] (they sum to 1).

    Episodes stop at terminal states. Raises `SettingError` when there could be more than a million.
    """
    if (model.S * model.A) ** truncation > MAX_TRAJECTORIES or truncation < 1:
        raise SettingError(
            f"({model.S} * {model.A})^{truncation} trajectories are too many to enumerate; keep S, A and truncation small"
        )
    if model.reward_law is not None:
        raise SettingError("random rewards cannot be enumerated; put them into the state")
    table, pi, ends = _dense(model), policy.table(), np.asarray(model.terminal)
    r = model.r if isinstance(model.r, np.ndarray) and model.r.ndim == 3 else model.r_at()[:, :, None] + 0 * table
    rows = [(float(p), (s,), (), ()) for s, p in enumerate(model.mu) if p > 0]
    for _ in range(truncation):
        grown = []
        for p, states, actions, rewards in rows:
            s = states[-1]
            if ends[s]:
                grown.append((p, states, actions, rewards))
                continue
            for a, s2 in itertools.product(range(model.A), range(model.S)):
                if pi[s, a] * table[s, a, s2] > 0:
                    grown.append(
                        (p * pi[s, a] * table[s, a, s2], (*states, s2), (*actions, a), (*rewards, r[s, a, s2]))
                    )
        rows = grown
    return np.array([p for p, *_ in rows]), _as_trajectories(rows, truncation)


def _as_trajectories(rows: list, t_max: int) -> Trajectories:
    n = len(rows)
    states, actions = np.zeros((n, t_max), dtype=np.int64), np.zeros((n, t_max), dtype=np.int64)
    rewards, mask = np.zeros((n, t_max)), np.zeros((n, t_max), dtype=bool)
    for i, (_, s, a, r) in enumerate(rows):
        k = len(a)
        states[i, :k], actions[i, :k], rewards[i, :k], mask[i, :k] = s[:k], a, r, True
    return Trajectories(states, actions, rewards, mask, final_states=np.array([s[-1] for _, s, _, _ in rows]))


def expected_return(probabilities: Float[np.ndarray, " n"], traj: Trajectories, *, gamma: float) -> float:
    """Mean discounted return of enumerated trajectories."""
    return float(probabilities @ (np.where(traj.mask, traj.rewards, 0) @ discounts(gamma, traj.rewards.shape[1])))


def _dense(model: TabularMDP) -> Float[np.ndarray, "S A S"]:
    if model.is_staged:
        raise SettingError("exact derivatives need a stationary model; put the stage into the state")
    P = model.P_at()
    return P if isinstance(P, np.ndarray) else np.asarray(P.todense()).reshape(model.S, model.A, model.S)


def _chain(model: TabularMDP, pi: Float[np.ndarray, "S A"]) -> tuple[np.ndarray, np.ndarray]:
    return np.einsum("sa,sat->st", pi, _dense(model)), np.sum(pi * model.r_at(), axis=1)


def _discount(model: TabularMDP) -> float:
    if model.gamma >= 1 or model.horizon is not None:
        raise SettingError(
            f"gamma = {model.gamma}, horizon = {model.horizon}: pass truncation=..., or a discounted model"
        )
    return model.gamma
