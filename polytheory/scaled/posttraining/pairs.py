"""Losses of preference pairs in torch: DPO and IPO, from sums of log-probs over whole sequences.

``h = (log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))`` for a pair of rows, chosen first. No length
normalisation: means over tokens would move the optimum.

References: [rafailov2023] Rafailov et al., Direct Preference Optimization, NeurIPS 2023. [azar2024] Azar et al., A General
Theoretical Paradigm to Understand Learning from Human Preferences, AISTATS 2024.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from polytheory._typing import Float
from polytheory.errors import ColumnError, SettingError
from polytheory.parts import Kind, Unit, need
from polytheory.scaled.posttraining.base import PARTS
from polytheory.scaled.posttraining.losses import token_log_ratio

Columns = dict[str, Any]


@PARTS.part(
    Kind.LOSS, reads=("mask", "pairs", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.PAIR,
    source="rafailov2023, eq. 7",
)  # fmt: skip
def dpo(columns: Columns, *, beta: float = 0.1) -> Float[torch.Tensor, " m"]:
    """``-log sigmoid(beta h)`` of every pair [m].

    ``beta`` > 0 is the strength of the KL regularisation, in units of the reward (0.1 in the paper). With preferences of a
    Bradley-Terry model of a reward R the optimum is ``ref exp(R / beta)``. Raises `SettingError`.
    """
    check_positive(beta=beta)
    return -torch.nn.functional.logsigmoid(beta * pair_margin(columns))


@PARTS.part(
    Kind.LOSS, reads=("mask", "pairs", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.PAIR,
    source="azar2024, eq. 17",
)  # fmt: skip
def ipo(columns: Columns, *, tau: float = 0.1) -> Float[torch.Tensor, " m"]:
    """``(h - 1 / (2 tau))^2`` of every pair [m].

    ``tau`` > 0 is the strength of the KL regularisation. The optimum is ``ref exp(P(y > mu) / tau)`` for pairs drawn from
    mu, whatever the preferences. Raises `SettingError`.
    """
    check_positive(tau=tau)
    return (pair_margin(columns) - 1 / (2 * tau)) ** 2


def pair_margin(columns: Columns) -> Float[torch.Tensor, " m"]:
    """``h`` of every pair. Raises `ColumnError` for a pair of rows that do not exist."""
    (pairs,) = need(columns, "pairs")
    gap = token_log_ratio(columns, "log_probs_ref").sum(1)
    check_pairs(pairs, len(gap))
    return gap[pairs[:, 0]] - gap[pairs[:, 1]]


def check_pairs(pairs: Any, n: int) -> None:
    """Raise `ColumnError` unless ``pairs`` is [m, 2] with rows in [0, n)."""
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ColumnError(f"pairs must be [m, 2], chosen row first; got {list(pairs.shape)}")
    if len(pairs) and not (int(pairs.min()) >= 0 and int(pairs.max()) < n):
        raise ColumnError(f"pairs name rows {int(pairs.min())} to {int(pairs.max())}; there are {n} rows")


def check_positive(**settings: float) -> None:
    """Raise `SettingError` for one that is not a positive number."""
    for name, x in settings.items():
        if not 0 < x < math.inf:
            raise SettingError(f"{name} = {x}; it must be positive and finite")
