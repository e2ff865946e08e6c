"""Networks whose parameters are one flat vector, and Adam on it: plain data, so that a checkpoint needs no module."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from polytheory._typing import Float


@dataclass(frozen=True)
class Mlp:
    """``copies`` independent networks with ReLU layers of ``sizes`` = (inputs, hidden..., outputs), in float32."""

    sizes: tuple[int, ...]
    copies: int = 1

    @property
    def n_parameters(self) -> int:
        """Length of the vector."""
        return sum(self.copies * (i + 1) * o for i, o in self._layers())

    def _layers(self) -> list[tuple[int, int]]:
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    def init(self, g: torch.Generator) -> Float[torch.Tensor, " d"]:
        """Uniform in +-1/sqrt(inputs), as `torch.nn.Linear` does it."""
        parts = []
        for i, o in self._layers():
            uniform = torch.rand(self.copies * (i + 1) * o, generator=g)
            parts.append((2 * uniform - 1) / math.sqrt(i))
        return torch.cat(parts)

    def __call__(self, theta: Float[torch.Tensor, " d"], x: Float[torch.Tensor, "n i"]) -> Float[torch.Tensor, "k n o"]:
        """Outputs of all copies."""
        x, at, layers = x.expand(self.copies, *x.shape), 0, self._layers()
        for depth, (i, o) in enumerate(layers):
            W = theta[at : at + self.copies * i * o].view(self.copies, i, o)
            at += W.numel()
            b = theta[at : at + self.copies * o].view(self.copies, 1, o)
            at += b.numel()
            x = torch.baddbmm(b, x, W)
            x = x.relu() if depth < len(layers) - 1 else x
        return x


def adam(
    theta: Float[torch.Tensor, " d"],
    gradient: Float[torch.Tensor, " d"],
    moments: Float[torch.Tensor, "2 d"],
    t: int,
    lr: float,
    *,
    eps: float = 1e-5,
) -> None:
    """Step ``t`` = 1, 2, ... of Adam with decay 0.9 and 0.999, in place [kingma2015; eps as zouitine2024, App. G]."""
    first, second = moments
    first.lerp_(gradient, 0.1)
    second.lerp_(gradient * gradient, 0.001)
    spread = second.sqrt().div_(math.sqrt(1 - 0.999**t)).add_(eps)
    theta.addcdiv_(first, spread, value=-lr / (1 - 0.9**t))
