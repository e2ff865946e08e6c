"""HARPG and N-HARPG in torch: Hessian-aided recursive policy gradient, for replicas and for networks.

Update and guarantee are those of the reference [fatkhullin2023, Algorithm 2]. For a network the Hessian-vector product
is exact and costs one forward-mode and one backward pass for the whole batch (see `means`).

References: [fatkhullin2023] Fatkhullin, Barakat, Kireeva and He, Stochastic Policy Gradient Methods: Improved Sample
Complexity for Fisher-non-degenerate Policies, ICML 2023. [shen2019] Shen, Ribeiro, Hassani, Qian and Mi, Hessian Aided
Policy Gradient, ICML 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.scaled.policy_gradient.base import Direction, PolicyGradient
from polytheory.scaled.policy_gradient.base import PgState as PgState
from polytheory.scaled.policy_gradient.differences import hessian_aided_difference as hessian_aided_difference
from polytheory.scaled.policy_gradient.estimators import hvp_estimate as hvp_estimate
from polytheory.scaled.policy_gradient.estimators import importance_ratio as importance_ratio
from polytheory.scaled.policy_gradient.softmax import LinearSoftmax as LinearSoftmax
from polytheory.scaled.policy_gradient.softmax import TabularSoftmax as TabularSoftmax
from polytheory.scaled.policy_gradient.steps import interpolate as interpolate
from polytheory.scaled.policy_gradient.steps import recursive_momentum as recursive_momentum
from polytheory.scaled.policy_gradient.torch_policy import TorchPolicy as TorchPolicy


@dataclass(frozen=True, eq=False)
class Harpg(PolicyGradient):
    """HARPG; fields as in `PolicyGradient`. An iteration takes ``2 batch`` trajectories after the first."""

    name: ClassVar[str] = "harpg"
    normalised: ClassVar[bool] = False
    step_exponent: ClassVar[float] = 1 / 2
    momentum_exponent: ClassVar[float] = 1.0

    def direction(self, state: PgState, access: Any, eta: Any) -> Direction:
        """Carry the old direction to the new parameters by a Hessian-vector product, then average."""
        traj = self.sample(state.theta, state, access, "tau")
        g = self.gradient(state.theta, traj, access)
        if state.t == 0:
            return g, g, traj
        v, _ = hessian_aided_difference(self, state, access)
        return recursive_momentum(state.d, v, g, eta), g, traj


@dataclass(frozen=True, eq=False)
class NHarpg(Harpg):
    """N-HARPG: the same direction, normalised steps; draws the same random numbers as `Harpg`."""

    normalised: ClassVar[bool] = True
    step_exponent: ClassVar[float] = 1.0
