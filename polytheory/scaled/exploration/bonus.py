"""Radius, ridge weight and switching rule of a last-layer bonus that fit one another."""

from __future__ import annotations

import math

from polytheory.errors import SettingError


def bonus_scales(
    horizon: float | int,
    value_range: tuple[float, float],
    *,
    path: float = 0.5,
    unseen: float = 2.0,
    directions: float = 1.0,
) -> dict[str, float]:
    """``radius``, ``lam`` and ``rise`` of `DeepNora` for tasks of ``horizon`` steps.

    Setting: features of norm 1; a bonus ``radius |phi|_{Lambda^-1}`` with ``Lambda = lam I + sum phi phi^T``; values are
    clipped to ``value_range``, of length R.

    1. Nothing unseen is worth less than it may be: ``radius / sqrt(lam) = unseen R``. 1 is enough for orthogonal features.
       Random ones overlap: a part ``1 - m / k`` of ``|phi|^2`` lies outside of m others, and the regression errs there by some
       ``R sqrt(m / (k - m))``; with k = 2 m the bonus must be some 4 R.
    2. What was seen once is told from what is new: its bonus is at most ``radius``, and ``radius = path R / horizon``, so that
       along a whole path of such steps the bonuses sum to at most ``path`` of the range, instead of reaching the cap together.
    3. A direction met for the first time raises ``log det Lambda`` by ``log(1 + 1 / lam)``; a switch takes ``directions`` of
       them. With k features and A actions no run of N steps has more than ``A k log(1 + N / (A k lam)) / rise`` switches (the
       determinant is at most the power of the mean eigenvalue).

    Args: ``horizon`` >= 1 steps that matter, ``min(truncation, 1 / (1 - gamma))``; ``path``, ``directions`` > 0;
        ``unseen`` >= 1.

    Raises: `SettingError` for anything else.

    Example: ``DeepNora(torso, 30, (0.0, 1.0), **bonus_scales(30, (0.0, 1.0), directions=9.0))``.
    """
    low, high = value_range
    if not (horizon >= 1 and low < high and path > 0 and unseen >= 1 and directions > 0):
        raise SettingError(
            f"bonus_scales({horizon}, {value_range}, path={path}, unseen={unseen}, directions={directions}); horizon >= 1, "
            "low < high, path > 0, unseen >= 1 and directions > 0 are needed"
        )
    lam = (path / (unseen * horizon)) ** 2
    return {"radius": path * (high - low) / horizon, "lam": lam, "rise": directions * math.log1p(1 / lam)}
