"""PARL: reward design that knows how its data move with the reward [chakraborty2024].

Setting: a reward ``r_nu = features . nu``; the lower level answers with the best policy of an entropy-regularised MDP; the
upper level maximises ``G(nu) = U(nu, pi*_nu) - ridge |nu|^2``, U the true return or the likelihood of a teacher's choices.

Update: ``nu <- nu + alpha (T1 + T2 - 2 ridge nu)``. T2 is the gradient for data held fixed; the distribution term T1 is
what changes because the data come from ``pi*_nu``: ``T1 = E[u(tau) sum_h d log pi*(a_h | s_h) / d nu]``, with
``d theta* / d nu = -(hess_theta V)^+ d^2 V / dtheta dnu``.

Guarantee: with ``alpha <= 1 / L`` and an exact lower level,
``(1 / T) sum_{t < T} |grad G(nu_t)|^2 <= 2 (G(nu_T) - G(nu_0)) / (alpha T)``; with an inexact one the hypergradient is off
by at most a constant times the error of the logits.

References: [chakraborty2024] Chakraborty, Bedi, Koppel, Wang, Manocha, Wang and Huang, PARL: A Unified Framework for
Policy Alignment in Reinforcement Learning, ICLR 2024, arXiv:2308.02585. [geist2019] Geist, Scherrer and Pietquin, A
Theory of Regularized Markov Decision Processes, ICML 2019. [bradley1952] Bradley and Terry, Rank Analysis of Incomplete
Block Designs, Biometrika 39. [furmston2016] Furmston, Lever and Barber, Approximate Newton Methods for Policy Search in
Markov Decision Processes, JMLR 17.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.policies import TabularPolicy
from polytheory.reference.alignment.bilevel import (
    closed_term,
    fisher_term,
    implicit_term,
    lower_slope,
    mixed_pullback,
    upper_gradient,
)
from polytheory.reference.alignment.conjugate import conjugate_gradients as conjugate_gradients
from polytheory.reference.alignment.language import group_covariance as group_covariance
from polytheory.reference.alignment.sampled import SampledParl as SampledParl
from polytheory.reference.alignment.soft import feature_advantages, log_policy, soft_sweep
from polytheory.reference.alignment.softmax import TabularSoftmax as TabularSoftmax
from polytheory.reference.alignment.upper import Upper, preference_upper, utility_upper
from polytheory.reward_design import ExactDesign, World, paths_of, world_of


@dataclass(frozen=True, eq=False)
class ParlState:
    """State of exact reward design.

    Fields:
        nu: [m] parameters of the reward. theta: [S, A] logits of the lower level.
        value: G at the last upper step (NaN before). gradient: [m] the hypergradient there.
        gap: bound on what the policy before the last lower step loses in the regularised problem, in any state, as a part
            of 1 + the largest value; infinite where not measured.
        k: lower steps since the last upper one. t: upper steps.
    """

    nu: Float[np.ndarray, " m"]
    theta: Float[np.ndarray, "S A"]
    value: float
    gradient: Float[np.ndarray, " m"]
    gap: float
    k: int
    t: int


@dataclass(frozen=True, eq=False)
class Parl(ExactDesign):
    """A-PARL with a known model; fields as in `ExactDesign` and `Design`.

    One step is one step of the lower level or, when that has ended, one of the upper level.
    """

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> ParlState:
        """At ``nu0`` with a uniform policy."""
        S, A = int(access.spec.S), int(access.spec.A)
        nu = self.start(self.features_of(S, A).shape[2])
        return ParlState(nu, np.zeros((S, A)), np.nan, np.zeros_like(nu), np.inf, 0, 0)

    def step(self, state: ParlState, access: Any) -> tuple[ParlState, Info]:
        """Improve the lower level's policy, or move nu."""
        world = world_of(access.model)
        S, A = world.r.shape
        features, theta = self.features_of(S, A), state.theta
        if self.solved(state):
            upper, gradient = self.hypergradient(state.nu, theta, features, world, access)
            after = replace(
                state, nu=state.nu + self.alpha * gradient, value=upper.value - self.ridge * float(state.nu @ state.nu),
                gradient=gradient, gap=np.inf, k=0, t=state.t + 1,
            )  # fmt: skip
        else:
            r = designed(features, state.nu)
            if self.lower == "newton":
                theta, gap, size = soft_sweep(world.P, r, theta, gamma=world.gamma, tau=self.tau)
                after = replace(state, theta=theta, gap=gap / (1 + size), k=state.k + 1)
            else:
                slope = lower_slope(world.P, world.mu, r, theta, gamma=world.gamma, tau=self.tau)
                after = replace(state, theta=theta + self.lower_step * slope, k=state.k + 1)
            access.meter.add("backups", S * A)
        return after, {
            "objective": after.value, "gradient_norm": float(np.linalg.norm(after.gradient)), "iterations": after.t,
            "lower_steps": after.k,
        }  # fmt: skip

    def solved(self, state: ParlState) -> bool:
        """True when the lower level has done what ``lower`` asks for."""
        return state.gap <= self.lower_tol if self.lower == "newton" else state.k >= self.lower_steps

    def hypergradient(
        self,
        nu: Float[np.ndarray, " m"],
        theta: Float[np.ndarray, "S A"],
        features: Float[np.ndarray, "S A m"],
        world: World,
        access: Any,
    ) -> tuple[Upper, Float[np.ndarray, " m"]]:
        """The upper level at the policy of ``theta``, and the gradient of G that ``route`` gives there."""
        P, mu, gamma, log_pi = world.P, world.mu, world.gamma, log_policy(theta)
        pi = np.exp(log_pi)
        if self.upper == "utility":
            upper = utility_upper(P, mu, pi, world.r, len(nu), gamma=gamma)
        else:
            found = paths_of(access.model, self.segment)
            upper = preference_upper(
                found.states, found.actions, found.mask, found.dynamics, log_pi, world.r, features, nu, gamma=gamma,
                scale=self.teacher_scale,
            )  # fmt: skip
        T1 = self.distribution_term(nu, theta, pi, features, upper, world)
        return upper, total(T1, upper.direct, nu, self.ridge)

    def distribution_term(
        self,
        nu: Float[np.ndarray, " m"],
        theta: Float[np.ndarray, "S A"],
        pi: Float[np.ndarray, "S A"],
        features: Float[np.ndarray, "S A m"],
        upper: Upper,
        world: World,
    ) -> Float[np.ndarray, " m"]:
        """T1 by the route of this design."""
        P, mu, gamma, tau = world.P, world.mu, world.gamma, self.tau
        if self.route == "none":
            return np.zeros_like(nu)
        if self.route == "closed":
            return closed_term(upper.weights, feature_advantages(P, pi, features, gamma=gamma), tau)
        b = upper_gradient(upper.weights, pi)
        if self.route == "fisher":
            return fisher_term(P, mu, features, theta, b, gamma=gamma, tau=tau)
        if self.route == "identity":
            return mixed_pullback(P, mu, features, theta, b / self.curvature, gamma=gamma)
        return implicit_term(P, mu, designed(features, nu), features, theta, b, gamma=gamma, tau=tau)

    def policy(self, state: ParlState) -> TabularPolicy:
        """The lower level's policy."""
        return TabularPolicy(np.exp(log_policy(state.theta)))


def designed(features: Float[np.ndarray, "S A m"], nu: Float[np.ndarray, " m"]) -> Float[np.ndarray, "S A"]:
    """``r_nu = features . nu``."""
    return features @ nu


def total(
    T1: Float[np.ndarray, " m"], T2: Float[np.ndarray, " m"], nu: Float[np.ndarray, " m"], ridge: float
) -> Float[np.ndarray, " m"]:
    """The hypergradient: distribution term, direct term, and that of ``-ridge |nu|^2``."""
    return T1 + T2 - 2 * ridge * nu
