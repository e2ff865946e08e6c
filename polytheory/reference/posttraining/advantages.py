"""Advantages: how much better a completion (or a token) was than expected. All are constants of the loss.

``centre`` and ``standardise`` use operators only, so that symbols go through them: ``total`` sums over the group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from polytheory._typing import Int
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.reference.posttraining.base import PARTS

Columns = dict[str, Any]
SCALES = ("group", "batch", "none")


def centre(score: Any, total: Callable[[Any], Any], size: Any) -> Any:
    """``R_i - mean_j R_j`` with i itself in the mean."""
    return score - total(score) / size


def leave_one_out(centred: Any, size: Any) -> Any:
    """``R_i - mean_{j != i} R_j = G / (G - 1) (R_i - mean_j R_j)``."""
    return centred * size / (size - 1)


def deviation(centred: Any, total: Callable[[Any], Any], size: Any, sqrt: Callable[[Any], Any], ddof: int) -> Any:
    """Standard deviation of centred scores: population (``ddof = 0``) or Bessel-corrected (``ddof = 1``)."""
    return sqrt(total(centred * centred) / (size - ddof))


def standardise(centred: Any, deviation: Any, eps: Any) -> Any:
    """``centred / (deviation + eps)``."""
    return centred / (deviation + eps)


@PARTS.part(
    Kind.ADVANTAGE, reads=("score", "group"), writes=("advantages",), unit=Unit.SEQUENCE, source="shao2024, sec. 4.1.2"
)
def group_advantages(columns: Columns, *, scale: str = "group", ddof: int = 1, eps: float = 1e-4) -> Columns:
    """Scores less their group's mean, divided by a standard deviation; groups may have unequal sizes.

    Args:
        columns: ``score`` [n], ``group`` [n]. Writes ``advantages`` [n], float64.
        scale: divide by the deviation of the "group" (GRPO), of the whole "batch", or by nothing ("none", Dr. GRPO).
        ddof: 1 for the Bessel-corrected deviation (TRL, verl), 0 for the population's.
        eps: added to the deviation, in units of the score, >= 0; 1e-4 in TRL, 1e-6 in verl, 0 in the paper.

    A group whose scores are all equal gets advantages 0. Raises `ColumnError` for a group of one, `UnknownNameError` and
    `SettingError` for other settings.
    """
    _check_scale(scale, ddof, eps)
    score, group = need(columns, "score", "group")
    score = np.asarray(score, dtype=float)
    advantages = np.zeros(len(score))
    for rows in groups(group, least=2):
        own = score[rows]
        if own.min() == own.max():
            continue
        advantages[rows] = centre(own, np.sum, len(own))
        if scale == "group":
            spread = deviation(advantages[rows], np.sum, len(own), np.sqrt, ddof)
            advantages[rows] = standardise(advantages[rows], spread, eps)
    if scale == "batch" and advantages.any():
        centred = centre(score, np.sum, len(score))
        advantages = standardise(advantages, deviation(centred, np.sum, len(score), np.sqrt, ddof), eps)
    return {**columns, "advantages": advantages}


@PARTS.part(
    Kind.ADVANTAGE,
    reads=("score", "group"),
    writes=("advantages",),
    unit=Unit.SEQUENCE,
    source="kool2019; ahmadian2024",
)
def rloo_advantages(columns: Columns) -> Columns:
    """Scores less the mean score of the *other* completions of the group: an unbiased baseline.

    Reads ``score`` [n], ``group`` [n]; writes ``advantages`` [n]. Raises `ColumnError` for a group of one.
    """
    score, group = need(columns, "score", "group")
    score = np.asarray(score, dtype=float)
    advantages = np.zeros(len(score))
    for rows in groups(group, least=2):
        size = len(rows)
        advantages[rows] = leave_one_out(centre(score[rows], np.sum, size), size)
    return {**columns, "advantages": advantages}


@PARTS.part(Kind.ADVANTAGE, reads=("score",), writes=("advantages",), unit=Unit.SEQUENCE, source="williams1992")
def reinforce_advantages(columns: Columns, *, baseline: float = 0.0) -> Columns:
    """Scores less a constant; writes ``advantages`` [n]."""
    (score,) = need(columns, "score")
    return {**columns, "advantages": np.asarray(score, dtype=float) - baseline}


@PARTS.part(
    Kind.ADVANTAGE, reads=("score", "mask", "values"), writes=("advantages", "returns"), unit=Unit.TOKEN,
    source="schulman2016, eq. 16",
)  # fmt: skip
def gae_advantages(columns: Columns, *, gamma: float = 1.0, lam: float = 1.0) -> Columns:
    """Generalised advantage estimates of tokens, ``A_t = delta_t + gamma lam A_{t+1}``, with the score on the last token.

    Args:
        columns: ``score`` [n], ``mask`` [n, t], frozen ``values`` [n, t] of the prefixes. Tokens that are masked inside a
            completion (a tool's) are skipped: the next trained token follows. Writes ``advantages`` [n, t], *not*
            whitened, and ``returns`` [n, t], the targets of the values.
        gamma, lam: in [0, 1]; 1 and 1 give Monte-Carlo returns less the value.

    Raises `SettingError` for factors out of range.
    """
    _check_unit_interval(gamma=gamma, lam=lam)
    score, mask, values = need(columns, "score", "mask", "values")
    advantages = np.zeros(mask.shape)
    returns = np.zeros(mask.shape)
    for i in range(len(mask)):
        ahead_value, ahead, reward = 0.0, 0.0, float(score[i])
        for t in np.flatnonzero(mask[i])[::-1]:
            delta = reward + gamma * ahead_value - values[i, t]
            ahead = delta + gamma * lam * ahead
            advantages[i, t], returns[i, t] = ahead, ahead + values[i, t]
            ahead_value, reward = float(values[i, t]), 0.0
    return {**columns, "advantages": advantages, "returns": returns}


def groups(group: Int[np.ndarray, " n"], *, least: int = 1) -> Iterator[Int[np.ndarray, " G"]]:
    """Row indices of each group. Raises `ColumnError` for a group with fewer than ``least`` rows."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order])) + 1
    for rows in np.split(order, starts) if len(order) else ():
        if len(rows) < least:
            raise ColumnError(
                f"group {group[rows[0]]} has {len(rows)} completion(s), the baseline needs {least}; sample more or drop it"
            )
        yield rows


def _check_scale(scale: str, ddof: int, eps: float) -> None:
    if scale not in SCALES:
        raise UnknownNameError("scale of advantages", scale, SCALES)
    if ddof not in (0, 1) or not eps >= 0:
        raise SettingError(f"ddof = {ddof}, eps = {eps}; ddof is 0 or 1 and eps >= 0")


def _check_unit_interval(**factors: float) -> None:
    for name, x in factors.items():
        if not 0 <= x <= 1:
            raise SettingError(f"{name} = {x}; it must lie in [0, 1]")
