"""Exercises of post-training: the advantage of a group, the clipped loss of a token, and averaging over a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from polytheory.conformance.exercises.grading import Exercise, Instance
from polytheory.parts import Unit
from polytheory.reference.posttraining.advantages import group_advantages, rloo_advantages
from polytheory.reference.posttraining.base import Counts, weights
from polytheory.reference.posttraining.losses import clipped_surrogate


def _groups() -> Iterator[Instance]:
    yield {"score": np.array([1.0, 0.0, 0.0]), "group": np.array([0, 0, 0]), "eps": 1e-4}
    yield {"score": np.array([2.0, 2.0]), "group": np.array([3, 3]), "eps": 1e-4}
    yield {"score": np.array([1.0, 5.0, 0.0, 7.0]), "group": np.array([1, 0, 1, 0]), "eps": 1e-4}
    rng = np.random.default_rng(7)
    for sizes in ((2,), (3, 3), (2, 4, 3)):
        group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        yield {"score": rng.normal(size=len(group)), "group": group, "eps": 1e-4}
        yield {"score": rng.integers(0, 2, size=len(group)).astype(float), "group": group, "eps": 1e-2}


def _tokens() -> Iterator[Instance]:
    yield {"ratio": np.array([0.5, 1.0, 1.5]), "advantage": np.array([1.0, 1.0, 1.0]), "eps": 0.2}
    yield {"ratio": np.array([0.5, 1.0, 1.5]), "advantage": np.array([-1.0, -1.0, -1.0]), "eps": 0.2}
    rng = np.random.default_rng(8)
    for n in (1, 4, 9):
        yield {"ratio": np.exp(rng.normal(size=n)), "advantage": rng.normal(size=n), "eps": 0.1}


def _batches() -> Iterator[Instance]:
    yield {"value": np.array([[1.0, 1.0, 1.0], [4.0, 0.0, 0.0]]), "mask": np.array([[True] * 3, [True, False, False]])}
    rng = np.random.default_rng(9)
    for n, t in ((1, 1), (2, 3), (4, 5)):
        mask = np.arange(t) < rng.integers(1, t + 1, size=(n, 1))
        yield {"value": rng.normal(size=(n, t)), "mask": mask}  # masked entries hold garbage


def _advantages(score, group, eps, **settings):
    columns = {"score": score, "group": group}
    return group_advantages(columns, **{"eps": eps, **settings})["advantages"]


def _whole_batch(score, group, eps):
    centred = score - score.mean()
    return centred / (centred.std(ddof=1) + eps)


def _noisy(score, group, eps):
    out = np.zeros(len(score))
    for g in np.unique(group):
        own = score[group == g]
        out[group == g] = np.divide(
            own - own.mean(), own.std(ddof=1), out=np.full(len(own), np.nan), where=own.std() > 0
        )
    return out


def _by_variance(score, group, eps):
    out = np.zeros(len(score))
    for g in np.unique(group):
        own = score[group == g]
        out[group == g] = (own - own.mean()) / (own.var(ddof=1) + eps)
    return out


def _averaged(value, mask, normalisation):
    counts = Counts(int(mask.sum()), len(mask))
    return float((weights(mask, Unit.TOKEN, counts, normalisation=normalisation) * np.where(mask, value, 0.0)).sum())


EXERCISES = (
    Exercise(
        "group-advantage",
        "Scores less the mean of their group, over (standard deviation of the group, ddof = 1, + eps); in any order of rows",
        "f(score [n], group [n], eps) -> [n]",
        _advantages,
        _groups,
        {
            "is the division by the deviation missing (that is Dr. GRPO)": lambda score, group, eps: _advantages(
                score, group, eps, scale="none"
            ),
            "is it the population's deviation (ddof = 0)": lambda score, group, eps: _advantages(
                score, group, eps, ddof=0
            ),
            "is it the whole batch, where each group is asked for": _whole_batch,
            "is it the mean of the others (leave one out, RLOO)": lambda score, group, eps: rloo_advantages(
                {"score": score, "group": group}
            )["advantages"],
            "is eps missing: equal scores then give 0 / 0": _noisy,
            "is the variance taken, where the deviation is asked for": _by_variance,
        },
    ),
    Exercise(
        "clipped-loss",
        "PPO's loss of every token: -min(ratio A, clip(ratio, 1 - eps, 1 + eps) A)",
        "f(ratio [n], advantage [n], eps) -> [n]",
        lambda ratio, advantage, eps: -clipped_surrogate(ratio, advantage, eps, eps, np.clip, np.minimum),
        _tokens,
        {
            "is it an objective to be raised, where a loss is asked for": lambda ratio, advantage, eps: (
                clipped_surrogate(ratio, advantage, eps, eps, np.clip, np.minimum)
            ),
            "is the ratio only clipped, without the minimum": lambda ratio, advantage, eps: (
                -np.clip(ratio, 1 - eps, 1 + eps) * advantage
            ),
            "is the larger taken, where the minimum is asked for": lambda ratio, advantage, eps: (
                -clipped_surrogate(ratio, advantage, eps, eps, np.clip, np.maximum)
            ),
            "is nothing clipped": lambda ratio, advantage, eps: -ratio * advantage,
            "is the minimum taken of the ratios, before A: wrong for negative A": lambda ratio, advantage, eps: (
                -np.minimum(ratio, np.clip(ratio, 1 - eps, 1 + eps)) * advantage
            ),
        },
    ),
    Exercise(
        "sequence-mean",
        "GRPO's average: the mean over sequences of the mean over their own tokens; masked entries do not count",
        "f(value [n, t], mask [n, t]) -> number",
        lambda value, mask: _averaged(value, mask, "seq_mean"),
        _batches,
        {
            "is it the mean over all tokens (DAPO's average)": lambda value, mask: _averaged(value, mask, "token_mean"),
            "are sequences summed, where their mean is asked for": lambda value, mask: _averaged(
                value, mask, "seq_sum"
            ),
            "is the mask forgotten": lambda value, mask: value.mean(),
            "is padding in the denominator": lambda value, mask: np.where(mask, value, 0.0).mean(),
        },
    ),
)
