"""What happens to scores before advantages, in torch: the shaping and the filter of DAPO [yu2025].

References: [yu2025] Yu et al., DAPO: An Open-Source LLM Reinforcement Learning System at Scale, arXiv 2503.14476.
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Bool
from polytheory.errors import SettingError
from polytheory.parts import Kind, Unit, need
from polytheory.scaled.posttraining.advantages import group_index, group_spread
from polytheory.scaled.posttraining.base import PARTS

Columns = dict[str, Any]


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("mask", "score"), writes=("score",), unit=Unit.SEQUENCE, source="yu2025, eq. 13"
)
def overlong_shaping(columns: Columns, *, max_length: int, buffer: int) -> Columns:
    """Scores [n] plus a penalty on length, counted in trained tokens.

    0 up to ``max_length - buffer`` tokens, falling linearly to -1 at ``max_length``, -1 beyond. The paper: 20480 and 4096.
    Raises `SettingError` unless ``0 < buffer <= max_length``.
    """
    if not 0 < buffer <= max_length:
        raise SettingError(f"max_length = {max_length}, buffer = {buffer}; need 0 < buffer <= max_length")
    mask, score = need(columns, "mask", "score")
    over = (mask.sum(1).double() - (max_length - buffer)) / buffer
    return {**columns, "score": score - over.clamp(0.0, 1.0).to(score.dtype)}


@PARTS.part(Kind.FILTER, reads=("score", "group"), unit=Unit.GROUP, source="yu2025, eq. 11 (dynamic sampling)")
def dynamic_sampling(columns: Columns, *, prompts: int | None = None) -> Columns:
    """Only the rows of groups whose scores differ: the others have no advantage but would count in averages.

    ``prompts`` keeps the first so many of these groups (in order of group id), None all. Every column that starts with the
    rows is cut. Pairs must be formed later.
    """
    return keep_rows(columns, informative(columns, prompts))


def informative(columns: Columns, prompts: int | None = None) -> Bool[torch.Tensor, " n"]:
    """True on the rows of the first ``prompts`` (None: all) groups whose scores differ."""
    score, group = need(columns, "score", "group")
    index, _ = group_index(group)
    keep = group_spread(score, index) > 0
    if prompts is None:
        return keep
    kept = index[keep].unique()[:prompts]  # sorted
    return keep & torch.isin(index, kept)


def keep_rows(columns: Columns, keep: Bool[torch.Tensor, " n"]) -> Columns:
    """Every column cut to the rows where ``keep`` is True."""
    return {name: x[keep] for name, x in columns.items()}
