"""Losses of preference pairs: DPO and IPO, from sums of log-probs over whole sequences.

``h = (log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))`` for a pair of rows, chosen first. No length
normalisation: means over tokens would move the optimum.

References: [rafailov2023] Rafailov et al., Direct Preference Optimization, NeurIPS 2023. [azar2024] Azar et al., A General
Theoretical Paradigm to Understand Learning from Human Preferences, AISTATS 2024.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.errors import ColumnError, SettingError
from polytheory.parts import Kind, Unit, need
from polytheory.reference.posttraining.base import PARTS, Terms
from polytheory.reference.posttraining.losses import token_log_ratio

Columns = dict[str, Any]


@PARTS.part(
    Kind.LOSS, reads=("mask", "pairs", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.PAIR,
    source="rafailov2023, eq. 7",
)  # fmt: skip
def dpo(columns: Columns, *, beta: float = 0.1) -> Terms:
    """``-log sigmoid(beta h)`` of every pair [m].

    ``beta`` > 0 is the strength of the KL regularisation, in units of the reward (0.1 in the paper). With preferences of a
    Bradley-Terry model of a reward R the optimum is ``ref exp(R / beta)``. Raises `SettingError`.
    """
    check_positive(beta=beta)
    x = beta * pair_margin(columns)
    return Terms(np.logaddexp(0.0, -x), lambda w: pull_pairs(columns, -w * beta * np.exp(-np.logaddexp(0.0, x))))


@PARTS.part(
    Kind.LOSS, reads=("mask", "pairs", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.PAIR,
    source="azar2024, eq. 17",
)  # fmt: skip
def ipo(columns: Columns, *, tau: float = 0.1) -> Terms:
    """``(h - 1 / (2 tau))^2`` of every pair [m].

    ``tau`` > 0 is the strength of the KL regularisation. The optimum is ``ref exp(P(y > mu) / tau)`` for pairs drawn from
    mu, whatever the preferences. Raises `SettingError`.
    """
    check_positive(tau=tau)
    gap = pair_margin(columns) - 1 / (2 * tau)
    return Terms(gap**2, lambda w: pull_pairs(columns, 2 * w * gap))


def pair_margin(columns: Columns) -> Float[np.ndarray, " m"]:
    """``h`` of every pair. Raises `ColumnError` for a pair of rows that do not exist."""
    (pairs,) = need(columns, "pairs")
    gap = token_log_ratio(columns, "log_probs_ref").sum(axis=1)
    check_pairs(pairs, len(gap))
    return gap[pairs[:, 0]] - gap[pairs[:, 1]]


def pull_pairs(columns: Columns, slope: Float[np.ndarray, " m"]) -> dict[str, Float[np.ndarray, "n t"]]:
    """The gradient in the log-probs, given that in ``h``: plus on the chosen row's tokens, minus on the other's."""
    mask, pairs = need(columns, "mask", "pairs")
    rows = np.zeros(len(mask))
    np.add.at(rows, pairs[:, 0], slope)
    np.add.at(rows, pairs[:, 1], -slope)
    return {"log_probs": np.where(mask, rows[:, None], 0.0)}


def check_pairs(pairs: Any, n: int) -> None:
    """Raise `ColumnError` unless ``pairs`` is [m, 2] with rows in [0, n)."""
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ColumnError(f"pairs must be [m, 2], chosen row first; got {list(pairs.shape)}")
    if len(pairs) and not (int(pairs.min()) >= 0 and int(pairs.max()) < n):
        raise ColumnError(f"pairs name rows {int(pairs.min())} to {int(pairs.max())}; there are {n} rows")


def check_positive(**settings: float) -> None:
    """Raise `SettingError` for one that is not a positive number."""
    for name, x in settings.items():
        if not 0 < x < np.inf:
            raise SettingError(f"{name} = {x}; it must be positive and finite")
