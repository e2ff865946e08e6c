"""Robustness over reward models (or environments): the worst mixture of M scores, domain by domain.

Setting: prompts belong to d domains by weights ``phi`` [n, d]; completion i has M scores ``r_im``, one from each reward
model. What domain j is worth under model m is estimated by a (ridge) regression of the scores on the weights, in the plain case
the mean over its prompts; nature replaces the nominal mixture of models of every domain by a law near it (d-rectangular).

Key equation: ``J = sum_i phi_i . nu``, ``nu_j = min_w sum_m w_m means_jm`` over the set of domain j.

Guarantee: J is concave in the means and has the gradient ``sum_i coefficient_ij w*_jm`` in score (i, m) [Danskin], w* the worst
mixture of domain j, ``coefficient_ij = (sum_k phi_k)_j (Lambda^{-1} phi_i)_j``: the score ``sum_jm coefficient_ij w*_jm r_im``
makes any policy gradient the gradient of the robust value. With a KL penalty to a reference policy the optimum is
``ref exp(score / eta)`` at the mixtures that are worst for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.models.factor_ambiguity import ball_of, check_mixture, radii_of
from polytheory.reference.robust.bellman import worst_case


class Mixture(NamedTuple):
    """Fields: ``score`` [n]; ``nu`` [d] worst values of the domains; ``law`` [d, M] mixtures that attain them; ``means``
    [d, M]."""

    score: Float[np.ndarray, " n"]
    nu: Float[np.ndarray, " d"]
    law: Float[np.ndarray, "d M"]
    means: Float[np.ndarray, "d M"]


def worst_mixture(
    scores: Float[np.ndarray, "n M"], phi: Any, nominal: Any, *, kind: str = "tv", radius: Any = 0.1,
    ridge: float = 0.0,
) -> Mixture:  # fmt: skip
    """One score for every completion, under the mixture of reward models that is worst for its domains.

    Args:
        scores: of every completion by every model. phi: [n, d] weights of its prompt's domains, a law. nominal: [d, M]
            mixture of models of every domain. kind, radius: as in `DrRpo`; a radius for all domains, or [d]. ridge: >= 0.

    Raises `SettingError`, `ShapeError`, `NotStochasticError`, `UnknownNameError`.
    """
    check_mixture(scores.shape, phi, nominal, ridge)
    phi = np.asarray(phi, dtype=float)
    gram = phi.T @ phi + ridge * np.eye(phi.shape[1])
    if np.linalg.matrix_rank(gram) < len(gram):
        raise SettingError("some domain has no prompt of its own in this batch; give ridge > 0, or fewer domains")
    share = np.linalg.solve(gram, phi.T)  # [d, n]
    means = share @ scores
    nu, law = (nominal * means).sum(-1), np.array(nominal, dtype=float)
    sizes = radii_of(kind, radius, 1, len(nu))[0]
    for j, size in enumerate(sizes):
        ball = ball_of(kind, float(size), "nominal")
        if ball is not None:
            worst = worst_case(ball, means[j : j + 1], law[j : j + 1])
            nu[j], law[j] = worst.value[0], worst.law[0]
    coefficient = phi.sum(0)[:, None] * share
    return Mixture(np.einsum("dn,dm,nm->n", coefficient, law, scores), nu, law, means)
