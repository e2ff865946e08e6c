"""N-PG-IGT: normalised policy gradient with implicit gradient transport [fatkhullin2023, Algorithm 1].

Setting: discounted MDP, policies with bounded scores and a Lipschitz Hessian of log pi, Fisher matrix at least mu_F.

Update (ascent, ``theta_{-1} = theta_0``)::

    theta~_t = theta_t + (1 - eta_t) / eta_t (theta_t - theta_{t-1})
    d_t = (1 - eta_t) d_{t-1} + eta_t g(tau~_t, theta~_t),   tau~_t ~ p(.; theta~_t)     (d_0 = g)
    theta_{t+1} = theta_t + gamma_t d_t / |d_t|

Guarantee: with ``gamma_t = 6 M_g / (mu_F (t + 2))`` and ``eta_t = x_t^{4/5}``, ``x_t = 2 / (t + 2)``,
``E[J* - J(theta_T)] <= sqrt(eps_bias) / (1 - gamma) + O~(T^{-2/5})``, one trajectory an iteration, no importance
sampling and no second derivatives.

References: [fatkhullin2023] Fatkhullin, Barakat, Kireeva and He, Stochastic Policy Gradient Methods: Improved Sample
Complexity for Fisher-non-degenerate Policies, ICML 2023. [cutkosky2020] Cutkosky and Mehta, Momentum Improves
Normalized SGD, ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.reference.policy_gradient.base import Direction, PolicyGradient
from polytheory.reference.policy_gradient.base import PgState as PgState
from polytheory.reference.policy_gradient.estimators import importance_ratio as importance_ratio
from polytheory.reference.policy_gradient.estimators import pg_estimate as pg_estimate
from polytheory.reference.policy_gradient.softmax import LinearSoftmax as LinearSoftmax
from polytheory.reference.policy_gradient.softmax import TabularSoftmax as TabularSoftmax
from polytheory.reference.policy_gradient.steps import lookahead as lookahead
from polytheory.reference.policy_gradient.steps import momentum as momentum


@dataclass(frozen=True, eq=False)
class NPgIgt(PolicyGradient):
    """The method of this module; fields as in `PolicyGradient`."""

    name: ClassVar[str] = "n-pg-igt"
    momentum_exponent: ClassVar[float] = 4 / 5

    def direction(self, state: PgState, access: Any, eta: float) -> Direction:
        """Sample at the look-ahead, take the scores there, average."""
        ahead = lookahead(state.theta, state.theta_prev, eta)
        traj = self.sample(ahead, state, access, "tau")
        g = self.gradients(ahead, traj, access).mean(axis=0)
        return (g if state.t == 0 else momentum(state.d, g, eta)), g, traj
