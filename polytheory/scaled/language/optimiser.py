"""How a gradient is followed, as plain data until a run makes the optimiser: AdamW with a schedule, or plain descent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from polytheory.errors import SettingError


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

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise SettingError(f"step_size = {self.step_size}; a learning rate is positive and finite, try 1e-6")
        if not all(0 <= b < 1 for b in self.betas):
            raise SettingError(f"betas = {self.betas}; both lie in [0, 1)")
        if self.max_norm is not None and not self.max_norm > 0:
            raise SettingError(
                f"max_norm = {self.max_norm}; a bound on the gradient's norm is positive, or None for none"
            )

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of a run."""
        return torch.optim.AdamW(
            [p for p in parameters if p.requires_grad], lr=self.step_size, betas=self.betas, eps=self.adam_eps,
            weight_decay=self.weight_decay,
        )  # fmt: skip

    def rate(self, update: int) -> float:
        """Learning rate of an update, counted from 0."""
        rate = self.step_size * min(1.0, (update + 1) / self.warm_up) if self.warm_up else self.step_size
        if self.total is None or update < self.warm_up:
            return rate
        done = min(1.0, (update - self.warm_up) / max(1, self.total - self.warm_up))
        return self.step_size * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done)))

    def apply(self, optimizer: torch.optim.Optimizer, update: int) -> float:
        """One update from the gradients that stand in the parameters; returns their global norm before clipping."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_norm if self.max_norm is not None else math.inf)
        for group in optimizer.param_groups:
            group["lr"] = self.rate(update)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(norm)


@dataclass(frozen=True)
class Sgd:
    """Plain gradient descent with a constant ``step_size`` > 0, as the tabular compositions make it."""

    step_size: float = 0.1

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise SettingError(f"step_size = {self.step_size}; a learning rate is positive and finite, try 0.1")

    def rate(self, update: int) -> float:
        """The step size."""
        return self.step_size

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of a run."""
        return torch.optim.SGD([p for p in parameters if p.requires_grad], lr=self.step_size)

    def apply(self, optimizer: torch.optim.Optimizer, update: int) -> float:
        """One update from the gradients that stand in the parameters; returns their global norm."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(norm)
