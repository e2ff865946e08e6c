"""Step sizes and momentum weights: powers of ``x_t = 2 / (t + 2)``, t = 0, 1, 2, ...

Every schedule is ``base * x_t^exponent``; the exponents of the theorems [fatkhullin2023, Thms. on N-PG-IGT and
(N)-HARPG] are class attributes of the methods.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from polytheory.errors import SettingError
from polytheory.reference.policy_gradient.theory import contraction_gamma0

SCHEDULES = ("theorem", "constant-step", "constant-momentum", "constant")


def decay(t: Any) -> Any:
    """``x_t = 2 / (t + 2)`` (operators only: symbols go through)."""
    return 2 / (t + 2)


def step_size(gamma0: float, t: int, exponent: float, schedule: str = "theorem") -> float:
    """``gamma0 * x_t^exponent``, or ``gamma0`` when the schedule holds the step constant."""
    return gamma0 if schedule in ("constant", "constant-step") else gamma0 * decay(t) ** exponent


def momentum_weight(eta0: float, t: int, exponent: float, schedule: str = "theorem") -> float:
    """``eta0 * x_t^exponent``, or ``eta0`` when the schedule holds the momentum constant."""
    return eta0 if schedule in ("constant", "constant-momentum") else eta0 * decay(t) ** exponent


def theorem_gamma0(score_bound: float, fisher: float) -> float:
    """``3 M_g / mu_F``, with which ``gamma0 x_t = 6 M_g / (mu_F (t + 2))`` is the step of the theorems.

    A normalised first step has length gamma0, however flat the objective; warns when that is more than 3, since a
    softmax that moves so far is nearly deterministic and learns no more. Raises `SettingError` unless both are
    positive.
    """
    if not (score_bound > 0 and fisher > 0):
        raise SettingError(
            f"M_g = {score_bound} and mu_F = {fisher} must be positive; the theorem says nothing otherwise"
        )
    gamma0 = contraction_gamma0(score_bound, fisher)
    warn_of_long_steps(gamma0)
    return gamma0


def theorem_truncation(steps: int, gamma: float) -> int:
    """``ceil(log(T + 1) / (1 - gamma))`` steps an episode make the truncation bias O(1 / T).

    Raises `SettingError` unless ``steps >= 1`` and ``0 <= gamma < 1``.
    """
    if steps < 1 or not 0 <= gamma < 1:
        raise SettingError(f"steps = {steps}, gamma = {gamma}; need steps >= 1 and 0 <= gamma < 1")
    return max(1, math.ceil(math.log(steps + 1) / (1 - gamma)))


def reach(gamma0: float, steps: int) -> float:
    """How far normalised steps can go in all: ``sum_{t < steps} gamma0 x_t``, about ``2 gamma0 log(steps)``."""
    return gamma0 * sum(decay(t) for t in range(steps))


def warn_of_long_steps(gamma0: float) -> None:
    """Warn when normalised steps start longer than 3."""
    if gamma0 > 3:
        warnings.warn(
            f"gamma0 = {gamma0:.3g}: the first normalised step has this length whatever the gradient; a softmax may "
            "saturate at once. Try gamma0 <= 1",
            stacklevel=3,
        )
