"""Updates for many replicas: where a composition samples, in which direction it goes, and how far; see the reference.

The Hessian-vector product of HARPG is taken by going back twice through the sequence-ratio surrogate
``mean A_i exp(l_i - stopgrad(l_i))``: no work per sample, and no closed form of the policy.

References: [fatkhullin2023] Fatkhullin, Barakat, Kireeva and He, Stochastic Policy Gradient Methods: Improved Sample
Complexity for Fisher-non-degenerate Policies, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Kind, Unit
from polytheory.scaled.policy_gradient.schedules import SCHEDULES, momentum_weight, step_size
from polytheory.scaled.policy_gradient.steps import interpolate as interpolate
from polytheory.scaled.policy_gradient.steps import lookahead as lookahead
from polytheory.scaled.policy_gradient.steps import momentum as momentum
from polytheory.scaled.policy_gradient.steps import normalised_step, plain_step
from polytheory.scaled.policy_gradient.steps import recursive_momentum as recursive_momentum
from polytheory.scaled.posttraining.base import PARTS
from polytheory.streams import row_ids, subseed, uniforms

Vectors = Float[torch.Tensor, "R d"]
Columns = dict[str, Any]


@PARTS.part(
    Kind.UPDATE, reads=("log_probs",), now=("log_probs",), unit=Unit.GROUP, source="gradient descent", name="sgd"
)
@dataclass(frozen=True)
class Sgd:
    """``updates`` steps of size ``step_size``, both of the composition, on completions of its behaviour policy."""

    def check(self, method: Any) -> None:
        """Any composition will do."""

    def step(self, method: Any, state: Any, access: Any) -> tuple[Any, dict[str, Any]]:
        """Sample once, prepare, then gradient steps."""
        sampled, replicas, memory = method.collect(state, access)
        loss, first = method.gradient(replicas, state.theta)
        theta = state.theta - method.step_size * first
        for _ in range(method.updates - 1):
            _, gradient = method.gradient(replicas, theta)
            theta = theta - method.step_size * gradient
        info = method.info(sampled, replicas, loss, first)
        return method.advanced(state, theta, memory), {**info, **method.report(replicas, state.theta)}


@dataclass(frozen=True)
class Momentum:
    """What the two methods share; fields, state and errors as in the reference."""

    gamma0: float = 0.1
    eta0: float = 1.0
    schedule: str = "theorem"
    normalised: bool = True

    step_exponent: ClassVar[float] = 1.0
    momentum_exponent: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not (self.gamma0 > 0 and np.isfinite(self.gamma0)):
            raise SettingError(f"gamma0 = {self.gamma0}; a step size is positive and finite, try 0.1")
        if not 0 < self.eta0 <= 1:
            raise SettingError(f"eta0 = {self.eta0}; a momentum weight lies in (0, 1], the theorems take 1")
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)

    def check(self, method: Any) -> None:
        """Raise `SettingError` for several updates on the same completions: these methods are on-policy."""
        if method.updates != 1:
            raise SettingError(f"updates = {method.updates}; {type(self).__name__} takes every completion once, set 1")

    def eta(self, t: int) -> float:
        """Momentum weight of step t."""
        return momentum_weight(self.eta0, t, self.momentum_exponent, self.schedule)

    def moved(self, theta: Vectors, d: Vectors, t: int) -> Vectors:
        """One step of descent along d."""
        exponent = self.step_exponent if self.normalised else 1 / 2
        gamma = step_size(self.gamma0, t, exponent, self.schedule)
        return normalised_step(theta, -d, gamma) if self.normalised else plain_step(theta, -d, gamma)

    def finish(
        self, method: Any, state: Any, at: Vectors, d: Vectors, collected: Any, loss: Any, g: Vectors
    ) -> tuple[Any, dict[str, Any]]:
        """Step where there was a row to learn from; remember; report at the weights that sampled."""
        sampled, replicas, memory = collected
        some = torch.tensor([[len(own["mask"]) > 0] for own in replicas], device=d.device)
        d = torch.where(some, d, remembered(state)[1])
        theta = torch.where(some, self.moved(state.theta, d, state.t), state.theta)
        for own, previous, direction in zip(memory, state.theta, d, strict=True):
            own["update"] = {"previous": previous.clone(), "direction": direction.clone()}
        info = method.info(sampled, replicas, loss, g)
        return method.advanced(state, theta, memory), {**info, **method.report(replicas, at)}


@PARTS.part(
    Kind.UPDATE, reads=("log_probs",), now=("log_probs",), unit=Unit.GROUP, source="fatkhullin2023, Algorithm 1",
    name="n_pg_igt",
)  # fmt: skip
@dataclass(frozen=True)
class NPgIgt(Momentum):
    """N-PG-IGT: completions and gradient belong to the look-ahead weights; fields as in `Momentum`."""

    momentum_exponent: ClassVar[float] = 4 / 5

    def step(self, method: Any, state: Any, access: Any) -> tuple[Any, dict[str, Any]]:
        """Sample at the look-ahead, differentiate there, average, step from the current weights."""
        (previous, d), eta = remembered(state), self.eta(state.t)
        ahead = lookahead(state.theta, previous, eta)
        collected = method.collect(replace(state, theta_old=ahead), access)
        loss, g = method.gradient(collected[1], ahead)
        return self.finish(method, state, ahead, g if state.t == 0 else momentum(d, g, eta), collected, loss, g)


@PARTS.part(
    Kind.UPDATE, reads=("advantages", "log_probs"), now=("log_probs",), unit=Unit.GROUP,
    source="fatkhullin2023, Algorithm 2", name="harpg",
)  # fmt: skip
@dataclass(frozen=True)
class Harpg(Momentum):
    """(N-)HARPG: a second batch between the last two weights; fields as in `Momentum`, not normalised by default."""

    normalised: bool = False

    def check(self, method: Any) -> None:
        """Raise `SettingError` unless the loss is ``-A log pi`` summed over tokens, whose Hessian this is."""
        super().check(method)
        losses = [use for use in method.recipe() if PARTS[use.part].kind == Kind.LOSS]
        names = [use.part for use in losses]
        if names != ["reinforce"] or losses[0].weight != 1 or method.normalisation != "seq_sum":
            raise SettingError(
                f"losses {names} under {method.normalisation!r}: HARPG's Hessian is that of E[-A log pi]; use "
                "surrogate='reinforce', normalisation='seq_sum' and no KL loss"
            )

    def step(self, method: Any, state: Any, access: Any) -> tuple[Any, dict[str, Any]]:
        """Gradient at the current weights, direction carried to them by a Hessian-vector product on the second batch.

        A replica whose first batch has no row samples its second batch beside the others all the same; a run of its own
        would not, so that the meter counts less there.
        """
        d, eta = remembered(state)[1], self.eta(state.t)
        collected = method.collect(replace(state, theta_old=state.theta), access)
        loss, g = method.gradient(collected[1], state.theta)
        if state.t:
            d = recursive_momentum(d, self.difference(method, state, access), g, eta)
        return self.finish(method, state, state.theta, d if state.t else g, collected, loss, g)

    def difference(self, method: Any, state: Any, access: Any) -> Vectors:
        """Estimate of ``grad L(theta_t) - grad L(theta_{t-1})``: Hessian at a uniform point between, times the difference."""
        previous = remembered(state)[0]
        ids = torch.as_tensor(row_ids(state.replica.numpy(force=True), 0), device=state.theta.device)
        q = uniforms(state.seed, f"{method.name}/q", state.t, ids, 1).to(state.theta)
        between = interpolate(state.theta, previous, q)
        # a seed of its own: the second batch is independent of the first
        hat = replace(state, theta_old=between, seed=subseed(state.seed, f"{method.name}/tau_hat"))
        _, replicas, _ = method.collect(hat, access)
        return loss_hvp(method, replicas, between, state.theta - previous)


def remembered(state: Any) -> tuple[Vectors, Vectors]:
    """The last weights and directions; before the first step the weights themselves and 0."""
    if not all("update" in own for own in state.memory):
        return state.theta, torch.zeros_like(state.theta)
    previous, direction = (torch.stack([own["update"][k] for own in state.memory]) for k in ("previous", "direction"))
    return previous.to(state.theta), direction.to(state.theta)


def loss_hvp(method: Any, replicas: Sequence[Columns], theta: Vectors, u: Vectors) -> Vectors:
    """``mean_i -A_i (hess l_i + grad l_i grad l_i^T) u`` of every replica at ``theta``; advantages [n]; 0 without a row."""
    if not any(len(columns["mask"]) for columns in replicas):
        return torch.zeros_like(theta)  # nothing to go back through
    theta = theta.detach().requires_grad_(True)
    total = 0.0 * theta.sum()
    for i, columns in enumerate(replicas):
        if len(columns["mask"]):
            total = total + ratio_surrogate(method.log_probs(columns, theta[i : i + 1]), columns["advantages"])
    (slope,) = torch.autograd.grad(total, theta, create_graph=True)
    (found,) = torch.autograd.grad((slope * u).sum(), theta)
    return found


def ratio_surrogate(log_probs: Float[torch.Tensor, "n t"], advantages: Float[torch.Tensor, " n"]) -> torch.Tensor:
    """``mean_i -A_i exp(l_i - stopgrad(l_i))``, l_i the log-prob of completion i (0 where masked)."""
    if advantages.ndim != 1:
        raise SettingError("HARPG needs one advantage per completion; these are per token")
    l = log_probs.sum(1)
    return -(advantages.detach().to(l) * (l - l.detach()).exp()).mean()
