"""N-PG-IGT and HARPG as optimisers for any torch training loop: they keep the parameters, the loop does the sampling.

::

    opt = NPgIgtOptimizer(model.parameters(), gamma0=0.1)
    for _ in range(steps):
        with opt.lookahead():          # the model holds the look-ahead weights in here
            batch = sample(model)
            (-objective(model, batch)).backward()
        opt.step()                     # own weights again; uses the gradients just made

Like every torch optimiser they descend on a loss; a policy-gradient loss is minus the surrogate objective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.scaled.policy_gradient.means import sum_hvp
from polytheory.scaled.policy_gradient.schedules import SCHEDULES, momentum_weight, step_size
from polytheory.scaled.policy_gradient.steps import (
    interpolate,
    lookahead,
    momentum,
    normalised_step,
    plain_step,
    recursive_momentum,
)
from polytheory.scaled.policy_gradient.torch_policy import flat_parameters, load_parameters, parameters_at
from polytheory.streams import row_ids, uniforms


class _FlatOptimizer:
    """Parameters as one vector, the two vectors that the methods remember, and the clock."""

    step_exponent = 1.0
    momentum_exponent = 1.0

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        *,
        gamma0: float = 0.1,
        eta0: float = 1.0,
        schedule: str = "theorem",
    ):
        self.params = [p for p in params if p.requires_grad]
        if not self.params:
            raise SettingError("no parameter that requires a gradient; unfreeze some")
        if not gamma0 > 0:
            raise SettingError(f"gamma0 = {gamma0}; a step size is positive, try 0.1")
        if not 0 < eta0 <= 1:
            raise SettingError(f"eta0 = {eta0}; a momentum weight lies in (0, 1], the theorems take 1")
        if schedule not in SCHEDULES:
            raise UnknownNameError("schedule", schedule, SCHEDULES)
        self.gamma0, self.eta0, self.schedule = gamma0, eta0, schedule
        self.theta_prev, self.t = self.theta, 0
        self.d = torch.zeros_like(self.theta_prev)

    @property
    def theta(self) -> Float[torch.Tensor, " d"]:
        """A copy of the parameters as one vector."""
        return flat_parameters(self.params)

    @property
    def eta(self) -> float:
        """Momentum weight of the coming step."""
        return momentum_weight(self.eta0, self.t, self.momentum_exponent, self.schedule)

    def zero_grad(self) -> None:
        """Forget gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters themselves."""
        return {"theta_prev": self.theta_prev.clone(), "d": self.d.clone(), "t": self.t}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` saved."""
        self.theta_prev, self.d, self.t = state["theta_prev"].clone(), state["d"].clone(), int(state["t"])

    def _ascent(self) -> Float[torch.Tensor, " d"]:
        """Minus the gradients of the loss; parameters without one count as 0."""
        if all(p.grad is None for p in self.params):
            raise SettingError("no parameter has a gradient; call backward() inside lookahead(), or pass a closure")
        return -torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.params])

    def _move(self, d: Float[torch.Tensor, " d"], *, normalised: bool) -> None:
        size = step_size(self.gamma0, self.t, self.step_exponent, self.schedule)
        theta = self.theta
        move = normalised_step if normalised else plain_step
        load_parameters(self.params, move(theta, d, size))
        self.theta_prev, self.d, self.t = theta, d, self.t + 1


