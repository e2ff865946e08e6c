"""How hard an MDP is to learn or to plan in, as numbers."""

from __future__ import annotations

import math

import numpy as np

from polytheory._typing import Float
from polytheory.errors import DiscountError, ModelError
from polytheory.models.tabular import TabularMDP


def gaps(q_star: Float[np.ndarray, "*H S A"]) -> Float[np.ndarray, "*H S A"]:
    """Suboptimality gaps ``V*(s) - Q*(s, a) >= 0``."""
    return q_star.max(axis=-1, keepdims=True) - q_star


def minimum_gap(q_star: Float[np.ndarray, "*H S A"], *, tie_tol: float = 1e-9) -> float:
    """Smallest gap above ``tie_tol``; inf when every action is optimal everywhere [simchowitz2019]."""
    g = gaps(q_star)
    return float(np.min(g[g > tie_tol], initial=np.inf))


def sum_reciprocal_gaps(q_star: Float[np.ndarray, "*H S A"], *, tie_tol: float = 1e-9) -> float:
    """Sum of 1/gap over the suboptimal (stage,) state-action pairs, the instance-dependent regret constant."""
    g = gaps(q_star)
    return float(np.sum(1.0 / g[g > tie_tol]))


def effective_horizon(mdp: TabularMDP | float, *, eps: float = 0.01) -> int:
    """Least H with ``gamma^H <= eps (1 - gamma)``: all rewards from step H on together are worth at most ``eps`` times the
    largest absolute one, ``gamma^H / (1 - gamma) <= eps``.

    Takes a model, whose horizon is an upper bound where it has one, or a discount. Raises `DiscountError` unless gamma lies
    in [0, 1) or the model has a horizon.
    """
    if isinstance(mdp, TabularMDP):
        if mdp.horizon is not None:
            return mdp.horizon if mdp.gamma == 1 else min(mdp.horizon, effective_horizon(mdp.gamma, eps=eps))
        return effective_horizon(mdp.gamma, eps=eps)
    gamma = mdp
    if not 0 <= gamma < 1:
        raise DiscountError(f"gamma = {gamma}; the effective horizon needs gamma in [0, 1)")
    target = eps * (1 - gamma)
    if gamma == 0 or target >= 1:
        return 1 if target < 1 else 0
    return max(math.ceil(math.log(target) / math.log(gamma) - 1e-12), 0)


def stationary_distribution(mdp: TabularMDP, policy: Float[np.ndarray, "S A"]) -> Float[np.ndarray, " S"]:
    """The stationary law of the policy's chain. Raises `ModelError` when it is not unique."""
    K = _chain(mdp, policy)
    system = np.vstack([K.T - np.eye(mdp.S), np.ones((1, mdp.S))])
    if np.linalg.matrix_rank(system[:-1], tol=1e-10) < mdp.S - 1:
        raise ModelError("the chain of this policy has more than one recurrent class: its stationary law is not unique")
    law = np.linalg.lstsq(system, np.eye(mdp.S + 1)[-1], rcond=None)[0]
    return np.maximum(law, 0) / np.maximum(law, 0).sum()


def mixing_time(mdp: TabularMDP, policy: Float[np.ndarray, "S A"], *, eps: float = 0.25, limit: int = 10**9) -> float:
    """Least t with ``max_s TV(K^t(s, .), stationary) <= eps`` for the policy's chain K [levin2017, sec. 4.5].

    Found by doubling and bisection on powers of K; inf when it exceeds ``limit`` (a periodic chain never mixes).
    """
    law, K = stationary_distribution(mdp, policy), _chain(mdp, policy)

    def far(M: np.ndarray) -> bool:
        return bool((0.5 * np.abs(M - law).sum(axis=1)).max() > eps)

    if not far(np.eye(mdp.S)):
        return 0.0
    powers = [K]
    while far(powers[-1]):
        if 2 ** len(powers) > limit:
            return math.inf
        powers.append(powers[-1] @ powers[-1])
    # the distance is non-increasing in t: build the largest t that is still far, bit by bit
    t, M = 0, np.eye(mdp.S)
    for k in reversed(range(len(powers))):
        if far(M @ powers[k]):
            t, M = t + 2**k, M @ powers[k]
    return float(t + 1)


def _chain(mdp: TabularMDP, policy: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S S"]:
    if mdp.is_staged:
        raise ModelError("mixing needs transitions that do not depend on the stage; this model's do")
    P = mdp.P_at()
    dense = np.asarray(P.toarray() if mdp.is_sparse else P).reshape(mdp.S, mdp.A, mdp.S)
    return np.einsum("sa,sax->sx", policy, dense)
