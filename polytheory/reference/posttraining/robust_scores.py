"""Scores that are robust over reward models or environments, domain by domain: the language-model form of DR-RPO.

Together with a KL to the reference policy (`kl_in_score`, `kl_in_reward` or a KL loss) any loss of this family then climbs
the reference-regularised worst-case value. See `polytheory.reference.robust.mixtures` for the formulas; a reconstruction, as
DR-RPO itself [gu2025, abstract].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.models.factor_ambiguity import check_radius
from polytheory.parts import Kind, Unit, need
from polytheory.reference.posttraining.base import PARTS
from polytheory.reference.robust.mixtures import worst_mixture

Columns = dict[str, Any]


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("scores",), writes=("score",), unit=Unit.GROUP,
    source="derived; d-rectangular sets as in gu2025, abstract",
)  # fmt: skip
def worst_mixture_score(
    columns: Columns, *, kind: str = "tv", radius: Any = 0.1, nominal: Any = None, ridge: float = 0.0
) -> Columns:
    """Scores [n] under the worst mixture of M reward models near the nominal one; the batch is not split.

    Args:
        columns: ``scores`` [n, M] by model; ``domains`` [n, d] weights of the prompt's domains, if there is more than one.
        kind, radius: the set of mixtures of every domain, see `factor_ambiguity.KINDS`. nominal: its centre, [M] or [d, M];
            None is uniform. ridge: of the regression of scores on domains, >= 0.

    Raises `SettingError`, `ShapeError`, `NotStochasticError`, `UnknownNameError`, `ColumnError`.
    """
    check_radius(kind, radius)
    (scores,) = need(columns, "scores")
    domains = columns.get("domains")
    phi = np.ones((len(scores), 1)) if domains is None else domains
    d, M = phi.shape[1], scores.shape[1]
    nominal = [1 / M] * M if nominal is None else nominal
    law = np.broadcast_to(np.asarray(nominal, dtype=float), (d, M))
    return {
        **columns,
        "score": worst_mixture(np.asarray(scores, dtype=float), phi, law, kind=kind, radius=radius, ridge=ridge).score,
    }
