"""Advantages in torch: how much better a completion (or a token) was than expected. All are constants of the loss.

``centre``, ``leave_one_out``, ``deviation`` and ``standardise`` use operators only, so that symbols go through them:
``total`` sums over the group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from polytheory._typing import Float, Int
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.scaled.posttraining.base import PARTS

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
    """Scores less their group's mean, divided by a standard deviation; settings and errors as in the reference.

    Reads ``score`` [n], ``group`` [n]; writes ``advantages`` [n], float64.
    """
    _check_scale(scale, ddof, eps)
    score, group = need(columns, "score", "group")
    score = score.detach().double()
    index, size = group_index(group, least=2)
    flat = group_spread(score, index) == 0

    def total(x: torch.Tensor) -> torch.Tensor:
        return group_total(x, index)

    advantages = torch.where(flat, torch.zeros_like(score), centre(score, total, size))
    if scale == "group":
        # centred scores of a flat group are exactly 0; 1 stands in for their deviation
        spread = torch.where(flat, torch.ones_like(score), deviation(advantages, total, size, torch.sqrt, ddof))
        advantages = standardise(advantages, spread, eps)
    elif scale == "batch" and bool(advantages.any()):
        centred = centre(score, torch.sum, len(score))
        advantages = standardise(advantages, deviation(centred, torch.sum, len(score), torch.sqrt, ddof), eps)
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
    score = score.detach().double()
    index, size = group_index(group, least=2)
    return {**columns, "advantages": leave_one_out(centre(score, lambda x: group_total(x, index), size), size)}


@PARTS.part(Kind.ADVANTAGE, reads=("score",), writes=("advantages",), unit=Unit.SEQUENCE, source="williams1992")
def reinforce_advantages(columns: Columns, *, baseline: float = 0.0) -> Columns:
    """Scores less a constant; writes ``advantages`` [n]."""
    (score,) = need(columns, "score")
    return {**columns, "advantages": score.detach().double() - baseline}


@PARTS.part(
    Kind.ADVANTAGE, reads=("score", "mask", "values"), writes=("advantages", "returns"), unit=Unit.TOKEN,
    source="schulman2016, eq. 16",
)  # fmt: skip
def gae_advantages(columns: Columns, *, gamma: float = 1.0, lam: float = 1.0) -> Columns:
    """Generalised advantage estimates of tokens, with the score on the last token; settings as in the reference.

    Reads ``score`` [n], ``mask`` [n, t], ``values`` [n, t]; writes ``advantages`` and ``returns`` [n, t], not whitened.
    """
    _check_unit_interval(gamma=gamma, lam=lam)
    score, mask, values = need(columns, "score", "mask", "values")
    values = torch.where(mask, values.detach(), torch.zeros_like(values)).double()
    advantages = torch.zeros_like(values)
    ahead_value, ahead, reward = (torch.zeros_like(values[:, 0]) for _ in range(3))
    reward = score.detach().double()
    for t in reversed(range(mask.shape[1])):
        here = mask[:, t]
        delta = reward + gamma * ahead_value - values[:, t]
        ahead = torch.where(here, delta + gamma * lam * ahead, ahead)
        advantages[:, t] = torch.where(here, ahead, torch.zeros_like(ahead))
        ahead_value = torch.where(here, values[:, t], ahead_value)
        reward = torch.where(here, torch.zeros_like(reward), reward)
    return {**columns, "advantages": advantages, "returns": advantages + values}


def group_index(
    group: Int[torch.Tensor, " n"], *, least: int = 1
) -> tuple[Int[torch.Tensor, " n"], Float[torch.Tensor, " n"]]:
    """Each row's group as 0, 1, ..., and the size of it. Raises `ColumnError` for one with fewer than ``least`` rows."""
    ids, index, sizes = torch.unique(group, return_inverse=True, return_counts=True)
    if bool((sizes < least).any()):
        i = int((sizes < least).to(torch.int8).argmax())
        raise ColumnError(
            f"group {int(ids[i])} has {int(sizes[i])} completion(s), the baseline needs {least}; sample more or drop it"
        )
    return index, sizes[index].double()


def group_total(x: Float[torch.Tensor, " n"], index: Int[torch.Tensor, " n"]) -> Float[torch.Tensor, " n"]:
    """Sum of ``x`` over the group of each row."""
    n_groups = int(index.max()) + 1 if len(index) else 0
    return x.new_zeros(n_groups).index_add_(0, index, x)[index]


def group_spread(x: Float[torch.Tensor, " n"], index: Int[torch.Tensor, " n"]) -> Float[torch.Tensor, " n"]:
    """Largest less smallest value in the group of each row."""
    n_groups = int(index.max()) + 1 if len(index) else 0
    high = x.new_full((n_groups,), -torch.inf).scatter_reduce_(0, index, x, "amax")
    low = x.new_full((n_groups,), torch.inf).scatter_reduce_(0, index, x, "amin")
    return (high - low)[index]


def _check_scale(scale: str, ddof: int, eps: float) -> None:
    if scale not in SCALES:
        raise UnknownNameError("scale of advantages", scale, SCALES)
    if ddof not in (0, 1) or not eps >= 0:
        raise SettingError(f"ddof = {ddof}, eps = {eps}; ddof is 0 or 1 and eps >= 0")


def _check_unit_interval(**factors: float) -> None:
    for name, x in factors.items():
        if not 0 <= x <= 1:
            raise SettingError(f"{name} = {x}; it must lie in [0, 1]")
