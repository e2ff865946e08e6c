"""Exercises of planning: one backup, its certificate, and nature's answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from polytheory.conformance.exercises.grading import Exercise, Instance
from polytheory.models.two_state import two_state
from polytheory.reference.planning.bellman import greedy_backup, span_bound, sup_norm_bound
from polytheory.reference.robust.polyhedral import worst_l1


def _models() -> Iterator[Instance]:
    two = two_state()
    yield {"P": np.array(two.P), "r": np.array(two.r), "v": np.array([0.1, 1.0]), "gamma": 0.8}
    yield {"P": np.ones((1, 1, 1)), "r": np.array([[-2.0]]), "v": np.array([3.0]), "gamma": 0.5}
    yield {"P": np.array(two.P), "r": np.array(two.r), "v": np.array([5.0, -4.0]), "gamma": 0.0}
    rng = np.random.default_rng(1)
    for S, A in ((2, 3), (3, 2), (4, 4), (6, 3)):
        for gamma in (0.5, 0.99):
            P = rng.dirichlet(np.full(S, 0.5), size=(S, A))
            yield {"P": P, "r": rng.normal(size=(S, A)), "v": 3 * rng.normal(size=S), "gamma": gamma}


def _values() -> Iterator[Instance]:
    yield {"v_old": np.array([0.1, 1.0]), "v_new": np.array([0.656, 1.728]), "gamma": 0.8}
    yield {"v_old": np.array([0.0]), "v_new": np.array([-2.0]), "gamma": 0.5}
    rng = np.random.default_rng(2)
    for S in (2, 3, 7):
        for gamma in (0.0, 0.9, 0.999):
            yield {"v_old": rng.normal(size=S), "v_new": rng.normal(size=S), "gamma": gamma}


def _laws() -> Iterator[Instance]:
    yield {"z": np.array([1.84, 2.56]), "p": np.array([0.2, 0.8]), "radius": 0.1}
    yield {"z": np.array([3.0]), "p": np.array([1.0]), "radius": 0.5}
    yield {"z": np.array([0.0, 1.0, 2.0]), "p": np.array([0.2, 0.5, 0.3]), "radius": 0.4}
    rng = np.random.default_rng(3)
    for n in (2, 3, 5):
        for radius in (0.0, 0.2, 0.9):
            yield {"z": rng.normal(size=n), "p": rng.dirichlet(np.ones(n)), "radius": radius}


def _q(P, r, v, gamma):
    return r + gamma * P @ v


def _worst(z, p, distance):
    return worst_l1(z[None], p[None], distance).value[0]


def _shift_mass(z, p, radius, best_first: bool):
    """Move up to ``radius`` to the smallest z, from the largest (or the most likely) outcomes first."""
    q, left = p.copy(), min(radius, 1 - p[np.argmin(z)])
    q[np.argmin(z)] += left
    for i in np.argsort(-(z if best_first else p), kind="stable"):
        if i != np.argmin(z):
            taken = min(left, p[i])
            q[i] -= taken
            left -= taken
    return q @ z


EXERCISES = (
    Exercise(
        "bellman-backup",
        "One sweep of value iteration: (T v)(s) = max_a r(s, a) + gamma sum_y P(y | s, a) v(y)",
        "f(P [S, A, S], r [S, A], v [S], gamma) -> [S]",
        lambda P, r, v, gamma: greedy_backup(P, r, v, gamma=gamma),
        _models,
        {
            "is the discount missing": lambda P, r, v, gamma: _q(P, r, v, 1.0).max(-1),
            "is the reward discounted as well": lambda P, r, v, gamma: (gamma * _q(P, r, v, 1.0)).max(-1),
            "is it the mean over actions, where the best one is asked for": lambda P, r, v, gamma: _q(
                P, r, v, gamma
            ).mean(-1),
            "is it the smallest, where the best action is asked for": lambda P, r, v, gamma: _q(P, r, v, gamma).min(-1),
            "is the best next state taken, where the agent cannot choose it": lambda P, r, v, gamma: (
                r + gamma * np.where(P > 0, v, -np.inf).max(-1)
            ).max(-1),
            "does the action maximise the reward alone": lambda P, r, v, gamma: _q(P, r, v, gamma)[
                np.arange(len(r)), r.argmax(-1)
            ],
            "is the value of this state used, where that of the next one is asked for": lambda P, r, v, gamma: (
                r + gamma * v[:, None]
            ).max(-1),
        },
    ),
    Exercise(
        "certified-error",
        "How far v_new = T v_old is at most from V*, by contraction alone: gamma / (1 - gamma) max |v_new - v_old|",
        "f(v_old [S], v_new [S], gamma) -> number",
        sup_norm_bound,
        _values,
        {
            "is the change itself taken for the error": lambda v_old, v_new, gamma: np.abs(v_new - v_old).max(),
            "is gamma missing in the numerator: that bounds the error of v_old": lambda v_old, v_new, gamma: (
                np.abs(v_new - v_old).max() / (1 - gamma)
            ),
            "is the absolute value missing": lambda v_old, v_new, gamma: gamma / (1 - gamma) * (v_new - v_old).max(),
            "is it the mean change, where the largest is asked for": lambda v_old, v_new, gamma: (
                gamma / (1 - gamma) * np.abs(v_new - v_old).mean()
            ),
            "is it the span bound, which holds for a shifted value only": span_bound,
        },
    ),
    Exercise(
        "worst-value",
        "The smallest mean of z under a law within total variation ``radius`` of p: sum |q - p| / 2 <= radius",
        "f(z [n], p [n], radius) -> number",
        lambda z, p, radius: _worst(z, p, 2 * radius),
        _laws,
        {
            "is p itself taken, without an adversary": lambda z, p, radius: p @ z,
            "is the radius that of sum |q - p|, twice the total variation": lambda z, p, radius: _worst(z, p, radius),
            "does the adversary help, where it should harm": lambda z, p, radius: -_worst(-z, p, 2 * radius),
            "is p mixed with the worst outcome: that is contamination": lambda z, p, radius: (
                (1 - radius) * p @ z + radius * z.min()
            ),
            "is mass taken from the likeliest outcomes, where the best ones are to lose it": lambda z, p, radius: (
                _shift_mass(z, p, radius, best_first=False)
            ),
        },
    ),
)
