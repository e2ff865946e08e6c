"""How a gradient is followed, as plain data until a run makes the optimiser.

AdamW with a schedule, plain descent, N-PG-IGT, which also says at which weights completions are sampled, or HARPG, which
samples a second batch. All have ``make(parameters)``, ``sampling(optimizer)`` (a context in which the parameters are those that
sample), ``apply(optimizer, update)`` and ``rate(update)``; ``on_policy`` optimisers take every completion once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from polytheory.errors import SettingError, UnknownNameError
from polytheory.scaled.language.curvature import PRODUCTS
from polytheory.scaled.language.masters import over
from polytheory.scaled.policy_gradient.optim import HarpgOptimizer, NPgIgtOptimizer
from polytheory.scaled.policy_gradient.schedules import step_size
from polytheory.scaled.posttraining import updates


@dataclass(frozen=True)
class AdamW:
    """Decoupled weight decay with bias-corrected moments [loshchilov2019].

    Fields:
        step_size: largest learning rate, > 0. betas: decay of the two moments, in [0, 1). adam_eps: > 0.
        weight_decay: >= 0.
        warm_up: updates with linearly rising rate, >= 0.
        total: updates until the cosine has fallen to ``floor`` times the step size; None keeps the rate.
        max_norm: largest global norm of the gradient, > 0; None does not clip.

    References: [loshchilov2019] Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """

    step_size: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    weight_decay: float = 0.0
    warm_up: int = 0
    total: int | None = None
    floor: float = 0.0
    max_norm: float | None = 1.0

    on_policy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise SettingError(f"step_size = {self.step_size}; a learning rate is positive and finite, try 1e-6")
        if not all(0 <= b < 1 for b in self.betas):
            raise SettingError(f"betas = {self.betas}; both lie in [0, 1)")
        if self.max_norm is not None and not self.max_norm > 0:
            raise SettingError(
                f"max_norm = {self.max_norm}; a bound on the gradient's norm is positive, or None for none"
            )

    def sampling(self, optimizer: Any) -> AbstractContextManager[Any]:
        """Completions come from the weights as they are."""
        return nullcontext()

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> Any:
        """The optimiser of a run; of bfloat16 weights it moves float32 masters."""
        settings = {"lr": self.step_size, "betas": self.betas, "eps": self.adam_eps, "weight_decay": self.weight_decay}
        return over(parameters, lambda trained: torch.optim.AdamW(trained, **settings))

    def rate(self, update: int) -> float:
        """Learning rate of an update, counted from 0."""
        rate = self.step_size * min(1.0, (update + 1) / self.warm_up) if self.warm_up else self.step_size
        if self.total is None or update < self.warm_up:
            return rate
        done = min(1.0, (update - self.warm_up) / max(1, self.total - self.warm_up))
        return self.step_size * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done)))

    def apply(self, optimizer: Any, update: int) -> float:
        """One update from the gradients that stand in the parameters; returns their global norm before clipping."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = gradient_norm(parameters)
        if self.max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        for group in optimizer.param_groups:
            group["lr"] = self.rate(update)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(norm)


