"""The stock-conditioned quantile network, what it sees, and its loss.

References: [dabney2018] Dabney et al., Distributional reinforcement learning with quantile regression, AAAI 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.errors import SettingError

Encode = Callable[[Any, torch.Tensor], torch.Tensor]
"""``(stages [n], states [n, ...]) -> observations`` [n, d] in float32."""

STAGES = 33  # hats of the stage at most; up to this many stages it is one-hot


def hats(x: torch.Tensor, low: float, high: float, n: int) -> Float[torch.Tensor, "n {n}"]:
    """Hat functions on n even nodes: 1 at the own node, 0 at all others, straight between; numbers beyond take the end.

    They sum to 1, so that a layer behind them starts as an interpolation of a table.
    """
    place = (x.double() - low) / (high - low) * (n - 1)
    nodes = torch.arange(n, dtype=torch.float64, device=x.device)
    return (1 - (place.clamp(0, n - 1)[:, None] - nodes).abs()).clamp(min=0).float()


def one_hot(S: int, horizon: int | None = None) -> Encode:
    """Observations of countable states: the state one-hot, and with a horizon hats of the stage."""

    def encode(h: Any, s: torch.Tensor) -> torch.Tensor:
        return _staged(torch.nn.functional.one_hot(s, S).float(), h, horizon)

    return encode


def numbers(scale: Float[np.ndarray, "*obs"], horizon: int | None = None) -> Encode:
    """Observations that are numbers, divided by ``scale`` of their shape, and with a horizon hats of the stage."""
    unit = torch.as_tensor(scale, dtype=torch.float32).flatten()

    def encode(h: Any, s: torch.Tensor) -> torch.Tensor:
        return _staged(s.flatten(1).float() / unit.to(s.device), h, horizon)

    return encode


def _staged(x: torch.Tensor, h: Any, horizon: int | None) -> torch.Tensor:
    if horizon is None:
        return x
    stage = torch.as_tensor(h, device=x.device).expand(len(x))
    return torch.cat([x, hats(stage, 0.0, float(horizon), min(horizon + 1, STAGES))], -1)


def encoder_of(access: Any) -> Encode:
    """Observations of an access: one-hot where states can be counted, else numbers.

    Raises `SettingError` where there are neither.
    """
    spec = access.spec
    if spec.S is not None:
        return one_hot(spec.S, spec.horizon)
    if getattr(access, "observation_scale", None) is None:
        raise SettingError(f"{spec.name} has observations that are no arrays of numbers; pass encode=")
    return numbers(access.observation_scale, spec.horizon)


class QuantileNetwork(torch.nn.Module):
    """Quantiles of the return to go, ``(stages [n], states [n, ...], stocks [n]) -> [n, A, N]``.

    The stock enters as hats on ``span``, and stocks beyond as its ends; returns leave multiplied by the largest of ``span``.
    Weights do not depend on the global generator.

    Args:
        encode: observations. inputs: their number d. span: stocks that it is trained on. bins: hats of the stock, or 0 for
            the stock as one number. width: of the two hidden layers.
    """

    def __init__(
        self, encode: Encode, inputs: int, span: tuple[float, float], n_actions: int, n_quantiles: int, *, bins: int = 33,
        width: int = 64, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        sizes = (inputs + max(bins, 1), width, width, n_actions * n_quantiles)
        g = torch.Generator().manual_seed(seed)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in pairwise(sizes))
        with torch.no_grad():
            for layer in self.layers:
                for p in (layer.weight, layer.bias):
                    p.copy_((2 * torch.rand(p.shape, generator=g) - 1) / layer.in_features**0.5)  # type: ignore[operator]
        self.encode, self.span, self.bins, self.shape = encode, span, bins, (n_actions, n_quantiles)
        self.scale = max(abs(x) for x in span)

    def forward(self, h: Any, s: torch.Tensor, stocks: Float[torch.Tensor, " n"]) -> Float[torch.Tensor, "n A N"]:
        """Quantiles, in float32."""
        low, high = self.span
        seen = (
            hats(stocks, low, high, self.bins) if self.bins else stocks.clamp(low, high)[:, None].float() / self.scale
        )
        x = torch.cat([self.encode(h, s), seen], -1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.scale * self.layers[-1](x).unflatten(-1, self.shape)


def quantile_huber(
    theta: Float[torch.Tensor, "n N"], goal: Float[torch.Tensor, "n M"], kappa: float
) -> Float[torch.Tensor, ""]:
    """``sum_i mean_j |tau_i - 1[u_ij < 0]| Huber(u_ij) / kappa``, ``u_ij = goal_j - theta_i``, mean over rows [dabney2018].

    ``kappa = 0`` is its limit, the quantile loss itself with ``|u|`` in place of ``Huber(u) / kappa``.
    """
    N = theta.shape[-1]
    levels = (2 * torch.arange(N, dtype=theta.dtype, device=theta.device) + 1) / (2 * N)
    u = goal[:, None, :] - theta[:, :, None]
    size = u.abs()
    loss = size if kappa == 0 else torch.where(size <= kappa, 0.5 * u * u / kappa, size - 0.5 * kappa)
    return ((levels[:, None] - (u.detach() < 0).to(u.dtype)).abs() * loss).mean(-1).sum(-1).mean()
