"""Where the distribution term earns true return and where it costs: exact ascents on the model with two sides."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.proofs_check.alignment.instances import two_sides
from polytheory.reference.alignment.parl import Parl
from polytheory.reference.planning.planning import return_of


def end(tau, route, upper="preference"):
    """True return of the policy and value of G where ascent from 0 ends, in a point without slope."""
    case = two_sides(tau)
    made = Parl(case.features, tau, alpha=1.0, upper=upper, ridge=0.01, route=route, segment=3)
    state = made.init(case.access)
    while not state.t or np.linalg.norm(state.gradient) > 1e-6 or not made.solved(state):
        assert state.t < 400
        state, _ = made.step(state, case.access)
    return return_of(case.model, made.policy(state)), state.value


@pytest.mark.parametrize(
    ("tau", "with_term", "without"),
    [(1.2, 0.8224, 0.0057), (0.4, 1.0804, 1.6739)],
    ids=["it breaks a compromise", "it keeps pairs easy"],
)
def test_the_term_raises_the_likelihood_and_not_always_the_return(tau, with_term, without):
    (J, G), (J_without, G_without) = end(tau, "closed"), end(tau, "none")
    assert G > G_without + 0.01  # the theorem
    assert abs(J - with_term) < 1e-4  # the printed digits
    assert abs(J_without - without) < 1e-4


def test_the_class_of_rewards_has_better_ones():
    best, _ = end(1.2, "closed", "utility")
    assert best > 1.8
