"""What all policy-gradient methods share: settings, state, sampling and batch means, for n replicas at once.

The text does not know what the policy is: softmax tables with one parameter vector per replica, a network behind
`TorchPolicy`, or anything else with ``theta``, ``with_theta``, ``at`` and ``log_probs``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.scaled.policy_gradient.estimators import KINDS, rewards_to_go
from polytheory.scaled.policy_gradient.means import mean_pg
from polytheory.scaled.policy_gradient.schedules import SCHEDULES, momentum_weight, step_size, warn_of_long_steps
from polytheory.scaled.policy_gradient.steps import normalised_step, plain_step
from polytheory.streams import row_ids
from polytheory.trajectories import Trajectories

Direction = tuple[torch.Tensor, torch.Tensor, Trajectories]  # d [n, d], the fresh estimate in it [n, d], trajectories


@dataclass(eq=False)
class PgState:
    """State of every method here, n replicas.

    Fields: ``theta`` [n, d] parameters; ``theta_prev`` [n, d] those before the last step (the same at first); ``d``
    [n, d] the direction of the last step (0 at first); ``t`` steps made; ``seed`` and ``replica`` int64 [n] name the
    random numbers.
    """

    theta: Float[torch.Tensor, "n d"]
    theta_prev: Float[torch.Tensor, "n d"]
    d: Float[torch.Tensor, "n d"]
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]


@dataclass(frozen=True, eq=False)
class PolicyGradient(ABC):
    """Settings that all methods share; subclasses say how the direction is made (`direction`).

    Fields:
        policy: where to start, with ``theta`` [n, d] or [1, d] (shared by all replicas). Called with a state it is the
            policy at the state's parameters, the last iterate, of which the guarantees speak.
        truncation: episodes are cut after this many steps; the theorems take `schedules.theorem_truncation`.
        gamma0: step size at t = 0, > 0.
        eta0: momentum weight at t = 0, in (0, 1]; the theorems take 1.
        batch: trajectories for each estimate of each replica, >= 1; the theorems take 1.
        schedule: "theorem", or hold "constant-step", "constant-momentum" or both ("constant") at their first values.
        estimator: "gpomdp" or "reinforce".
        baseline: b(s) [S] subtracted from the rewards to go in the gradient estimates, or None; for policies on
            observations, a function from states [n, t, *obs] to b [n, t].

    Raises `SettingError` and `UnknownNameError` for values outside of these.
    """

    policy: Any
    truncation: int
    gamma0: float = 0.1
    eta0: float = 1.0
    batch: int = 1
    schedule: str = "theorem"
    estimator: str = "gpomdp"
    baseline: Any = None

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    name: ClassVar[str] = ""
    normalised: ClassVar[bool] = True
    step_exponent: ClassVar[float] = 1.0
    momentum_exponent: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not (self.gamma0 > 0 and np.isfinite(self.gamma0)):
            raise SettingError(f"gamma0 = {self.gamma0}; a step size is positive and finite, try 0.1")
        if not 0 < self.eta0 <= 1:
            raise SettingError(f"eta0 = {self.eta0}; a momentum weight lies in (0, 1], the theorems take 1")
        for field in ("truncation", "batch"):
            if getattr(self, field) < 1:
                raise SettingError(f"{field} = {getattr(self, field)}; it must be at least 1")
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        if self.estimator not in KINDS:
            raise UnknownNameError("estimator", self.estimator, KINDS)
        if self.normalised:
            warn_of_long_steps(self.gamma0)

    def init(self, access: Any, seed: int, replica: int = 0) -> PgState:
        """At the starting parameters, nothing sampled yet."""
        theta, n = self.policy.theta.detach(), access.replicas
        if len(theta) not in (1, n):
            raise SettingError(f"theta is [{len(theta)}, d] but the access has {n} replicas; give 1 row or {n}")
        if n > 1 and not self.policy.closed_form:
            raise SettingError(f"a module is one replica, but the access has {n}; use access.replicate(1)")
        theta = theta.expand(n, -1).clone().to(getattr(access, "device", theta.device))
        replicas = replica + torch.arange(n)
        return PgState(theta, theta.clone(), torch.zeros_like(theta), 0, seed, replicas)

    @abstractmethod
    def direction(self, state: Any, access: Any, eta: Any) -> Direction:
        """The ascent direction d_t, the fresh gradient estimate in it, and the trajectories whose return counts."""

    def step(self, state: Any, access: Any) -> tuple[Any, Info]:
        """Sample, make the direction, move along it; reports [n] values."""
        eta = self.eta(state)
        d, g, traj = self.direction(state, access, eta)
        size = self.step_size(state, g)
        move = normalised_step if self.normalised else plain_step
        new = self.advanced(state, move(state.theta, d, size), d, g)
        n = len(d)
        returns = rewards_to_go(traj.rewards, traj.mask, gamma=access.spec.gamma)[:, 0]
        return new, {
            "mean_return": returns.view(n, -1).mean(1).numpy(force=True), "step": _per_replica(size, n),
            "eta": _per_replica(eta, n), "direction_norm": torch.linalg.vector_norm(d, dim=1).numpy(force=True),
        }  # fmt: skip

    def advanced(self, state: Any, theta: torch.Tensor, d: torch.Tensor, g: torch.Tensor) -> Any:
        """The state after the step."""
        return PgState(theta, state.theta, d, state.t + 1, state.seed, state.replica)

    def eta(self, state: Any) -> Any:
        """Momentum weight of this step: a number, or [n, 1]."""
        return momentum_weight(self.eta0, state.t, self.momentum_exponent, self.schedule)

    def step_size(self, state: Any, g: torch.Tensor) -> Any:
        """Step size of this step: a number, or [n, 1]."""
        return step_size(self.gamma0, state.t, self.step_exponent, self.schedule)

    def sample(
        self, theta: Float[torch.Tensor, "n d"], state: Any, access: Any, use: str, batch: int = 0
    ) -> Trajectories:
        """A batch of episodes of every replica under ``theta``, from the stream of this use.

        While it samples, a module really holds ``theta``; its own weights come back also when sampling raises.
        """
        n, batch = access.replicas, batch or self.batch
        ids = row_ids(state.replica.numpy(force=True).repeat(batch), np.tile(np.arange(batch), n))
        key = Key(state.seed, f"{self.name}/{use}", state.t)
        with self.policy.at(theta) as policy:
            return access.rollouts(policy, Requests(ids, self.truncation), key)

    def gradient(
        self,
        theta: Float[torch.Tensor, "n d"],
        traj: Trajectories,
        access: Any,
        row_weights: Float[torch.Tensor, " rows"] | None = None,
    ) -> Float[torch.Tensor, "n d"]:
        """Gradient estimate at ``theta``: the batch mean of each replica, rows weighted by ``row_weights``."""
        return mean_pg(
            self.policy.with_theta(theta), traj, gamma=access.spec.gamma, kind=self.estimator,
            baseline=self._baseline(traj), row_weights=row_weights,
        )  # fmt: skip

    def done(self, state: Any) -> bool:
        """A learner is never done by itself."""
        return False

    def _baseline(self, traj: Trajectories) -> Float[torch.Tensor, "rows t"] | None:
        if self.baseline is None or traj.states is None:
            return None
        if callable(self.baseline):
            return torch.as_tensor(self.baseline(traj.states))
        return torch.as_tensor(self.baseline).to(traj.rewards)[traj.states]


def _per_replica(x: Any, n: int) -> np.ndarray:
    """A number or [n, 1] as [n]."""
    return x[:, 0].numpy(force=True) if isinstance(x, torch.Tensor) else np.full(n, float(x))
