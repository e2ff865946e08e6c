"""Exact planning in linear robust MDPs whose policies pay for leaving a reference policy.

Setting: `LinearMDP` with features and factors on the simplex, horizon H; nature chooses every factor of every stage on its own
(d-rectangular), in a ball or at a price. Values of a policy: rewards less ``eta KL(pi(.|s) || reference(.|s))`` at every state
visited, under the worst factors.

Key equations: ``Q_h = r_h + phi . nu_h``, ``nu_{h,i}`` the worst mean of ``V_{h+1}`` under factor i, and
``V_h = E_pi Q_h - eta KL(pi || reference)``, at best ``eta log E_reference exp(Q_h / eta)``, by
``pi ~ reference exp(Q_h / eta)``.

Guarantee: what is paid depends on the policy and the state alone, so that nature's problem stays one problem per factor, and
the recursion is exact: no policy has a larger worst-case value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from polytheory._typing import Float
from polytheory.errors import UnknownNameError
from polytheory.models.ambiguity import SUPPORTS
from polytheory.models.factor_ambiguity import ball_of, check_eta, check_factors, radii_of, reference_of
from polytheory.models.linear import LinearMDP
from polytheory.reference.robust.bellman import worst_case

Table = Float[np.ndarray, "H S A"]


class RegularisedPlan(NamedTuple):
    """Fields: ``q`` [H, S, A]; ``v`` [H+1, S], zeros at the end; ``policy`` [H, S, A]; ``nu`` [H, d] worst means of the
    factors; ``factors`` [H, d, S] the laws that attain them."""

    q: Table
    v: Float[np.ndarray, "H1 S"]
    policy: Table
    nu: Float[np.ndarray, "H d"]
    factors: Float[np.ndarray, "H d S"]


def soft_value(q: Float[np.ndarray, "*k A"], log_ref: Float[np.ndarray, "*k A"], eta: float) -> Float[np.ndarray, "*k"]:
    """``max_pi E_pi q - eta KL(pi || ref) = eta log E_ref exp(q / eta)``; eta = 0 is the maximum of q."""
    if eta == 0:
        return q.max(-1)
    x = log_ref + q / eta
    top = x.max(-1)
    return eta * (top + np.log(np.exp(x - top[..., None]).sum(-1)))


def soft_policy(q: Float[np.ndarray, "*k A"], log_ref: Float[np.ndarray, "*k A"], eta: float):
    """The policy that attains `soft_value`; the first of the best actions for eta = 0."""
    if eta == 0:
        return np.eye(q.shape[-1])[q.argmax(-1)]
    x = log_ref + q / eta
    weight = np.exp(x - x.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def plan(
    model: LinearMDP, kind: str, radius: Float[np.ndarray, "*H d"] | float, *, eta: float = 0.0,
    reference: Table | None = None, support: str = "full",
) -> RegularisedPlan:  # fmt: skip
    """The best policy against the worst factors, exactly.

    Args:
        kind: one of `factor_ambiguity.KINDS`. radius: one, [d] or [H, d]; the price for the penalised kinds, infinite for none.
        eta: price of the relative entropy to ``reference`` [H, S, A] (None: uniform), >= 0.
        support: whether total variation reaches all states ("full") or only successors ("nominal").

    Raises `SettingError`, `ShapeError`, `UnknownNameError`, `NotStochasticError`.
    """
    return _backward(model, kind, radius, eta, reference, support, None)


def worst_value(
    model: LinearMDP, policy: Table, kind: str, radius: Float[np.ndarray, "*H d"] | float, *, eta: float = 0.0,
    reference: Table | None = None, support: str = "full",
) -> RegularisedPlan:  # fmt: skip
    """The values of a given policy under the factors that are worst for it; arguments as in `plan`."""
    return _backward(model, kind, radius, eta, reference, support, policy)


def suboptimality(model: LinearMDP, policy: Table, best: RegularisedPlan, kind: str, radius, **options) -> float:
    """``V*_1 - V^pi_1`` of the start distribution, given the ``best`` plan for the same problem; options as in `plan`."""
    own = worst_value(model, policy, kind, radius, **options)
    return float(model.mu @ (best.v[0] - own.v[0]))


def _backward(model, kind, radius, eta, reference, support, policy) -> RegularisedPlan:
    check_eta(eta)
    H, (S, A, d) = check_factors(model), model.phi.shape
    radius = radii_of(kind, radius, H, d)
    log_ref = np.log(reference_of(reference, H, S, A))
    if support not in SUPPORTS:
        raise UnknownNameError("support", support, SUPPORTS)
    measures, theta = (np.broadcast_to(x, (H, *shape)) for x, shape in ((model.measures, (d, S)), (model.theta, (d,))))
    q, v, pi = np.zeros((H, S, A)), np.zeros((H + 1, S)), np.zeros((H, S, A))
    nu, factors = np.zeros((H, d)), np.array(measures)
    for h in reversed(range(H)):
        for size in np.unique(radius[h]):  # factors of one radius go together
            own = radius[h] == size
            ball = ball_of(kind, float(size), support)
            p = measures[h, own]
            if ball is None:
                nu[h, own] = p @ v[h + 1]
            else:
                worst = worst_case(ball, np.broadcast_to(v[h + 1], p.shape), p)
                nu[h, own], factors[h, own] = worst.value, worst.law
        q[h] = model.phi @ (theta[h] + nu[h])
        if policy is None:
            pi[h], v[h] = soft_policy(q[h], log_ref[h], eta), soft_value(q[h], log_ref[h], eta)
        else:
            pi[h] = policy[h]
            v[h] = (pi[h] * q[h]).sum(-1) - eta * relative_entropy(pi[h], log_ref[h])
    return RegularisedPlan(q, v, pi, nu, factors)


def relative_entropy(pi: Float[np.ndarray, "*k A"], log_ref: Float[np.ndarray, "*k A"]) -> Float[np.ndarray, "*k"]:
    """``KL(pi || ref)`` over the last axis."""
    return (pi * (np.log(np.where(pi > 0, pi, 1.0)) - log_ref)).sum(-1)
