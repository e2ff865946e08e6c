"""PARL with a reward network and a policy network, from episodes and a scripted teacher's choices.

One surrogate carries all derivatives of the lower level. With log-probabilities l_h and ``S_h = l_0 + ... + l_h``::

    L = mean sum_h gamma^h (r_nu(s_h, a_h) - tau l_h) exp(S_h - stop(S_h))  +  baseline terms of mean zero

Its gradient in theta is the policy gradient, its Hessian has ``hess V`` as mean, the outer product included, and its mixed
derivative that of V [foerster2018]. So a Hessian-vector product is one more backward pass, conjugate gradients take a few, and
``M^T z`` is the derivative of ``grad L . z`` in the reward network: nothing of the size of a matrix is formed.

The sampled Hessian is indefinite in nearly every batch: conjugate gradients stop at once, or after a direction of almost no
curvature, and then one hypergradient is hundreds of times too long. ``tau F_x`` is a mean of squares in every batch, and is
``-hess V`` where the lower level is solved: the default.

References: [foerster2018] Foerster, Farquhar, Al-Shedivat, Rocktaeschel, Xing and Whiteson, DiCE: The Infinitely
Differentiable Monte Carlo Estimator, ICML 2018. [lee2021] Lee, Smith and Abbeel, PEBBLE: Feedback-Efficient Interactive
Reinforcement Learning via Relabeling Experience and Unsupervised Pre-training, ICML 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.reward_design import TERMS
from polytheory.scaled.alignment.conjugate import conjugate_gradients
from polytheory.scaled.alignment.trajectory import later, masked, present_value, returns_along, without_own
from polytheory.scaled.alignment.upper import label_likelihood, teacher
from polytheory.scaled.policy_gradient.torch_policy import TorchPolicy
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories


@dataclass(eq=False)
class Adam:
    """Moments of Adam [kingma2015] for one flat vector. Fields: ``m``, ``v`` [d]; ``t`` steps made."""

    m: Float[torch.Tensor, " d"]
    v: Float[torch.Tensor, " d"]
    t: int = 0

    def ascend(
        self, x: Float[torch.Tensor, " d"], g: Float[torch.Tensor, " d"], rate: float
    ) -> tuple[Float[torch.Tensor, " d"], Adam]:
        """Where one step along ``g`` leads from ``x``, and the moments after it."""
        m, v, t = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g**2, self.t + 1
        return x + rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8), Adam(m, v, t)


@dataclass(eq=False)
class DeepState:
    """Fields: ``nu`` [1, m] weights of the reward network; ``theta`` [1, d] of the policy network; ``lower``, ``upper`` Adam's
    moments; ``gradient`` [m] the last hypergradient; ``labels`` choices made; ``k``, ``t``, ``seed`` as in `SampledParl`."""

    nu: Float[torch.Tensor, "1 m"]
    theta: Float[torch.Tensor, "1 d"]
    lower: Adam
    upper: Adam
    gradient: Float[torch.Tensor, " m"]
    labels: int
    k: int
    t: int
    seed: int


@dataclass(frozen=True, eq=False)
class DeepParl:
    """A-PARL with networks, one replica.

    Fields:
        policy: logits of actions, a `TorchPolicy` on the access's states (for faster sampling with a method ``table``).
        reward: rewards of all actions, a `TorchPolicy` too: its "logits" at weights nu are ``r_nu(s, .)``.
        tau: entropy weight, > 0. truncation: steps of an episode and of a compared segment, >= 1.
        alpha: Adam's rate for the reward, lower_rate for the policy, > 0. ridge: of ``-ridge |nu|^2``, >= 0.
        lower_steps, lower_batch: policy steps between two upper ones, and their episodes, >= 1 and >= 2.
        upper_batch: labelled pairs of an upper step, >= 2. curvature_batch: other episodes, >= 2.
        term: "fisher" or "implicit"; the ablations "identity" and "none", the last of which is what preference learning on
            on-policy data does as a rule [lee2021].
        damping, cg_steps, teacher_scale: as in `SampledParl`.

    Raises `SettingError` and `UnknownNameError` for values outside of these.
    """

    policy: TorchPolicy
    reward: TorchPolicy
    tau: float = 0.1
    truncation: int = 20
    alpha: float = 3e-3
    lower_rate: float = 1e-2
    ridge: float = 1e-3
    lower_steps: int = 10
    lower_batch: int = 32
    upper_batch: int = 16
    curvature_batch: int = 32
    term: str = "fisher"
    damping: float = 0.1
    cg_steps: int = 10
    teacher_scale: float = 1.0

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})

    def __post_init__(self) -> None:
        least = {
            "truncation": 1,
            "lower_steps": 1,
            "lower_batch": 2,
            "upper_batch": 2,
            "curvature_batch": 2,
            "cg_steps": 1,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least {low}")
        for name in ("tau", "alpha", "lower_rate", "damping"):
            if not (getattr(self, name) > 0 and np.isfinite(getattr(self, name))):
                raise SettingError(f"{name} = {getattr(self, name)}; it must be positive and finite")
        if self.term not in TERMS:
            raise UnknownNameError("distribution term", self.term, TERMS)

    def init(self, access: Any, seed: int, replica: int = 0) -> DeepState:
        """At the networks' own weights. Raises `SettingError` for several replicas."""
        if access.replicas != 1:
            raise SettingError(
                f"networks are one replica, but the access has {access.replicas}; use access.replicate(1)"
            )
        nu, theta = self.reward.theta.clone(), self.policy.theta.clone()
        lower, upper = (Adam(torch.zeros_like(x[0]), torch.zeros_like(x[0])) for x in (theta, nu))
        return DeepState(nu, theta, lower, upper, torch.zeros_like(nu[0]), 0, 0, 0, seed)

    def step(self, state: DeepState, access: Any) -> tuple[DeepState, Info]:
        """Improve the policy, or move the reward."""
        gamma = access.spec.gamma
        if state.k < self.lower_steps:
            traj = self.sample(state, access, f"lower-{state.k}", self.lower_batch)
            theta = state.theta.detach().requires_grad_()
            g = torch.autograd.grad(self.surrogate(theta, state.nu, traj, gamma), theta)[0][0]
            theta, lower = state.lower.ascend(state.theta[0], g, self.lower_rate)
            after = replace(state, theta=theta[None], lower=lower, k=state.k + 1)
            return after, {"labels": state.labels, "iterations": state.t}
        traj = self.sample(state, access, "upper", 2 * self.upper_batch)
        u, T2 = self.preferences(state, traj, gamma)
        T1 = torch.zeros_like(T2)
        if self.term != "none":
            theta = state.theta.detach().requires_grad_()
            steps = self.log_probs(theta, traj)
            b = torch.autograd.grad((u * masked(steps, traj.mask).sum(1)).mean(), theta)[0][0]
            other = self.sample(state, access, "curvature", self.curvature_batch)
            T1 = self.distribution_term(state, other, b, gamma)
        gradient = T1 + T2 - 2 * self.ridge * state.nu[0]
        nu, upper = state.upper.ascend(state.nu[0], gradient, self.alpha)
        after = replace(
            state,
            nu=nu[None],
            upper=upper,
            gradient=gradient,
            k=0,
            t=state.t + 1,
            labels=state.labels + self.upper_batch,
        )
        return after, {"labels": after.labels, "iterations": after.t}

    def surrogate(
        self, theta: Float[torch.Tensor, "1 d"], nu: Float[torch.Tensor, "1 m"], traj: Trajectories, gamma: float
    ) -> Float[torch.Tensor, ""]:
        """L of the module's docstring, differentiable twice in theta and in nu."""
        log_pi, r = masked(self.log_probs(theta, traj), traj.mask), masked(self.rewards(nu, traj), traj.mask)
        rho = present_value(r - self.tau * log_pi, gamma)
        S = log_pi.cumsum(1)
        # what the others of the batch still earned: knows nothing of this row's actions. It moves with nu, so that the mixed
        # derivative has it too
        returns = later(present_value(r - self.tau * log_pi.detach(), gamma))
        baseline = masked((returns.sum(0) - returns) / (len(returns) - 1), traj.mask)
        own = 1 - (log_pi - log_pi.detach()).exp()
        return (rho * (S - S.detach()).exp() + baseline * own).sum(1).mean()

    def log_probs(self, theta: Float[torch.Tensor, "1 d"], traj: Trajectories) -> Float[torch.Tensor, "n t"]:
        """``log pi_theta(a_h | s_h)`` along trajectories."""
        states: Any = traj.states
        return self.policy.with_theta(theta).log_probs(states, traj.actions)

    def rewards(self, nu: Float[torch.Tensor, "1 m"], traj: Trajectories) -> Float[torch.Tensor, "n t"]:
        """``r_nu(s_h, a_h)`` along trajectories."""
        states: Any = traj.states
        every = self.reward.with_theta(nu).logits(states.flatten(0, 1))
        return every.gather(1, traj.actions.reshape(-1, 1)).view(traj.actions.shape)

    def preferences(
        self, state: DeepState, traj: Trajectories, gamma: float
    ) -> tuple[Float[torch.Tensor, " n"], Float[torch.Tensor, " m"]]:
        """Utilities of the trajectories of labelled pairs, less a baseline, and the Bradley-Terry gradient T2."""
        true = returns_along(traj, traj.rewards, gamma=gamma)
        nu = state.nu.detach().requires_grad_()
        R = returns_along(traj, masked(self.rewards(nu, traj), traj.mask), gamma=gamma)
        p = teacher(true[0::2], true[1::2], self.teacher_scale)
        ids = torch.as_tensor(row_ids(0, np.arange(self.upper_batch)), device=p.device)
        y = (uniforms(state.seed, "deep-parl/labels", state.t, ids, 1)[:, 0] < p).to(R)
        ell = label_likelihood(y, R[0::2] - R[1::2])
        T2 = torch.autograd.grad(ell.mean(), nu)[0][0]
        return 2 * without_own(ell.detach()).repeat_interleave(2), T2

    def distribution_term(
        self, state: DeepState, traj: Trajectories, b: Float[torch.Tensor, " d"], gamma: float
    ) -> Float[torch.Tensor, " m"]:
        """``M^T z`` with ``(C + damping) z = b``, C being ``-hess V`` or ``tau F_x``, both matrices estimated from ``traj``."""
        theta, nu = state.theta.detach().requires_grad_(), state.nu.detach().requires_grad_()
        slope = torch.autograd.grad(self.surrogate(theta, nu, traj, gamma), theta, create_graph=True)[0][0]

        fisher = self.fisher(theta, traj, gamma) if self.term == "fisher" else None

        def apply(p: Float[torch.Tensor, " d"]) -> Float[torch.Tensor, " d"]:
            if fisher is not None:
                return self.damping * p + self.tau * fisher(p)
            return self.damping * p - torch.autograd.grad((slope * p).sum(), theta, retain_graph=True)[0][0]

        z = b / self.damping if self.term == "identity" else conjugate_gradients(apply, b, steps=self.cg_steps)
        return torch.autograd.grad((slope * z).sum(), nu)[0][0]

    def fisher(
        self, theta: Float[torch.Tensor, "1 d"], traj: Trajectories, gamma: float
    ) -> Callable[[Float[torch.Tensor, " d"]], Float[torch.Tensor, " d"]]:
        """``p -> F_x p`` from ``traj``, mean of ``sum_h gamma^h z_h (z_h . p)``: two backward passes, the first of which is
        linear in its weights, so that its own derivative in them is ``z_h . p``."""
        at = theta.detach().requires_grad_()
        log_pi = masked(self.log_probs(at, traj), traj.mask)
        weights = torch.zeros_like(log_pi, requires_grad=True)
        pulled = torch.autograd.grad(log_pi, at, weights, create_graph=True)[0][0]

        def product(p: Float[torch.Tensor, " d"]) -> Float[torch.Tensor, " d"]:
            along = torch.autograd.grad((pulled * p).sum(), weights, retain_graph=True)[0]
            seen = present_value(along, gamma) / len(along)
            return torch.autograd.grad(log_pi, at, seen, retain_graph=True)[0][0]

        return product

    def sample(self, state: DeepState, access: Any, use: str, batch: int) -> Trajectories:
        """A batch of episodes from the stream of this use."""
        ids, key = row_ids(0, np.arange(batch)), Key(state.seed, f"deep-parl/{use}", state.t)
        with self.policy.at(state.theta) as policy:
            return access.rollouts(policy, Requests(ids, self.truncation), key)

    def done(self, state: DeepState) -> bool:
        """A learner is never done by itself."""
        return False


