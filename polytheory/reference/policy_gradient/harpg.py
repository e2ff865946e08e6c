"""HARPG and N-HARPG: Hessian-aided recursive policy gradient, plain and normalised [fatkhullin2023, Algorithm 2].

Setting: discounted MDP, policies with bounded scores and Hessians of log pi, Fisher matrix at least mu_F.

Update (ascent; ``d_0 = g(tau_0, theta_0)``; then, with ``q ~ U[0, 1]`` and independent trajectories)::

    theta^_t = q theta_t + (1 - q) theta_{t-1}
    v_t = B(tau^_t, theta^_t) (theta_t - theta_{t-1}),       tau^_t ~ p(.; theta^_t)
    d_t = (1 - eta_t) (d_{t-1} + v_t) + eta_t g(tau_t, theta_t),   tau_t ~ p(.; theta_t)
    theta_{t+1} = theta_t + gamma_t d_t             (HARPG)
    theta_{t+1} = theta_t + gamma_t d_t / |d_t|     (N-HARPG)

Guarantee: with ``eta_t = x_t = 2 / (t + 2)`` and ``gamma_t = 6 M_g / (mu_F (t + 2))`` (N-HARPG) or
``gamma_0 sqrt(eta_t)``, ``gamma_0 <= c / (L + sigma_H)`` (HARPG),
``E[J* - J(theta_T)] <= sqrt(eps_bias) / (1 - gamma) + O~(T^{-1/2})``, at most two trajectories an iteration.

References: [fatkhullin2023] Fatkhullin, Barakat, Kireeva and He, Stochastic Policy Gradient Methods: Improved Sample
Complexity for Fisher-non-degenerate Policies, ICML 2023. [shen2019] Shen, Ribeiro, Hassani, Qian and Mi, Hessian Aided
Policy Gradient, ICML 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.reference.policy_gradient.base import Direction, PolicyGradient
from polytheory.reference.policy_gradient.base import PgState as PgState
from polytheory.reference.policy_gradient.differences import hessian_aided_difference as hessian_aided_difference
from polytheory.reference.policy_gradient.estimators import hvp_estimate as hvp_estimate
from polytheory.reference.policy_gradient.estimators import importance_ratio as importance_ratio
from polytheory.reference.policy_gradient.softmax import LinearSoftmax as LinearSoftmax
from polytheory.reference.policy_gradient.softmax import TabularSoftmax as TabularSoftmax
from polytheory.reference.policy_gradient.steps import interpolate as interpolate
from polytheory.reference.policy_gradient.steps import recursive_momentum as recursive_momentum


@dataclass(frozen=True, eq=False)
class Harpg(PolicyGradient):
    """HARPG; fields as in `PolicyGradient`. An iteration takes ``2 batch`` trajectories after the first."""

    name: ClassVar[str] = "harpg"
    normalised: ClassVar[bool] = False
    step_exponent: ClassVar[float] = 1 / 2
    momentum_exponent: ClassVar[float] = 1.0

    def direction(self, state: PgState, access: Any, eta: float) -> Direction:
        """Carry the old direction to the new parameters by a Hessian-vector product, then average."""
        traj = self.sample(state.theta, state, access, "tau")
        g = self.gradients(state.theta, traj, access).mean(axis=0)
        if state.t == 0:
            return g, g, traj
        v, _ = hessian_aided_difference(self, state, access)
        return recursive_momentum(state.d, v, g, eta), g, traj


@dataclass(frozen=True, eq=False)
class NHarpg(Harpg):
    """N-HARPG: the same direction, normalised steps; draws the same random numbers as `Harpg`."""

    normalised: ClassVar[bool] = True
    step_exponent: ClassVar[float] = 1.0
