"""Exact measures that single studies need, named ``polytheory.lab.studies.measures:NAME`` in their TOML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polytheory._typing import Float
from polytheory.reference.policy_gradient.exact import derivatives
from polytheory.reference.policy_gradient.softmax import TabularSoftmax

if TYPE_CHECKING:
    from polytheory.lab.sweeps.measures import Look


def gradient_error(look: Look) -> Float[np.ndarray, " n"]:
    """``|d_t - grad J_H(theta_t)|^2`` of a policy-gradient method with a full tabular softmax: how well the direction of
    the last step tracked the exact gradient of the truncated objective where the step was made."""
    model, cut = look.oracle.model, look.algorithm.truncation
    start = TabularSoftmax.zeros(model.S, model.A)
    theta, d = look.field("theta_prev"), look.field("d")
    exact = [derivatives(model, start.with_theta(x), truncation=cut).gradient for x in theta]
    return ((d - np.array(exact)) ** 2).sum(axis=-1)
