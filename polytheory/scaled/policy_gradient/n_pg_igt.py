"""N-PG-IGT in torch: normalised policy gradient with implicit gradient transport, for replicas and for networks.

Update and guarantee are those of the reference [fatkhullin2023, Algorithm 1]. The episodes come from the look-ahead
parameters: a module really holds them while it samples and gets its own back afterwards, also when sampling raises.

References: [fatkhullin2023] Fatkhullin, Barakat, Kireeva and He, Stochastic Policy Gradient Methods: Improved Sample
Complexity for Fisher-non-degenerate Policies, ICML 2023. [cutkosky2020] Cutkosky and Mehta, Momentum Improves
Normalized SGD, ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.scaled.policy_gradient.base import Direction, PolicyGradient
from polytheory.scaled.policy_gradient.base import PgState as PgState
from polytheory.scaled.policy_gradient.estimators import importance_ratio as importance_ratio
from polytheory.scaled.policy_gradient.estimators import pg_estimate as pg_estimate
from polytheory.scaled.policy_gradient.softmax import LinearSoftmax as LinearSoftmax
from polytheory.scaled.policy_gradient.softmax import TabularSoftmax as TabularSoftmax
from polytheory.scaled.policy_gradient.steps import lookahead as lookahead
from polytheory.scaled.policy_gradient.steps import momentum as momentum
from polytheory.scaled.policy_gradient.torch_policy import TorchPolicy as TorchPolicy


@dataclass(frozen=True, eq=False)
class NPgIgt(PolicyGradient):
    """The method of this module; fields as in `PolicyGradient`."""

    name: ClassVar[str] = "n-pg-igt"
    momentum_exponent: ClassVar[float] = 4 / 5

    def direction(self, state: PgState, access: Any, eta: Any) -> Direction:
        """Sample at the look-ahead, take the scores there, average."""
        ahead = lookahead(state.theta, state.theta_prev, eta)
        traj = self.sample(ahead, state, access, "tau")
        g = self.gradient(ahead, traj, access)
        return (g if state.t == 0 else momentum(state.d, g, eta)), g, traj