class NPgIgtOptimizer(_FlatOptimizer):
    """N-PG-IGT [fatkhullin2023, Algorithm 1]; NIGT [cutkosky2020] with ``schedule="constant"``.

    Args:
        params: parameters; all of them together make the norm.
        gamma0, eta0, schedule: as in `NPgIgt`.

    Raises `SettingError` and `UnknownNameError` for settings out of range.
    """

    momentum_exponent = 4 / 5

    @contextmanager
    def lookahead(self) -> Iterator[None]:
        """The parameters hold the look-ahead point inside the block, and come back whatever happens in it."""
        ahead = lookahead(self.theta, self.theta_prev, self.eta)
        with parameters_at(self.params, ahead):
            yield

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients made inside `lookahead`, or from those that ``closure`` makes there.

        Gradients are forgotten afterwards, since they belong to the look-ahead point. Returns what the closure returned.
        """
        loss = None
        if closure is not None:
            self.zero_grad()
            with self.lookahead(), torch.enable_grad():
                loss = closure()
        g = self._ascent()
        self._move(g if self.t == 0 else momentum(self.d, g, self.eta), normalised=True)
        self.zero_grad()
        return loss


class HarpgOptimizer(_FlatOptimizer):
    """HARPG, or N-HARPG with ``normalised=True`` [fatkhullin2023, Algorithm 2].

    ::

        batch = sample(model)
        with opt.between():            # a uniform point of the last step's segment
            batch_hat = sample(model)
        opt.step(terms, batch, batch_hat)

    where ``terms(batch)`` returns log-probabilities [n, t] of the model as it stands, 0 where masked, and the constant
    weights Psi [n, t]. The Hessian-vector product is exact, by double back-propagation; attention needs an
    implementation that can be differentiated twice ("eager").

    Args:
        params: parameters; all of them together make the norm.
        normalised: steps of length gamma_t along d.
        seed: of the random points.
        gamma0, eta0, schedule: as in `Harpg`.

    Raises `SettingError` and `UnknownNameError` for settings out of range.
    """

    def __init__(
        self, params: Iterable[torch.nn.Parameter], *, normalised: bool = False, seed: int = 0, **settings: Any
    ):
        super().__init__(params, **settings)
        self.normalised, self.seed = normalised, seed
        self.v: torch.Tensor | None = None
        self.step_exponent = 1.0 if normalised else 1 / 2

    @contextmanager
    def between(self, q: float | None = None) -> Iterator[None]:
        """The parameters hold ``q theta_t + (1 - q) theta_{t-1}`` inside the block, and come back afterwards.

        q in [0, 1) is the one that hangs on the seed and the clock, unless it is given.
        """
        if q is None:
            q = float(uniforms(self.seed, "harpg/q", self.t, row_ids(0, np.arange(1)), 1)[0, 0])
        with parameters_at(self.params, interpolate(self.theta, self.theta_prev, q)):
            yield

    def step(
        self, terms: Callable[[Any], tuple[torch.Tensor, torch.Tensor]], batch: Any, batch_hat: Any = None
    ) -> None:
        """One step; ``batch_hat`` was sampled inside `between` and is needed from the second step on."""
        log_p, psi = terms(batch)
        g = _flat(torch.autograd.grad((psi.detach() * log_p).sum(), self.params)) / len(psi)
        v = None
        if self.t > 0:
            if batch_hat is None:
                raise SettingError("batch_hat is missing; from the second step on, sample one inside between()")
            u = (self.theta - self.theta_prev).split([p.numel() for p in self.params])
            with self.between():
                log_p, psi = terms(batch_hat)
                pieces = sum_hvp(log_p, psi, self.params, [x.view_as(p) for x, p in zip(u, self.params, strict=True)])
            v = _flat(pieces) / len(psi)
        self.follow(g, v)

    def follow(self, g: Float[torch.Tensor, " d"], v: Float[torch.Tensor, " d"] | None = None) -> None:
        """One step from a gradient of the objective at these parameters, made elsewhere.

        ``v`` estimates how much the gradient changed since the parameters before; the first step takes none.
        """
        d = g if v is None else recursive_momentum(self.d, v, g, self.eta)
        self._move(d, normalised=self.normalised)

    def descend(self) -> None:
        """`follow` minus the gradients of a loss that stand in the parameters, with the change that was left in ``v``.

        Gradients and ``v`` are forgotten afterwards. Raises `SettingError` when ``v`` is missing after the first step.
        """
        if self.t > 0 and self.v is None:
            raise SettingError("v is missing; from the second step on, leave the change of the gradient there")
        self.follow(self._ascent(), self.v)
        self.v = None
        self.zero_grad()


def _flat(pieces: Iterable[torch.Tensor]) -> Float[torch.Tensor, " d"]:
    return torch.cat([x.reshape(-1) for x in pieces])