@dataclass(frozen=True)
class Sgd:
    """Plain gradient descent with a constant ``step_size`` > 0, as the tabular compositions make it."""

    step_size: float = 0.1

    on_policy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise SettingError(f"step_size = {self.step_size}; a learning rate is positive and finite, try 0.1")

    def rate(self, update: int) -> float:
        """The step size."""
        return self.step_size

    def sampling(self, optimizer: Any) -> AbstractContextManager[Any]:
        """Completions come from the weights as they are."""
        return nullcontext()

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> Any:
        """The optimiser of a run; of bfloat16 weights it moves float32 masters."""
        return over(parameters, lambda trained: torch.optim.SGD(trained, lr=self.step_size))

    def apply(self, optimizer: Any, update: int) -> float:
        """One update from the gradients that stand in the parameters; returns their global norm."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = gradient_norm(parameters)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(norm)


@dataclass(frozen=True)
class NPgIgt:
    """N-PG-IGT [fatkhullin2023, Algorithm 1]: completions and gradient belong to a look-ahead; steps of a scheduled length.

    Fields:
        gamma0: length of the first step, > 0, one norm over all parameters. eta0: first momentum weight, in (0, 1].
        schedule: "theorem", "constant-step", "constant-momentum" or "constant".

    Raises `SettingError`, `UnknownNameError`.

    References: [fatkhullin2023] Fatkhullin et al., Stochastic Policy Gradient Methods: Improved Sample Complexity for
    Fisher-non-degenerate Policies, ICML 2023.
    """

    gamma0: float = 0.1
    eta0: float = 1.0
    schedule: str = "theorem"

    on_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.make([torch.nn.Parameter(torch.zeros(1))])  # its own checks

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> Any:
        """The optimiser of a run."""
        return NPgIgtOptimizer(parameters, gamma0=self.gamma0, eta0=self.eta0, schedule=self.schedule)

    def sampling(self, optimizer: Any) -> AbstractContextManager[Any]:
        """The parameters hold the look-ahead; they come back whatever happens."""
        return optimizer.lookahead()

    def rate(self, update: int) -> float:
        """Length of the step."""
        return step_size(self.gamma0, update, NPgIgtOptimizer.step_exponent, self.schedule)

    def apply(self, optimizer: Any, update: int) -> float:
        """One step from the gradients made at the look-ahead; returns their global norm."""
        norm = gradient_norm(optimizer.params)
        optimizer.step()
        return float(norm)


@dataclass(frozen=True)
class Harpg:
    """(N-)HARPG [fatkhullin2023, Algorithm 2]: the last direction is carried to the new weights by a Hessian-vector product on
    a second batch, sampled between the last two weights; from the second step on, a step takes twice the completions.

    Fields:
        gamma0: size of the first step, > 0: the factor of the direction, or the step's length where normalised.
        eta0: first momentum weight, in (0, 1]. schedule: as in `NPgIgt`.
        normalised: steps of a scheduled length along the direction (N-HARPG).
        hvp: "exact" goes back twice through the log-probs and needs eager attention; "difference" takes a central difference
            of gradients, which is cheaper and goes with any attention (float32 weights).

    Raises `SettingError`, `UnknownNameError`.
    """

    gamma0: float = 0.1
    eta0: float = 1.0
    schedule: str = "theorem"
    normalised: bool = False
    hvp: str = "exact"

    on_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.hvp not in PRODUCTS:
            raise UnknownNameError("hvp", self.hvp, PRODUCTS)
        self._tabular()  # its own checks

    def _tabular(self) -> Any:
        return updates.Harpg(self.gamma0, self.eta0, self.schedule, self.normalised)

    def check(self, method: Any) -> None:
        """Raise `SettingError` unless the loss is ``-A log pi`` summed over tokens, whose Hessian this is."""
        self._tabular().check(method)

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> Any:
        """The optimiser of a run."""
        return HarpgOptimizer(
            parameters, normalised=self.normalised, gamma0=self.gamma0, eta0=self.eta0, schedule=self.schedule
        )

    def sampling(self, optimizer: Any) -> AbstractContextManager[Any]:
        """Completions of the first batch come from the weights as they are."""
        return nullcontext()

    def rate(self, update: int) -> float:
        """Size of the step."""
        return step_size(self.gamma0, update, 1.0 if self.normalised else 1 / 2, self.schedule)

    def apply(self, optimizer: Any, update: int) -> float:
        """One step from the gradients that stand in the parameters and the second batch's; returns the norm of the former."""
        norm = gradient_norm(optimizer.params)
        optimizer.descend()
        return float(norm)


def gradient_norm(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """Norm of all gradients together, also where they are split over processes."""
    norm: Any = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
