"""The updates, one formula each. All but `normalised_step` use operators only, so that symbols go through them.

Parameters and directions have shape [n, d], one row per replica; eta lies in (0, 1].
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Float


def lookahead(theta: Any, theta_prev: Any, eta: Any) -> Any:
    """Where N-PG-IGT samples: ``theta + (1 - eta) / eta * (theta - theta_prev)`` [cutkosky2020].

    At this point the gradient of a quadratic is exactly what corrects the momentum of the old one.
    """
    return theta + (1 - eta) / eta * (theta - theta_prev)


def momentum(d: Any, g: Any, eta: Any) -> Any:
    """``(1 - eta) d + eta g``."""
    return (1 - eta) * d + eta * g


def recursive_momentum(d: Any, v: Any, g: Any, eta: Any) -> Any:
    """``(1 - eta) (d + v) + eta g``: the old direction is first moved to the new point by the difference v."""
    return (1 - eta) * (d + v) + eta * g


def interpolate(theta: Any, theta_prev: Any, q: Any) -> Any:
    """``q theta + (1 - q) theta_prev``, q in [0, 1]: one q for the whole vector."""
    return q * theta + (1 - q) * theta_prev


def plain_step(theta: Any, d: Any, step: Any) -> Any:
    """``theta + step * d``."""
    return theta + step * d


def normalised_step(
    theta: Float[torch.Tensor, "*n d"], d: Float[torch.Tensor, "*n d"], step: float | torch.Tensor
) -> Float[torch.Tensor, "*n d"]:
    """``theta + step * d / |d|``, with one norm over all parameters of a replica; stays where it is when d = 0."""
    norm = torch.linalg.vector_norm(d, dim=-1, keepdim=True)
    return theta + step * d / torch.where(norm > 0, norm, torch.ones_like(norm))
