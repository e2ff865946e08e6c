"""Methods that the paper compares with, through the same interface, for replicas and for networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.scaled.policy_gradient.base import Direction, PgState, PolicyGradient
from polytheory.scaled.policy_gradient.differences import hessian_aided_difference, weighted_difference
from polytheory.scaled.policy_gradient.steps import momentum, recursive_momentum
from polytheory.trajectories import Trajectories


@dataclass(frozen=True, eq=False)
class VanillaPg(PolicyGradient):
    """``theta += gamma_t g`` with ``gamma_t = gamma_0 x_t^{2/3}`` [williams1992; baxter2001]."""

    name: ClassVar[str] = "vanilla-pg"
    normalised: ClassVar[bool] = False
    step_exponent: ClassVar[float] = 2 / 3

    def direction(self, state: PgState, access: Any, eta: Any) -> Direction:
        """The batch mean of the gradient estimates."""
        traj = self.sample(state.theta, state, access, "tau")
        g = self.gradient(state.theta, traj, access)
        return g, g, traj


@dataclass(frozen=True, eq=False)
class NormalisedSgd(VanillaPg):
    """``theta += gamma_t g / |g|``: without momentum its direction is biased unless batches are large."""

    name: ClassVar[str] = "nsgd"
    normalised: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class MomentumPg(PolicyGradient):
    """Normalised steps along ``d_t = (1 - eta_t) d_{t-1} + eta_t g``, ``eta_t = x_t^{2/3}`` [cutkosky2020]."""

    name: ClassVar[str] = "nsgdm"
    momentum_exponent: ClassVar[float] = 2 / 3

    def direction(self, state: PgState, access: Any, eta: Any) -> Direction:
        """Average the estimates at the iterates themselves."""
        traj = self.sample(state.theta, state, access, "tau")
        g = self.gradient(state.theta, traj, access)
        return (g if state.t == 0 else momentum(state.d, g, eta)), g, traj


@dataclass(frozen=True, eq=False)
class StormPg(PolicyGradient):
    """``d_t = (1 - eta_t) (d_{t-1} + g(tau, theta_t) - w g(tau, theta_{t-1})) + eta_t g(tau, theta_t)``.

    w is an importance ratio; ``eta_t = x_t^{2/3}``, ``gamma_t = gamma_0 x_t^{1/3}`` [yuan2020; cutkosky2019].
    """

    name: ClassVar[str] = "storm-pg"
    normalised: ClassVar[bool] = False
    step_exponent: ClassVar[float] = 1 / 3
    momentum_exponent: ClassVar[float] = 2 / 3

    def direction(self, state: PgState, access: Any, eta: Any) -> Direction:
        """Carry the old direction over by an importance-weighted difference on the same trajectories."""
        traj = self.sample(state.theta, state, access, "tau")
        g = self.gradient(state.theta, traj, access)
        if state.t == 0:
            return g, g, traj
        return recursive_momentum(state.d, weighted_difference(self, state, access, traj), g, eta), g, traj


@dataclass(eq=False)
class IsMbpgState(PgState):
    """Field: ``squares`` [n], the sum of ``|g_i|^2`` so far."""

    squares: Float[torch.Tensor, " n"]


@dataclass(frozen=True, eq=False)
class IsMbpg(StormPg):
    """STORM-PG with steps that adapt to the gradients seen [huang2020].

    ``gamma_t = k / (m + sum_{i <= t} |g_i|^2)^{1/3}``, ``eta_{t+1} = min(1, c gamma_t^2)``.

    Fields, all > 0: ``k``, ``m``, ``c``. ``gamma0``, ``eta0`` and ``schedule`` have no effect.
    """

    k: float = 0.5
    m: float = 2.0
    c: float = 1.0

    name: ClassVar[str] = "is-mbpg"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("k", "m", "c"):
            if not getattr(self, field) > 0:
                raise SettingError(f"{field} = {getattr(self, field)}; it must be positive")

    def init(self, access: Any, seed: int, replica: int = 0) -> IsMbpgState:
        """At the starting parameters, nothing sampled yet."""
        base = super().init(access, seed, replica)
        return IsMbpgState(**vars(base), squares=base.theta.new_zeros(len(base.theta)))

    def eta(self, state: IsMbpgState) -> Any:
        """``min(1, c gamma_{t-1}^2)``; 1 at first."""
        return (self.c * self.adapted(state.squares) ** 2).clamp(max=1.0) if state.t else 1.0

    def step_size(self, state: IsMbpgState, g: torch.Tensor) -> torch.Tensor:
        """Shorter the more gradient has been seen, this step's included."""
        return self.adapted(state.squares + (g * g).sum(1))

    def adapted(self, squares: torch.Tensor) -> torch.Tensor:
        """``k / (m + squares)^{1/3}`` as [n, 1]."""
        return (self.k / (self.m + squares) ** (1 / 3))[:, None]

    def advanced(self, state: IsMbpgState, theta: torch.Tensor, d: torch.Tensor, g: torch.Tensor) -> IsMbpgState:
        """The state after the step."""
        base = super().advanced(state, theta, d, g)
        return IsMbpgState(**vars(base), squares=state.squares + (g * g).sum(1))


@dataclass(frozen=True, eq=False)
class SrvrPg(PolicyGradient):
    """Every ``period`` steps ``d`` is the mean of ``anchor_batch`` fresh estimates [xu2020].

    In between it is carried over by importance-weighted differences of ``batch`` trajectories. The step size stays
    gamma0; eta0 has no effect.
    """

    period: int = 10
    anchor_batch: int = 10

    name: ClassVar[str] = "srvr-pg"
    normalised: ClassVar[bool] = False
    step_exponent: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("period", "anchor_batch"):
            if getattr(self, field) < 1:
                raise SettingError(f"{field} = {getattr(self, field)}; it must be at least 1")

    def direction(self, state: PgState, access: Any, eta: Any) -> Direction:
        """Anchor, or carry over."""
        if state.t % self.period == 0:
            traj = self.sample(state.theta, state, access, "tau", self.anchor_batch)
            g = self.gradient(state.theta, traj, access)
            return g, g, traj
        v, traj = self.difference(state, access)
        return state.d + v, v, traj

    def difference(self, state: PgState, access: Any) -> tuple[torch.Tensor, Trajectories]:
        """Estimate of ``grad J(theta_t) - grad J(theta_{t-1})``, and the trajectories it took."""
        traj = self.sample(state.theta, state, access, "tau")
        return weighted_difference(self, state, access, traj), traj


@dataclass(frozen=True, eq=False)
class Hapg(SrvrPg):
    """As `SrvrPg` with the Hessian-aided difference in place of importance weights [shen2019]."""

    name: ClassVar[str] = "hapg"

    def difference(self, state: PgState, access: Any) -> tuple[torch.Tensor, Trajectories]:
        """As in HARPG."""
        return hessian_aided_difference(self, state, access)
