"""What all policy-gradient methods share: settings, state, sampling and batch means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.reference.policy_gradient.estimators import KINDS, pg_estimate, rewards_to_go
from polytheory.reference.policy_gradient.schedules import SCHEDULES, momentum_weight, step_size, warn_of_long_steps
from polytheory.reference.policy_gradient.steps import normalised_step, plain_step
from polytheory.streams import row_ids
from polytheory.trajectories import Trajectories

Vector = Float[np.ndarray, " d"]
Direction = tuple[Vector, Vector, Trajectories]


@dataclass(eq=False)
class PgState:
    """State of every method here.

    Fields: ``theta`` [d] parameters; ``theta_prev`` [d] those before the last step (the same at first); ``d`` [d] the
    direction of the last step (0 at first); ``t`` steps made; ``seed`` and ``replica`` name the random numbers.
    """

    theta: Float[np.ndarray, " d"]
    theta_prev: Float[np.ndarray, " d"]
    d: Float[np.ndarray, " d"]
    t: int
    seed: int
    replica: int  # in the scaled room int64 [n]: every replica names its own stream


@dataclass(frozen=True, eq=False)
class PolicyGradient(ABC):
    """Settings that all methods share; subclasses say how the direction is made (`direction`).

    Fields:
        policy: where to start (see `softmax`). Called with a state it is the policy at the state's parameters, the last
            iterate, of which the guarantees speak.
        truncation: episodes are cut after this many steps; the theorems take `schedules.theorem_truncation`.
        gamma0: step size at t = 0, > 0.
        eta0: momentum weight at t = 0, in (0, 1]; the theorems take 1.
        batch: trajectories for each estimate, >= 1; the theorems take 1.
        schedule: "theorem", or hold "constant-step", "constant-momentum" or both ("constant") at their first values.
        estimator: "gpomdp" or "reinforce".
        baseline: b(s) [S] subtracted from the rewards to go in the gradient estimates, or None.

    Raises `SettingError` and `UnknownNameError` for values outside of these.
    """

    policy: Any
    truncation: int
    gamma0: float = 0.1
    eta0: float = 1.0
    batch: int = 1
    schedule: str = "theorem"
    estimator: str = "gpomdp"
    baseline: Float[np.ndarray, " S"] | None = None

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
        theta = np.array(self.policy.theta, dtype=float)
        return PgState(theta, theta.copy(), np.zeros_like(theta), 0, seed, replica)

    @abstractmethod
    def direction(self, state: Any, access: Any, eta: float) -> Direction:
        """The ascent direction d_t, the fresh gradient estimate in it, and the trajectories whose return counts."""

    def step(self, state: Any, access: Any) -> tuple[Any, Info]:
        """Sample, make the direction, move along it."""
        eta = self.eta(state)
        d, g, traj = self.direction(state, access, eta)
        size = self.step_size(state, g)
        move = normalised_step if self.normalised else plain_step
        new = self.advanced(state, move(state.theta, d, size), d, g)
        returns = rewards_to_go(traj.rewards, traj.mask, gamma=access.spec.gamma)[:, 0]
        return new, {
            "mean_return": float(returns.mean()), "step": size, "eta": eta, "direction_norm": float(np.linalg.norm(d))
        }  # fmt: skip

    def advanced(self, state: Any, theta: Vector, d: Vector, g: Vector) -> Any:
        """The state after the step."""
        return PgState(theta, state.theta, d, state.t + 1, state.seed, state.replica)

    def eta(self, state: Any) -> float:
        """Momentum weight of this step."""
        return momentum_weight(self.eta0, state.t, self.momentum_exponent, self.schedule)

    def step_size(self, state: Any, g: Vector) -> float:
        """Step size of this step."""
        return step_size(self.gamma0, state.t, self.step_exponent, self.schedule)

    def sample(self, theta: Float[np.ndarray, " d"], state: Any, access: Any, use: str, batch: int = 0) -> Trajectories:
        """A batch of episodes under ``theta``, from the stream of this use."""
        ids = row_ids(state.replica, np.arange(batch or self.batch))
        key = Key(state.seed, f"{self.name}/{use}", state.t)
        return access.rollouts(self.policy.with_theta(theta), Requests(ids, self.truncation), key)

    def gradients(self, theta: Float[np.ndarray, " d"], traj: Trajectories, access: Any) -> Float[np.ndarray, "n d"]:
        """Gradient estimates at ``theta``, one per trajectory."""
        baseline = None if self.baseline is None else np.asarray(self.baseline)[traj.states]
        return pg_estimate(
            self.policy.with_theta(theta), traj, gamma=access.spec.gamma, kind=self.estimator, baseline=baseline
        )

    def done(self, state: Any) -> bool:
        """A learner is never done by itself."""
        return False
