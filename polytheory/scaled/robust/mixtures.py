"""Robustness over reward models in torch; see the reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.models.factor_ambiguity import ball_of, check_mixture, radii_of
from polytheory.scaled.robust.bellman import worst_case


class Mixture(NamedTuple):
    """Fields: ``score`` [n]; ``nu`` [d] worst values of the domains; ``law`` [d, M] mixtures that attain them; ``means``
    [d, M]."""

    score: Float[torch.Tensor, " n"]
    nu: Float[torch.Tensor, " d"]
    law: Float[torch.Tensor, "d M"]
    means: Float[torch.Tensor, "d M"]


def worst_mixture(
    scores: Float[torch.Tensor, "n M"], phi: Any, nominal: Any, *, kind: str = "tv", radius: Any = 0.1,
    ridge: float = 0.0,
) -> Mixture:  # fmt: skip
    """One score for every completion, under the mixture of reward models that is worst for its domains; float64."""
    scores, phi, law = (x.detach().double() for x in (scores, phi, nominal))
    check_mixture(tuple(scores.shape), phi.numpy(force=True), law.numpy(force=True), ridge)
    gram = phi.mT @ phi + ridge * torch.eye(phi.shape[1], dtype=phi.dtype, device=phi.device)
    if torch.linalg.matrix_rank(gram) < len(gram):
        raise SettingError("some domain has no prompt of its own in this batch; give ridge > 0, or fewer domains")
    share = torch.linalg.solve(gram, phi.mT)
    means = share @ scores
    nu, law = (law * means).sum(-1), law.clone()
    sizes = np.asarray(radii_of(kind, radius, 1, len(nu))[0])
    for j, size in enumerate(sizes):
        ball = ball_of(kind, float(size), "nominal")
        if ball is not None:
            worst = worst_case(ball, means[j : j + 1], law[j : j + 1])
            nu[j], law[j] = worst.value[0], worst.law[0]
    coefficient = phi.sum(0)[:, None] * share
    return Mixture(torch.einsum("dn,dm,nm->n", coefficient, law, scores), nu, law, means)