class StateNetwork(TorchPolicy):
    """A `TorchPolicy` on numbered states that also answers with its whole table, so that sampling needs one forward pass.

    Args: as for `TorchPolicy`; ``module`` maps state numbers [n] to [n, A]; ``n_states`` S.
    """

    def __init__(self, module: torch.nn.Module, n_states: int, theta: Float[torch.Tensor, "1 d"] | None = None):
        super().__init__(module, theta)
        self.n_states = n_states

    def with_theta(self, theta: Float[torch.Tensor, "1 d"]) -> StateNetwork:
        """The same module at other parameters."""
        return StateNetwork(self.module, self.n_states, theta)

    def table(self) -> Float[torch.Tensor, "1 S A"]:
        """Probabilities of all actions in all states, float64."""
        return self.probs(None, 0, torch.arange(self.n_states, device=self.theta.device))[None]


class CoordinateNetwork(torch.nn.Module):
    """Numbers of states -> coordinates [S, k] -> a hidden layer of ``width``, drawn from ``seed`` -> A outputs, 0 at first."""

    def __init__(self, coordinates: Float[np.ndarray, "S k"], n_actions: int, width: int = 32, seed: int = 0):
        super().__init__()
        self.register_buffer("coordinates", torch.tensor(coordinates))
        generator = torch.Generator().manual_seed(seed)
        first = torch.nn.Linear(coordinates.shape[1], width, dtype=torch.float64)
        last = torch.nn.Linear(width, n_actions, dtype=torch.float64)
        with torch.no_grad():
            draws = torch.randn(first.weight.shape, generator=generator, dtype=torch.float64)
            first.weight.copy_(draws / coordinates.shape[1] ** 0.5)
            for zero in (first.bias, last.weight, last.bias):
                zero.zero_()
        self.first, self.last = first, last

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Outputs [n, A] of states [n]."""
        return self.last(torch.tanh(self.first(self.coordinates[states])))  # type: ignore[index]
