"""Scores that are robust over reward models or environments, in torch; the reference says what they are for."""

from __future__ import annotations

from typing import Any

import torch

from polytheory.models.factor_ambiguity import check_radius
from polytheory.parts import Kind, Unit, need
from polytheory.scaled.posttraining.base import PARTS
from polytheory.scaled.robust.mixtures import worst_mixture

Columns = dict[str, Any]


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("scores",), writes=("score",), unit=Unit.GROUP,
    source="derived; d-rectangular sets as in gu2025, abstract",
)  # fmt: skip
def worst_mixture_score(
    columns: Columns, *, kind: str = "tv", radius: Any = 0.1, nominal: Any = None, ridge: float = 0.0
) -> Columns:
    """Scores [n] under the worst mixture of M reward models near the nominal one; arguments as in the reference."""
    check_radius(kind, radius)
    (scores,) = need(columns, "scores")
    domains = columns.get("domains")
    phi = scores.new_ones(len(scores), 1) if domains is None else domains
    d, M = phi.shape[1], scores.shape[1]
    nominal = [1 / M] * M if nominal is None else nominal
    law = torch.as_tensor(nominal, dtype=torch.float64, device=scores.device).expand(d, M)
    return {**columns, "score": worst_mixture(scores, phi, law, kind=kind, radius=radius, ridge=ridge).score}
