"""Updates: where a composition samples, in which direction it goes, and how far.

Plain gradient descent samples at the current parameters. N-PG-IGT samples and differentiates at a look-ahead; HARPG takes a
second batch between the last two parameters, for a Hessian-vector product that carries its direction along
[fatkhullin2023, Algorithms 1 and 2]. Everything here descends on the loss.

For terminal advantages A_i the Hessian estimate is that of the sequence-ratio surrogate ``mean A_i exp(l_i - sg(l_i))``:
its gradient is ``A_i grad l_i``, its Hessian ``A_i (hess l_i + grad l_i grad l_i^T)``, row by row. A baseline that does not
depend on the row's own completion leaves its mean as it is, since ``E[hess l + grad l grad l^T] = 0``.

References: [fatkhullin2023] Fatkhullin, Barakat, Kireeva and He, Stochastic Policy Gradient Methods: Improved Sample
Complexity for Fisher-non-degenerate Policies, ICML 2023.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Kind, Unit
from polytheory.reference.policy_gradient.schedules import SCHEDULES, momentum_weight, step_size
from polytheory.reference.policy_gradient.steps import interpolate as interpolate
from polytheory.reference.policy_gradient.steps import lookahead as lookahead
from polytheory.reference.policy_gradient.steps import momentum as momentum
from polytheory.reference.policy_gradient.steps import normalised_step, plain_step
from polytheory.reference.policy_gradient.steps import recursive_momentum as recursive_momentum
from polytheory.reference.posttraining.base import PARTS
from polytheory.streams import row_ids, subseed, uniforms

Vector = Float[np.ndarray, " d"]


@PARTS.part(
    Kind.UPDATE, reads=("log_probs",), now=("log_probs",), unit=Unit.GROUP, source="gradient descent", name="sgd"
)
@dataclass(frozen=True)
class Sgd:
    """``updates`` steps of size ``step_size``, both of the composition, on completions of its behaviour policy."""

    def check(self, method: Any) -> None:
        """Any composition will do."""

    def step(self, method: Any, state: Any, access: Any) -> tuple[Any, dict[str, Any]]:
        """Sample once, prepare, then gradient steps; without a row nothing moves, but the clock advances."""
        sampled, columns, memory = method.collect(state, access)
        theta, first = state.theta, (0.0, np.zeros_like(state.theta))
        for i in range(method.updates if len(columns["mask"]) else 0):
            loss, gradient = method.gradient(columns, theta)
            first = (loss, gradient) if i == 0 else first
            theta = theta - method.step_size * gradient
        info = method.info(sampled, columns, first[0], first[1])
        return method.advanced(state, theta, memory), {**info, **method.report(columns, state.theta)}


@dataclass(frozen=True)
class Momentum:
    """What the two methods share.

    Fields:
        gamma0: base step size, > 0. eta0: momentum weight of the first step, in (0, 1]; the theorems take 1.
        schedule: "theorem", "constant-step", "constant-momentum" or "constant"; base times a power of 2 / (t + 2).
        normalised: steps ``gamma d / |d|`` with one norm over all parameters, or ``gamma d``.

    State beyond the composition's: ``memory["update"]`` with ``previous`` and ``direction``, [d] each.
    Raises `SettingError`, `UnknownNameError`.
    """

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

    def moved(self, theta: Vector, d: Vector, t: int) -> Vector:
        """One step of descent along d."""
        exponent = self.step_exponent if self.normalised else 1 / 2
        gamma = step_size(self.gamma0, t, exponent, self.schedule)
        return normalised_step(theta, -d, gamma) if self.normalised else plain_step(theta, -d, gamma)


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
        own, eta = remembered(state), self.eta(state.t)
        ahead = lookahead(state.theta, own["previous"], eta)
        sampled, columns, memory = method.collect(replace(state, theta_old=ahead), access)
        theta, d, loss, g = state.theta, own["direction"], 0.0, np.zeros_like(state.theta)
        if len(columns["mask"]):
            loss, g = method.gradient(columns, ahead)
            d = g if state.t == 0 else momentum(d, g, eta)
            theta = self.moved(theta, d, state.t)
        memory["update"] = {"previous": state.theta, "direction": d}
        info = method.info(sampled, columns, loss, g)
        return method.advanced(state, theta, memory), {**info, **method.report(columns, ahead)}


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
        """Gradient at the current weights, direction carried to them by a Hessian-vector product on the second batch."""
        own, eta = remembered(state), self.eta(state.t)
        sampled, columns, memory = method.collect(replace(state, theta_old=state.theta), access)
        theta, d, loss, g = state.theta, own["direction"], 0.0, np.zeros_like(state.theta)
        if len(columns["mask"]):
            loss, g = method.gradient(columns, theta)
            d = g if state.t == 0 else recursive_momentum(d, self.difference(method, state, access), g, eta)
            theta = self.moved(theta, d, state.t)
        memory["update"] = {"previous": state.theta, "direction": d}
        info = method.info(sampled, columns, loss, g)
        return method.advanced(state, theta, memory), {**info, **method.report(columns, state.theta)}

    def difference(self, method: Any, state: Any, access: Any) -> Vector:
        """Estimate of ``grad L(theta_t) - grad L(theta_{t-1})``: Hessian at a uniform point between, times the difference."""
        previous = remembered(state)["previous"]
        q = float(uniforms(state.seed, f"{method.name}/q", state.t, row_ids(state.replica, 0), 1)[0, 0])
        between = interpolate(state.theta, previous, q)
        # a seed of its own: the second batch is independent of the first
        hat = replace(state, theta_old=between, seed=subseed(state.seed, f"{method.name}/tau_hat"))
        _, columns, _ = method.collect(hat, access)
        if not len(columns["mask"]):
            return np.zeros_like(state.theta)
        return loss_hvp(method, columns, between, state.theta - previous)


def remembered(state: Any) -> dict[str, Vector]:
    """The last weights and direction; before the first step the weights themselves and 0."""
    start = {"previous": state.theta, "direction": np.zeros_like(state.theta)}
    return state.memory.get("update", start)


def loss_hvp(method: Any, columns: dict[str, Any], theta: Vector, u: Vector) -> Vector:
    """``mean_i -A_i (hess l_i + grad l_i grad l_i^T) u`` at ``theta``; advantages [n].

    The mean is of products: the product of means would be another thing.
    """
    states, actions, mask = columns["states"], columns["actions"], columns["mask"]
    policy = method.policy.with_theta(theta)
    if columns["advantages"].ndim != 1:
        raise SettingError("HARPG needs one advantage per completion; these are per token")
    weights = np.where(mask, -columns["advantages"][:, None], 0.0)
    along = np.where(mask, policy.directional(states, actions, u), 0.0).sum(axis=1)
    outer = along[:, None] * policy.score_sum(states, actions, weights)
    return (policy.hvp_sum(states, actions, weights, u) + outer).mean(axis=0)
