"""Deliberate errors that the claims of this family must reject; each is a slip that papers, forks or users have made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from polytheory.proofs_check.claims import Wrap


def _discount_from_t(f: Callable[..., Any]) -> Callable[..., Any]:
    def broken(rewards: Any, mask: Any, *, gamma: float) -> Any:
        psi = f(rewards, mask, gamma=gamma) + 0
        for t in range(psi.shape[1]):
            psi[:, t] = psi[:, t] / (gamma or 1.0) ** t
        return psi

    return broken


def _own_reward_missed(f: Callable[..., Any]) -> Callable[..., Any]:
    def broken(rewards: Any, mask: Any, *, gamma: float) -> Any:
        psi = f(rewards, mask, gamma=gamma) + 0
        psi[:, :-1] = psi[:, 1:] + 0
        psi[:, -1] = 0
        return psi

    return broken


def _all_steps(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda traj, **options: f(replace(traj, mask=traj.mask | True), **options)


DROPPED_DISCOUNT = Wrap("dropped_gamma_t", part="rewards_to_go", by=_discount_from_t)
MISSED_REWARD = Wrap("own_reward_missed", part="rewards_to_go", by=_own_reward_missed)
IGNORED_MASK = Wrap("mask_ignored", part="score_weights", by=_all_steps)
FLIPPED_OUTER = Wrap("flipped_outer_product", part="outer_product_term", by=lambda f: lambda *a, **k: -f(*a, **k))
DROPPED_OUTER = Wrap("dropped_outer_product", part="outer_product_term", by=lambda f: lambda *a, **k: 0 * f(*a, **k))
DROPPED_CURVATURE = Wrap("dropped_curvature", part="curvature_term", by=lambda f: lambda *a, **k: 0 * f(*a, **k))
NO_LOOKAHEAD = Wrap("no_lookahead", part="lookahead", by=lambda f: lambda theta, theta_prev, eta: theta)
SHORT_LOOKAHEAD = Wrap(
    "lookahead_not_divided_by_eta", part="lookahead",
    by=lambda f: lambda theta, theta_prev, eta: theta + (1 - eta) * (theta - theta_prev),
)  # fmt: skip
MIDPOINT = Wrap("midpoint", part="interpolate", by=lambda f: lambda theta, prev, q: f(theta, prev, 0 * q + 0.5))
UNCARRIED = Wrap(
    "difference_not_averaged", part="recursive_momentum",
    by=lambda f: lambda d, v, g, eta: (1 - eta) * d + v + eta * g,
)  # fmt: skip
FROZEN_NORM = Wrap("not_normalised", part="normalised_step", by=lambda f: lambda theta, d, step: theta + step * d)
DESCENT = Wrap("descent", part="normalised_step", by=lambda f: lambda theta, d, step: f(theta, -d, step))
INVERTED_RATIO = Wrap("inverted_ratio", part="importance_ratio", by=lambda f: lambda b, a, traj: f(a, b, traj))
