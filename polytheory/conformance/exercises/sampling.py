"""Exercises of learners that sample: rewards to go, optimism from counts, the switch test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from polytheory.conformance.exercises.grading import Exercise, Instance
from polytheory.reference.exploration.baselines import hoeffding_bonus
from polytheory.reference.exploration.critics import information, switch_due
from polytheory.reference.policy_gradient.estimators import rewards_to_go


def _episodes() -> Iterator[Instance]:
    yield {"rewards": np.array([0.0, 0.5, 0.0, 0.5]), "gamma": 0.8}
    yield {"rewards": np.array([2.0]), "gamma": 0.0}
    rng = np.random.default_rng(4)
    for t in (2, 3, 8):
        for gamma in (0.5, 0.9, 1.0):
            yield {"rewards": rng.normal(size=t), "gamma": gamma}


def _counts() -> Iterator[Instance]:
    yield {
        "r": np.array([[0.1, 0.0], [0.5, 1.0]]), "n": np.array([[1, 1], [0, 4]]),
        "N": np.array([[[1, 0], [0, 1]], [[0, 0], [1, 3]]]), "v_next": np.array([0.3, 1.0]), "cap": 2.0, "scale": 0.2,
    }  # fmt: skip
    rng = np.random.default_rng(5)
    for S, A in ((1, 2), (2, 2), (3, 4)):
        for cap in (1.0, 5.0):
            n = rng.integers(0, 6, size=(S, A))
            N = np.array([[rng.multinomial(n[s, a], rng.dirichlet(np.ones(S))) for a in range(A)] for s in range(S)])
            r, v = rng.uniform(size=(S, A)), cap * rng.uniform(size=S)
            yield {"r": r, "n": n, "N": N, "v_next": v, "cap": cap, "scale": 0.2}


def _tests() -> Iterator[Instance]:
    yield {"now": np.array([[3, 0], [1, 1]]), "before": np.array([[1, 0], [1, 1]])}
    yield {"now": np.array([[2]]), "before": np.array([[1]])}
    yield {"now": np.array([[1]]), "before": np.array([[0]])}
    yield {"now": np.array([[2, 1], [1, 0]]), "before": np.array([[1, 0], [1, 0]])}
    rng = np.random.default_rng(6)
    for _ in range(12):
        before = rng.integers(0, 8, size=(2, 2))
        yield {"now": before + rng.integers(0, 4, size=(2, 2)), "before": before}


def _to_go(rewards, gamma):
    return rewards_to_go(rewards[None], np.ones((1, len(rewards)), dtype=bool), gamma=gamma)[0]


def _from_t(rewards, gamma):
    steps = range(len(rewards))
    return np.array([sum(gamma ** (h - t) * rewards[h] for h in steps[t:]) for t in steps])


def _optimistic(r, n, N, v_next, cap, scale, *, bonus=True, unseen=True, clip=True, power=0.5):
    m = np.maximum(n, 1)
    value = r + N @ v_next / m
    if bonus:
        value = value + scale * (hoeffding_bonus(n, cap, 1.0) if power == 0.5 else cap / m**power)
    if clip:
        value = np.minimum(value, cap)
    return np.where(n == 0, cap, value) if unseen else value


def _log_det(n):
    return float(information(n[None], None)[0])


EXERCISES = (
    Exercise(
        "rewards-to-go",
        "Psi_t = sum over h >= t of gamma^h r_h: discounts count from the start of the episode",
        "f(rewards [t], gamma) -> [t]",
        _to_go,
        _episodes,
        {
            "do discounts count from t, where they should from the start": _from_t,
            "is the discount missing": lambda rewards, gamma: _to_go(rewards, 1.0),
            "is it the whole return at every step (REINFORCE: also unbiased, but not asked for)": lambda rewards, gamma: (
                np.full(len(rewards), _to_go(rewards, gamma)[0])
            ),
            "are the rewards before t summed, where those from t on are asked for": lambda rewards, gamma: np.cumsum(
                rewards * gamma ** np.arange(len(rewards))
            ),
            "is the reward at t left out": lambda rewards, gamma: (
                _to_go(rewards, gamma) - rewards * gamma ** np.arange(len(rewards))
            ),
        },
    ),
    Exercise(
        "optimistic-values",
        "One stage of UCBVI: r + mean of v_next + scale cap / sqrt(n), at most cap; a pair that was never met is worth cap",
        "f(r [S, A], n [S, A], N [S, A, S], v_next [S], cap, scale) -> [S, A]",
        _optimistic,
        _counts,
        {
            "is the bonus missing": lambda **x: _optimistic(**x, bonus=False),
            "do pairs that were never met lack their largest value": lambda **x: _optimistic(**x, unseen=False),
            "is nothing cut off at cap": lambda **x: _optimistic(**x, clip=False),
            "does the bonus fall as 1 / n, where 1 / sqrt(n) is what the noise of a mean does": lambda **x: _optimistic(
                **x, power=1.0
            ),
            "is the bonus subtracted: that is pessimism": lambda **x: _optimistic(**{**x, "scale": -x["scale"]}),
        },
    ),
    Exercise(
        "switch-test",
        "1 if the determinant of the diagonal matrix 1 + n has at least doubled from ``before`` to ``now``, else 0",
        "f(now [S, A], before [S, A]) -> 0 or 1",
        lambda now, before: float(switch_due(np.array([_log_det(now)]), np.array([_log_det(before)]))),
        _tests,
        {
            "has a single count doubled, where the product of all is asked for": lambda now, before: float(
                (1 + now >= 2 * (1 + before)).any()
            ),
            "has the number of visits doubled, where the determinant is asked for": lambda now, before: float(
                now.sum() >= 2 * before.sum()
            ),
            "is the 1 missing in 1 + n": lambda now, before: float(np.prod(now) >= 2 * np.prod(before)),
            "must it more than double, where exactly double is enough": lambda now, before: float(
                np.prod(1.0 + now) > 2 * np.prod(1.0 + before)
            ),
        },
    ),
)
