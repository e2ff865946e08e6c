"""PARL from episodes alone: policy gradients below, Hessian-vector products and conjugate gradients above."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.reference.alignment.conjugate import conjugate_gradients
from polytheory.reference.alignment.trajectory import (
    entropy_part,
    lower_gradient,
    lower_hvp,
    mixed_product,
    regularised_rewards,
    returns_along,
    sampled_upper_gradient,
    without_own,
)
from polytheory.reference.alignment.upper import label_likelihood, label_residual, teacher
from polytheory.reward_design import SampledDesign, check_discounted
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories


@dataclass(frozen=True, eq=False)
class SampledState:
    """State of sampled reward design.

    Fields:
        nu: [m] parameters of the reward. theta: [d] those of the policy.
        gradient: [m] the last hypergradient. value: the upper level's sampled value there (NaN before).
        labels: choices the teacher has made. k: lower steps since the last upper one. t: upper steps.
        seed, replica: name the random numbers.
    """

    nu: Float[np.ndarray, " m"]
    theta: Float[np.ndarray, " d"]
    gradient: Float[np.ndarray, " m"]
    value: float
    labels: int
    k: int
    t: int
    seed: int
    replica: int


@dataclass(frozen=True, eq=False)
class SampledParl(SampledDesign):
    """A-PARL from episodes [chakraborty2024, Algorithm 1]; fields as in `SampledDesign` and `Design`.

    One step is one policy-gradient step of the lower level or, after ``lower_steps`` of them, one upper step: utilities and
    curvature come from different episodes, since the mean of a product is not the product of means.
    """

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})

    def init(self, access: Any, seed: int, replica: int = 0) -> SampledState:
        """At ``nu0`` and the first policy, nothing sampled yet. Raises `SettingError` without a discount below 1."""
        check_discounted(access.spec.gamma)
        nu = self.start(self.features_of(access.spec.S, access.spec.A).shape[2])
        theta = np.array(self.policy.theta, dtype=float)
        return SampledState(nu, theta, np.zeros_like(nu), np.nan, 0, 0, 0, seed, replica)

    def step(self, state: SampledState, access: Any) -> tuple[SampledState, Info]:
        """Improve the lower level's policy, or move nu."""
        features, policy = self.features_of(access.spec.S, access.spec.A), self.policy.with_theta(state.theta)
        if state.k < self.lower_steps:
            traj = self.sample(policy, state, access, f"lower-{state.k}", self.lower_batch)
            rho = regularised_rewards(policy, traj, features @ state.nu, self.tau)
            g = lower_gradient(policy, traj, rho, gamma=access.spec.gamma).mean(axis=0)
            after = replace(state, theta=state.theta + self.lower_step * g, k=state.k + 1)
        else:
            after = self.upper_step(state, policy, features, access)
        return after, {
            "objective": after.value, "gradient_norm": float(np.linalg.norm(after.gradient)), "iterations": after.t,
            "labels": after.labels,
        }  # fmt: skip

    def upper_step(
        self, state: SampledState, policy: Any, features: Float[np.ndarray, "S A m"], access: Any
    ) -> SampledState:
        """Estimate the hypergradient and move nu."""
        gamma = access.spec.gamma
        per_row = 2 if self.upper == "preference" else 1
        traj = self.sample(policy, state, access, "upper", per_row * self.upper_batch)
        u, value, T2 = self.utilities(state, traj, features, gamma)
        T1 = np.zeros_like(state.nu)
        if self.term != "none":
            b = sampled_upper_gradient(policy, traj, u).mean(axis=0)
            other = self.sample(policy, state, access, "curvature", self.curvature_batch)
            T1 = self.distribution_term(state.nu, policy, other, b, features, gamma)
        gradient = T1 + T2 - 2 * self.ridge * state.nu
        labels = state.labels + (self.upper_batch if self.upper == "preference" else 0)
        return replace(
            state, nu=state.nu + self.alpha * gradient, gradient=gradient, labels=labels, k=0, t=state.t + 1,
            value=value - self.ridge * float(state.nu @ state.nu),
        )  # fmt: skip

    def utilities(
        self, state: SampledState, traj: Trajectories, features: Float[np.ndarray, "S A m"], gamma: float
    ) -> tuple[Float[np.ndarray, " n"], float, Float[np.ndarray, " m"]]:
        """What every trajectory is worth to the upper level, less a baseline; the sampled value; and T2."""
        true = returns_along(traj, traj.rewards, gamma=gamma)
        if self.upper == "utility":
            return without_own(true), float(true.mean()), np.zeros_like(state.nu)
        phi = returns_along(traj, features[traj.states, traj.actions], gamma=gamma)
        first, second = phi[0::2], phi[1::2]
        p = teacher(true[0::2], true[1::2], self.teacher_scale)
        ids = row_ids(state.replica, np.arange(self.upper_batch))
        y = (uniforms(state.seed, "parl/labels", state.t, ids, 1)[:, 0] < p).astype(float)
        D = (first - second) @ state.nu
        ell = label_likelihood(y, D)
        T2 = (label_residual(y, D)[:, None] * (first - second)).mean(axis=0)
        # a pair counts twice, once for each of its trajectories, of which there are twice as many
        return 2 * np.repeat(without_own(ell), 2), float(ell.mean()), T2

    def distribution_term(
        self,
        nu: Float[np.ndarray, " m"],
        policy: Any,
        traj: Trajectories,
        b: Float[np.ndarray, " d"],
        features: Float[np.ndarray, "S A m"],
        gamma: float,
    ) -> Float[np.ndarray, " m"]:
        """``M^T z`` with ``(C + damping) z = b``, C being ``-hess V`` or ``tau F_x``."""
        rho = regularised_rewards(policy, traj, features @ nu, self.tau)

        def apply(p: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
            if self.term == "fisher":
                return self.damping * p - entropy_part(policy, traj, p, gamma=gamma, tau=self.tau).mean(axis=0)
            return self.damping * p - lower_hvp(policy, traj, rho, p, gamma=gamma, tau=self.tau).mean(axis=0)

        z = b / self.damping if self.term == "identity" else conjugate_gradients(apply, b, steps=self.cg_steps)
        return mixed_product(policy, traj, features, z, gamma=gamma).mean(axis=0)

    def sample(self, policy: Any, state: SampledState, access: Any, use: str, batch: int) -> Trajectories:
        """A batch of episodes from the stream of this use."""
        ids = row_ids(state.replica, np.arange(batch))
        return access.rollouts(policy, Requests(ids, self.truncation), Key(state.seed, f"parl/{use}", state.t))
