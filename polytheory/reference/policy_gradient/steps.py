"""The updates, one formula each. All but `normalised_step` use operators only, so that symbols go through them.

Parameters and directions have shape [d]; eta lies in (0, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np

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


def normalised_step(theta: Float[np.ndarray, " d"], d: Float[np.ndarray, " d"], step: float) -> Float[np.ndarray, " d"]:
    """``theta + step * d / |d|``; stays where it is when d = 0."""
    norm = np.linalg.norm(d)
    return theta + step * d / (norm if norm > 0 else 1.0)
