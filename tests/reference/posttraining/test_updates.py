"""The updates against the policy-gradient family's own algorithms on the same trajectories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory import models
from polytheory.access import Key, Online
from polytheory.parts import Kind, Unit
from polytheory.reference.policy_gradient import harpg, n_pg_igt
from polytheory.reference.posttraining import updates
from polytheory.reference.posttraining.base import PARTS
from polytheory.reference.posttraining.composition import Composition, Use
from polytheory.reference.posttraining.softmax import TabularSoftmax

MODEL = models.make("token-mdp", reward="ones-minus-half-length")


class OneTape(Online):
    """Draws the same numbers whoever asks: those of first batches at a seed below 100, else those of second ones."""

    def rollouts(self, policy, requests, key):
        second = key.seed >= 100 or key.purpose.endswith("tau_hat")
        return super().rollouts(policy, requests, Key(int(second), "tape", key.step))


@pytest.fixture
def plain_score():
    @PARTS.part(Kind.ADVANTAGE, reads=("score",), writes=("advantages",), unit=Unit.SEQUENCE, name="score_for_a_test")
    def score_for_a_test(columns):
        return {**columns, "advantages": columns["score"]}

    yield
    del PARTS._parts["score_for_a_test"]


@dataclass(frozen=True, eq=False)
class Reinforce(Composition):
    """The score itself as advantage; `name` chooses the stream of HARPG's q."""

    normalisation: str = "seq_sum"
    name = "harpg"

    def recipe(self):
        return Use("score_for_a_test"), Use("reinforce")


@pytest.mark.usefixtures("plain_score")
@pytest.mark.parametrize("schedule", ["theorem", "constant"])
@pytest.mark.parametrize(
    ("update", "method", "more"),
    [
        (updates.NPgIgt, n_pg_igt.NPgIgt, {}),
        (updates.Harpg, harpg.Harpg, {}),
        (updates.Harpg, harpg.NHarpg, {"normalised": True}),
    ],
)
def test_they_are_the_algorithms_of_the_policy_gradient_family(update, method, more, schedule):
    settings = {"gamma0": 0.7, "eta0": 1.0 if schedule == "theorem" else 0.6, "schedule": schedule}
    policy = TabularSoftmax.zeros(MODEL.S, MODEL.A)
    here = Reinforce(policy=policy, group_size=5, update=update(**settings, **more))
    there = method(policy, truncation=3, batch=5, **settings)
    mine, theirs = OneTape(MODEL), OneTape(MODEL)
    state, other = here.init(mine, 7), there.init(theirs, 7)
    for _ in range(8):
        state, _ = here.step(state, mine)
        other, _ = there.step(other, theirs)
        # sums in another order: some hundred roundings a step, magnified where a normalised direction is small
        assert_allclose(state.theta, other.theta, rtol=1e-11, atol=1e-11)
    assert np.linalg.norm(state.theta) > 0.5
    assert mine.meter.total("episodes") == theirs.meter.total("episodes")
