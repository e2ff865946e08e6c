"""Constants and inequalities of the analysis; operators only where symbols must go through.

Setting: ``|r| <= r_max``, ``|score| <= M_g``, ``|hess log pi| <= M_h`` (spectral norm), discount gamma. Derived from
[fatkhullin2023, assumptions 2.1 and 2.2] and [shen2019, Lemma 3]; the claims check each against enumeration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.errors import SettingError


@dataclass(frozen=True)
class Constants:
    """The constants of a policy class on a model.

    Fields: ``M_g``, ``M_h`` and ``l_2`` bound the score, the Hessian of log pi and its Lipschitz constant at every
    theta; ``r_max`` bounds rewards; ``gamma`` is the discount, below 1.
    """

    M_g: float
    M_h: float
    l_2: float
    r_max: float
    gamma: float

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < 1:
            raise SettingError(f"gamma = {self.gamma}; these constants are for discounted models, 0 <= gamma < 1")

    @property
    def L(self) -> float:
        """``|hess J| <= L``."""
        return self.r_max * (self.M_g**2 + self.M_h) / (1 - self.gamma) ** 2

    @property
    def sigma_g2(self) -> float:
        """``E |g|^2 <= sigma_g2`` for the GPOMDP estimate."""
        return self.r_max**2 * self.M_g**2 / (1 - self.gamma) ** 3

    @property
    def g_max(self) -> float:
        """``|g| <= g_max`` for every trajectory."""
        return self.r_max * self.M_g / (1 - self.gamma) ** 2

    def B_max(self, truncation: int) -> float:
        """``|B| <= B_max`` for every trajectory of so many steps."""
        return self.r_max * (truncation * self.M_g**2 + self.M_h) / (1 - self.gamma) ** 2

    def truncation_bias(self, truncation: int) -> float:
        """``|grad J_H - grad J| <= gamma^H r_max M_g / (1 - gamma) sqrt(H + 1 / (1 - gamma))``."""
        tail = self.gamma**truncation * self.r_max * self.M_g / (1 - self.gamma)
        return tail * math.sqrt(truncation + 1 / (1 - self.gamma))


def softmax_constants(features: np.ndarray, r_max: float, gamma: float) -> Constants:
    """Constants of a softmax over linear logits, ``features`` [S, A, d].

    In one state the features of all actions lie within a set of some diameter w, and so does their mean: the score is at
    most w; along any direction the variance of a variable with range w is at most ``w^2 / 4`` and its third central
    moment at most ``w^3 / (6 sqrt(3))``.
    """
    apart = features[:, :, None, :] - features[:, None, :, :]
    w = float(np.sqrt((apart**2).sum(-1)).max())
    return Constants(w, w**2 / 4, w**3 / (6 * math.sqrt(3)), r_max, gamma)


def ascent_bound(gradient: Any, error: Any) -> Any:
    """``<a, d / |d|> >= |a| - 2 |d - a|`` for vectors a, d != 0, given ``|a|`` and ``|d - a|``.

    Sharper than the usual ``|a| / 3 - (8 / 3) |d - a|``; 2 cannot be improved (d nearly 0 and opposite to a).
    """
    return gradient - 2 * error


def step_bound(value: Any, gradient: Any, error: Any, step: Any, L: Any) -> Any:
    """Value after a normalised step on an L-smooth objective is at least this: `ascent_bound` less ``L step^2 / 2``."""
    return value + step * ascent_bound(gradient, error) - L * step**2 / 2


def contraction_gamma0(M_g: Any, mu_F: Any) -> Any:
    """``3 M_g / mu_F``: with ``gamma_t = gamma0 x_t`` the gap contracts by ``1 - gamma_t mu_F / (3 M_g) = t / (t + 2)``."""
    return 3 * M_g / mu_F


def telescoped(start: Any, steps: Any) -> Any:
    """``prod_{t = start}^{steps - 1} (1 - 2 / (t + 2)) = start (start + 1) / (steps (steps + 1))``."""
    return start * (start + 1) / (steps * (steps + 1))


def gap_after_step(gap: Any, error: Any, step: Any, M_g: Any, mu_F: Any, L: Any) -> Any:
    """Bound on ``J* - J - sqrt(eps_bias) / (1 - gamma)`` after a normalised step, given the bound before it.

    ``(1 - step mu_F / (3 M_g)) gap + (8 / 3) step error + L step^2 / 2``: smoothness, the ascent inequality in its form
    ``|a| / 3 - (8 / 3) |d - a|`` and gradient domination.
    """
    return (1 - step * mu_F / (3 * M_g)) * gap + step * error * 8 / 3 + L * step**2 / 2


def domination_bound(gradient: Any, M_g: Any, mu_F: Any, eps_bias: float, gamma: Any) -> Any:
    """``J* - J <= (M_g / mu_F) |grad J| + sqrt(eps_bias) / (1 - gamma)``: relaxed weak gradient domination."""
    return M_g / mu_F * gradient + eps_bias**0.5 / (1 - gamma)
