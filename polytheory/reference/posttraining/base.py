"""What the objectives of this family share: the registry, what a loss returns, and how its terms are averaged.

A loss part takes columns and returns `Terms`: one value per unit and the pullback that turns weights per unit into the
gradient with respect to each ``now`` column, in closed form. The driver chooses the weights by a named normalisation
from *global* counts, so that the loss does not depend on micro-batches, padding or the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Bool, Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Registry, Unit

PARTS = Registry("reference")
NORMALISATIONS = ("seq_mean", "token_mean", "seq_sum", "constant", "token_sum")


@dataclass(frozen=True, eq=False)
class Terms:
    """A loss per unit, to be minimised.

    Fields:
        value: [n, t] for tokens (0 where masked), [n] for sequences, [m] for pairs.
        pullback: from weights of the shape of ``value`` to ``{now column: gradient of sum(weights * value)}``.
    """

    value: Float[np.ndarray, "..."]
    pullback: Callable[[Float[np.ndarray, "..."]], dict[str, Float[np.ndarray, "..."]]]


@dataclass(frozen=True)
class Counts:
    """Numbers of the whole accumulated batch over all ranks: trained ``tokens``, ``sequences`` and ``pairs``."""

    tokens: int
    sequences: int
    pairs: int = 0

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Counts:
        """The counts of one batch that is not split."""
        mask = np.asarray(columns["mask"])
        pairs = columns.get("pairs")
        return cls(int(mask.sum()), int(mask.shape[0]), 0 if pairs is None else len(pairs))


def weights(
    mask: Bool[np.ndarray, "n t"],
    unit: Unit,
    counts: Counts,
    *,
    normalisation: str = "seq_mean",
    max_length: int | None = None,
) -> Float[np.ndarray, "..."]:
    """Weights of the terms, so that the loss is ``sum(weights * value)``.

    Token losses, by name: ``seq_mean`` mean over sequences of the mean over their tokens; ``token_mean`` mean over all
    tokens of the global batch; ``seq_sum`` mean over sequences of the sum; ``constant`` as seq_sum over ``max_length``;
    ``token_sum`` plain sum. Sequence and pair losses are averaged over the global batch.

    Raises:
        UnknownNameError: unknown normalisation. SettingError: a count is zero, an empty row under seq_mean, or
            ``constant`` without ``max_length``.
    """
    if unit != Unit.TOKEN:
        number = counts.pairs if unit == Unit.PAIR else counts.sequences
        if number < 1:
            raise SettingError(f"there is no {unit} in the batch to average over")
        return np.full(mask.shape[0] if unit != Unit.PAIR else number, 1.0 / number)
    if normalisation not in NORMALISATIONS:
        raise UnknownNameError("normalisation", normalisation, NORMALISATIONS)
    m = mask.astype(float)
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
    lengths = m.sum(axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise SettingError(f"row {int(np.argmin(lengths[:, 0]))} has no trained token; seq_mean divides by its length")
    return m / lengths / counts.sequences
