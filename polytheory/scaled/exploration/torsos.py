"""What the deep form sees: encodings of states, and networks whose last layer are its features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def as_it_is(h: Any, s: torch.Tensor) -> torch.Tensor:
    """Observations as the environment gives them, in float32."""
    return s.float()


def one_hot_cells(depth: int) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """Observation of DeepSea: one-hot (row, column), the row being the stage."""
    return lambda h, s: torch.nn.functional.one_hot(h * depth + s, depth * depth).float()


def random_torso(inputs: int, width: int, *, seed: int = 0) -> torch.nn.Module:
    """One hidden layer of ReLU units whose weights do not depend on the global generator."""
    g = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(inputs, width)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(width, inputs, generator=g))
        layer.bias.copy_(0.5 * torch.randn(width, generator=g))
    return torch.nn.Sequential(layer, torch.nn.ReLU())


class FourierTorso(torch.nn.Module):
    """Random cosines ``cos(W o + b)``, a smooth kernel of width ``1 / scale`` for low-dimensional observations."""

    def __init__(self, inputs: int, width: int, scale: float, *, seed: int = 0):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.W = torch.nn.Parameter(scale * torch.randn(width, inputs, generator=g))
        self.b = torch.nn.Parameter(2 * torch.pi * torch.rand(width, generator=g))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """[n, obs] -> [n, width]."""
        return torch.cos(observations @ self.W.T + self.b)
