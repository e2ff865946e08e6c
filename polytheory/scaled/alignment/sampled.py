"""PARL from episodes alone, replicas at once; problem, update and random numbers are those of the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.reward_design import SampledDesign, check_discounted
from polytheory.scaled.alignment.conjugate import conjugate_gradients
from polytheory.scaled.alignment.trajectory import (
    entropy_part,
    lower_gradient,
    lower_hvp,
    mixed_product,
    regularised_rewards,
    returns_along,
    sampled_upper_gradient,
    without_own,
)
from polytheory.scaled.alignment.upper import label_likelihood, label_residual, teacher
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories


@dataclass(eq=False)
class SampledState:
    """The reference's state with a leading replica axis: ``nu``, ``gradient`` [n, m], ``theta`` [n, d], ``value`` [n],
    ``replica`` int64 [n]; ``labels`` (of one replica), ``k`` and ``t`` are common."""

    nu: Float[torch.Tensor, "n m"]
    theta: Float[torch.Tensor, "n d"]
    gradient: Float[torch.Tensor, "n m"]
    value: Float[torch.Tensor, " n"]
    labels: int
    k: int
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]


@dataclass(frozen=True, eq=False)
class SampledParl(SampledDesign):
    """A-PARL from episodes [chakraborty2024, Algorithm 1]; fields as in `SampledDesign` and `Design`."""

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})

    def init(self, access: Any, seed: int, replica: int = 0) -> SampledState:
        """At ``nu0`` and the first policy, nothing sampled yet. Raises `SettingError` without a discount below 1."""
        check_discounted(access.spec.gamma)
        n, place = access.replicas, access.device
        nu = torch.as_tensor(self.start(self.features_of(access.spec.S, access.spec.A).shape[2]), device=place).repeat(
            n, 1
        )
        theta = self.policy.theta.detach().expand(n, -1).clone().to(place)
        value = torch.full((n,), torch.nan, dtype=nu.dtype, device=place)
        return SampledState(nu, theta, torch.zeros_like(nu), value, 0, 0, 0, seed, replica + torch.arange(n))

    def step(self, state: SampledState, access: Any) -> tuple[SampledState, Info]:
        """Improve the lower level's policies, or move nu."""
        features = torch.tensor(self.features_of(access.spec.S, access.spec.A), device=access.device)
        policy = self.policy.with_theta(state.theta)
        if state.k < self.lower_steps:
            traj = self.sample(policy, state, access, f"lower-{state.k}", self.lower_batch)
            rho = regularised_rewards(policy, traj, rewards_of(features, state.nu), self.tau)
            g = batch_means(lower_gradient(policy, traj, rho, gamma=access.spec.gamma), access.replicas)
            after = replace(state, theta=state.theta + self.lower_step * g, k=state.k + 1)
        else:
            after = self.upper_step(state, policy, features, access)
        return after, {
            "objective": after.value.numpy(force=True),
            "gradient_norm": torch.linalg.vector_norm(after.gradient, dim=-1).numpy(force=True),
            "iterations": after.t, "labels": after.labels,
        }  # fmt: skip

    def upper_step(
        self, state: SampledState, policy: Any, features: Float[torch.Tensor, "S A m"], access: Any
    ) -> SampledState:
        """Estimate the hypergradients and move nu."""
        gamma, n = access.spec.gamma, access.replicas
        per_row = 2 if self.upper == "preference" else 1
        traj = self.sample(policy, state, access, "upper", per_row * self.upper_batch)
        u, value, T2 = self.utilities(state, traj, features, gamma)
        T1 = torch.zeros_like(state.nu)
        if self.term != "none":
            b = batch_means(sampled_upper_gradient(policy, traj, u), n)
            other = self.sample(policy, state, access, "curvature", self.curvature_batch)
            T1 = self.distribution_term(state.nu, policy, other, b, features, gamma)
        gradient = T1 + T2 - 2 * self.ridge * state.nu
        labels = state.labels + (self.upper_batch if self.upper == "preference" else 0)
        return replace(
            state, nu=state.nu + self.alpha * gradient, gradient=gradient, labels=labels, k=0, t=state.t + 1,
            value=value - self.ridge * (state.nu**2).sum(-1),
        )  # fmt: skip

    def utilities(
        self, state: SampledState, traj: Trajectories, features: Float[torch.Tensor, "S A m"], gamma: float
    ) -> tuple[Float[torch.Tensor, " rows"], Float[torch.Tensor, " n"], Float[torch.Tensor, "n m"]]:
        """What every trajectory is worth to the upper level, less a baseline; the sampled values; and T2."""
        n = len(state.nu)
        true = returns_along(traj, traj.rewards, gamma=gamma).view(n, -1)
        if self.upper == "utility":
            return without_own(true).flatten(), true.mean(-1), torch.zeros_like(state.nu)
        phi = returns_along(traj, features[traj.states, traj.actions], gamma=gamma)
        gap = phi[0::2] - phi[1::2]
        p = teacher(true[:, 0::2], true[:, 1::2], self.teacher_scale)
        ids = row_ids(state.replica.numpy(force=True).repeat(self.upper_batch), np.tile(np.arange(self.upper_batch), n))
        draws = uniforms(state.seed, "parl/labels", state.t, torch.as_tensor(ids, device=p.device), 1)
        y = (draws.view(n, -1) < p).to(p)
        D = torch.einsum("npm,nm->np", gap.view(n, -1, gap.shape[-1]), state.nu)
        ell = label_likelihood(y, D)
        T2 = batch_means(label_residual(y, D).flatten()[:, None] * gap, n)
        # a pair counts twice, once for each of its trajectories, of which there are twice as many
        return 2 * without_own(ell).flatten().repeat_interleave(2), ell.mean(-1), T2

    def distribution_term(
        self,
        nu: Float[torch.Tensor, "n m"],
        policy: Any,
        traj: Trajectories,
        b: Float[torch.Tensor, "n d"],
        features: Float[torch.Tensor, "S A m"],
        gamma: float,
    ) -> Float[torch.Tensor, "n m"]:
        """``M^T z`` with ``(C + damping) z = b``, C being ``-hess V`` or ``tau F_x``."""
        rho = regularised_rewards(policy, traj, rewards_of(features, nu), self.tau)

        def apply(p: Float[torch.Tensor, "n d"]) -> Float[torch.Tensor, "n d"]:
            if self.term == "fisher":
                return self.damping * p - batch_means(entropy_part(policy, traj, p, gamma=gamma, tau=self.tau), len(nu))
            return self.damping * p - batch_means(lower_hvp(policy, traj, rho, p, gamma=gamma, tau=self.tau), len(nu))

        z = b / self.damping if self.term == "identity" else conjugate_gradients(apply, b, steps=self.cg_steps)
        return batch_means(mixed_product(policy, traj, features, z, gamma=gamma), len(nu))

    def sample(self, policy: Any, state: SampledState, access: Any, use: str, batch: int) -> Trajectories:
        """A batch of episodes of every replica from the stream of this use."""
        ids = row_ids(state.replica.numpy(force=True).repeat(batch), np.tile(np.arange(batch), access.replicas))
        return access.rollouts(policy, Requests(ids, self.truncation), Key(state.seed, f"parl/{use}", state.t))


def rewards_of(features: Float[torch.Tensor, "S A m"], nu: Float[torch.Tensor, "n m"]) -> Float[torch.Tensor, "n S A"]:
    """``r_nu = features . nu`` of every replica."""
    return torch.einsum("sam,nm->nsa", features, nu)


def batch_means(x: Float[torch.Tensor, "rows d"], replicas: int) -> Float[torch.Tensor, "n d"]:
    """Mean over the rows of each replica."""
    return x.view(replicas, -1, x.shape[1]).mean(1)
