"""PARL in torch, replicas at once: reward design that knows how its data move with the reward [chakraborty2024].

Problem, update and guarantee are those of the reference. The route "implicit" takes Hessian-vector products by automatic
differentiation and conjugate gradients in place of matrices over logits. `SampledParl` works from episodes, `deep` with a
reward network and a policy network, `language` on completions of a language model.

References: [chakraborty2024] Chakraborty, Bedi, Koppel, Wang, Manocha, Wang and Huang, PARL: A Unified Framework for
Policy Alignment in Reinforcement Learning, ICLR 2024, arXiv:2308.02585.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from polytheory._typing import Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.reward_design import ExactDesign, paths_of, world_of
from polytheory.scaled.alignment.bilevel import (
    closed_term,
    fisher_term,
    implicit_term,
    lower_slope,
    mixed_pullback,
    upper_gradient,
)
from polytheory.scaled.alignment.conjugate import conjugate_gradients as conjugate_gradients
from polytheory.scaled.alignment.language import group_covariance as group_covariance
from polytheory.scaled.alignment.sampled import SampledParl as SampledParl
from polytheory.scaled.alignment.soft import feature_advantages, log_policy, soft_sweep
from polytheory.scaled.alignment.softmax import TabularSoftmax as TabularSoftmax
from polytheory.scaled.alignment.upper import Upper, preference_upper, utility_upper


@dataclass(eq=False)
class ParlState:
    """The reference's state with a leading replica axis: ``nu`` [n, m], ``theta`` [n, S, A], ``value`` [n], ``gradient``
    [n, m], ``gap`` [n]; ``k`` and ``t`` are common."""

    nu: Float[torch.Tensor, "n m"]
    theta: Float[torch.Tensor, "n S A"]
    value: Float[torch.Tensor, " n"]
    gradient: Float[torch.Tensor, "n m"]
    gap: Float[torch.Tensor, " n"]
    k: int
    t: int


@dataclass(frozen=True, eq=False)
class TorchWorld:
    """`polytheory.reward_design.World` as tensors, with the features ``phi`` [S, A, m]."""

    P: Float[torch.Tensor, "S A S"]
    mu: Float[torch.Tensor, " S"]
    r: Float[torch.Tensor, "S A"]
    gamma: float
    phi: Float[torch.Tensor, "S A m"]


@dataclass(frozen=True, eq=False)
class Parl(ExactDesign):
    """A-PARL with a known model; fields as in `ExactDesign` and `Design`.

    One step is one step of the lower level or, when that has ended in every replica, one of the upper level.
    """

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> ParlState:
        """At ``nu0`` with uniform policies."""
        n, S, A = access.replicas, int(access.spec.S), int(access.spec.A)
        nu = torch.as_tensor(self.start(self.features_of(S, A).shape[2]), device=access.device).repeat(n, 1)
        nothing = torch.full((n,), torch.inf, dtype=nu.dtype, device=nu.device)
        return ParlState(nu, nu.new_zeros(n, S, A), nothing * torch.nan, torch.zeros_like(nu), nothing, 0, 0)

    def step(self, state: ParlState, access: Any) -> tuple[ParlState, Info]:
        """Improve the lower level's policies, or move nu."""
        world, theta = self.world(access), state.theta
        if self.solved(state):
            upper, gradient = self.hypergradient(state.nu, theta, world, access)
            after = replace(
                state, nu=state.nu + self.alpha * gradient, value=upper.value - self.ridge * (state.nu**2).sum(-1),
                gradient=gradient, gap=torch.full_like(state.gap, torch.inf), k=0, t=state.t + 1,
            )  # fmt: skip
        else:
            r = designed(world.phi, state.nu)
            if self.lower == "newton":
                theta, gap, size = soft_sweep(world.P, r, theta, gamma=world.gamma, tau=self.tau)
                after = replace(state, theta=theta, gap=gap / (1 + size), k=state.k + 1)
            else:
                slope = lower_slope(world.P, world.mu, r, theta, gamma=world.gamma, tau=self.tau)
                after = replace(state, theta=theta + self.lower_step * slope, k=state.k + 1)
            access.meter.add("backups", world.r.numel())
        return after, {
            "objective": after.value.numpy(force=True),
            "gradient_norm": torch.linalg.vector_norm(after.gradient, dim=-1).numpy(force=True),
            "iterations": after.t, "lower_steps": after.k,
        }  # fmt: skip

    def world(self, access: Any) -> TorchWorld:
        """The access's model as tensors on its device."""
        world = world_of(access.model)
        phi = self.features_of(*world.r.shape)
        P, mu, r, phi = (torch.tensor(x, device=access.device) for x in (world.P, world.mu, world.r, phi))
        return TorchWorld(P, mu, r, world.gamma, phi)

    def solved(self, state: ParlState) -> bool:
        """True when the lower level has done what ``lower`` asks for, in every replica."""
        return bool((state.gap <= self.lower_tol).all()) if self.lower == "newton" else state.k >= self.lower_steps

    def hypergradient(
        self, nu: Float[torch.Tensor, "n m"], theta: Float[torch.Tensor, "n S A"], world: TorchWorld, access: Any
    ) -> tuple[Upper, Float[torch.Tensor, "n m"]]:
        """The upper level at the policies of ``theta``, and the gradient of G that ``route`` gives there."""
        log_pi, gamma = log_policy(theta), world.gamma
        pi = log_pi.exp()
        if self.upper == "utility":
            upper = utility_upper(world.P, world.mu, pi, world.r, nu.shape[-1], gamma=gamma)
        else:
            found = paths_of(access.model, self.segment)
            columns = (found.states, found.actions, found.mask, found.dynamics)
            states, actions, mask, dynamics = (torch.tensor(x, device=nu.device) for x in columns)
            upper = preference_upper(
                states, actions, mask, dynamics, log_pi, world.r, world.phi, nu, gamma=gamma, scale=self.teacher_scale
            )
        T1 = self.distribution_term(nu, theta, pi, upper, world)
        return upper, total(T1, upper.direct, nu, self.ridge)

    def distribution_term(
        self,
        nu: Float[torch.Tensor, "n m"],
        theta: Float[torch.Tensor, "n S A"],
        pi: Float[torch.Tensor, "n S A"],
        upper: Upper,
        world: TorchWorld,
    ) -> Float[torch.Tensor, "n m"]:
        """T1 by the route of this design."""
        P, mu, phi, gamma, tau = world.P, world.mu, world.phi, world.gamma, self.tau
        if self.route == "none":
            return torch.zeros_like(nu)
        if self.route == "closed":
            return closed_term(upper.weights, feature_advantages(P, pi, phi, gamma=gamma), tau)
        b = upper_gradient(upper.weights, pi)
        if self.route == "fisher":
            return fisher_term(P, mu, phi, theta, b, gamma=gamma, tau=tau)
        if self.route == "identity":
            return mixed_pullback(P, mu, phi, theta, b / self.curvature, gamma=gamma)
        return implicit_term(P, mu, designed(phi, nu), phi, theta, b, gamma=gamma, tau=tau)

    def policy(self, state: ParlState) -> TabularSoftmax:
        """The lower level's policies."""
        _, S, A = state.theta.shape
        return TabularSoftmax(state.theta.flatten(1), S, A)


def designed(features: Float[torch.Tensor, "S A m"], nu: Float[torch.Tensor, "*n m"]) -> Float[torch.Tensor, "*n S A"]:
    """``r_nu = features . nu``."""
    return torch.einsum("sam,...m->...sa", features, nu)


def total(
    T1: Float[torch.Tensor, "*n m"], T2: Float[torch.Tensor, "*n m"], nu: Float[torch.Tensor, "*n m"], ridge: float
) -> Float[torch.Tensor, "*n m"]:
    """The hypergradient: distribution term, direct term, and that of ``-ridge |nu|^2``."""
    return T1 + T2 - 2 * ridge * nu
