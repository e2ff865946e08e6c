"""What the objectives of this family share in torch: the registry and how terms are averaged; see the reference.

A loss part returns a tensor of terms, one per unit, through which autograd reaches the ``now`` columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from polytheory._typing import Bool, Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Registry, Unit

PARTS = Registry("scaled")
NORMALISATIONS = ("seq_mean", "token_mean", "seq_sum", "constant", "token_sum")


@dataclass(frozen=True)
class Counts:
    """Numbers of the whole accumulated batch over all ranks: trained ``tokens``, ``sequences`` and ``pairs``."""

    tokens: int
    sequences: int
    pairs: int = 0

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Counts:
        """The counts of one batch that is not split."""
        mask, pairs = columns["mask"], columns.get("pairs")
        return cls(int(mask.sum()), int(mask.shape[0]), 0 if pairs is None else len(pairs))


def weights(
    mask: Bool[torch.Tensor, "n t"],
    unit: Unit,
    counts: Counts,
    *,
    normalisation: str = "seq_mean",
    max_length: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Float[torch.Tensor, "..."]:
    """Weights of the terms, so that the loss is ``sum(weights * terms)``; names and errors as in the reference."""
    if unit != Unit.TOKEN:
        number = counts.pairs if unit == Unit.PAIR else counts.sequences
        if number < 1:
            raise SettingError(f"there is no {unit} in the batch to average over")
        size = number if unit == Unit.PAIR else mask.shape[0]
        return torch.full((size,), 1.0 / number, dtype=dtype, device=mask.device)
    if normalisation not in NORMALISATIONS:
        raise UnknownNameError("normalisation", normalisation, NORMALISATIONS)
    m = mask.to(dtype)
    if normalisation == "token_sum":
        return m
    if counts.tokens < 1:
        raise SettingError("there is no trained token in the batch to average over")
    if normalisation == "token_mean":
        return m / counts.tokens
    if normalisation == "seq_sum":
        return m / counts.sequences
    if normalisation == "constant":
        if max_length is None or max_length < 1:
            raise SettingError(f"normalisation 'constant' divides by max_length; got {max_length}")
        return m / (counts.sequences * max_length)
    lengths = m.sum(-1, keepdim=True)
    if not bool((lengths > 0).all()):
        raise SettingError(f"row {int(lengths[:, 0].argmin())} has no trained token; seq_mean divides by its length")
    return m / lengths / counts.sequences
