"""Robust scores as a part of both rooms: exact gradients on a listed language model, settings, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from polytheory.errors import ColumnError, NotStochasticError, SettingError, ShapeError, UnknownNameError
from polytheory.models.factor_ambiguity import KINDS
from polytheory.models.tabular_lm import TabularLM
from polytheory.reference.posttraining import grpo as reference
from polytheory.reference.posttraining.kl import kl_in_score
from polytheory.scaled.posttraining import grpo as scaled

ETA = 0.3


def listed(theta, ref, rewards, lm):
    """Every sequence once for each of two domains, its scores times N p, so that sums over rows are expectations."""
    p, now, away = lm.probs(theta) * lm.N, lm.token_log_probs(theta), lm.token_log_probs(ref)
    return {
        "scores": np.concatenate([(r * p).T for r in rewards]), "domains": np.repeat(np.eye(2), lm.N, axis=0),
        "mask": np.tile(lm.mask, (2, 1)), "log_probs_old": np.tile(now, (2, 1)), "log_probs_ref": np.tile(away, (2, 1)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_policy_gradient_climbs_the_regularised_worst_case(kind):
    lm, rng, step = TabularLM(3, 2), np.random.default_rng(0), 1e-5
    theta, ref, turn = rng.normal(size=(3, lm.C, lm.V))
    rewards = rng.normal(size=(2, 3, lm.N))

    def value(at):
        found = reference.worst_mixture_score(listed(at, ref, rewards, lm), kind=kind, radius=0.3)
        # a price pays back what the mixture costs, which scores leave out: compare values, not scores
        from polytheory.reference.robust.mixtures import worst_mixture

        columns = listed(at, ref, rewards, lm)
        nu = worst_mixture(columns["scores"], columns["domains"], np.full((2, 3), 1 / 3), kind=kind, radius=0.3).nu
        assert found["score"].shape == (2 * lm.N,)
        return float(nu.sum()) - ETA * 2 * lm.kl(at, ref)

    columns = reference.worst_mixture_score(listed(theta, ref, rewards, lm), kind=kind, radius=0.3)
    weight = np.tile(lm.probs(theta) * lm.N, 2)
    per_sample = {**columns, "score": columns["score"] / weight}
    advantage = kl_in_score(per_sample, beta=ETA)["score"].reshape(2, lm.N).sum(0)
    gradient = np.tensordot(advantage * lm.probs(theta), lm.scores(theta), axes=1)
    slope = (value(theta + step * turn) - value(theta - step * turn)) / (2 * step)
    assert_allclose((gradient * turn).sum(), slope, atol=1e-8 + 100 * step**2)  # third derivatives of size 100


@pytest.mark.parametrize("kind", KINDS)
def test_rooms_agree(kind):
    rng = np.random.default_rng(1)
    scores, domains, nominal = rng.normal(size=(8, 3)), rng.dirichlet(np.ones(2), 8), rng.dirichlet(np.ones(3), 2)
    options = {"kind": kind, "radius": [0.1, 0.4], "nominal": nominal, "ridge": 0.5}
    one = reference.worst_mixture_score({"scores": scores, "domains": domains}, **options)["score"]
    columns = {"scores": torch.tensor(scores), "domains": torch.tensor(domains)}
    assert_allclose(scaled.worst_mixture_score(columns, **options)["score"], one, atol=1e-12)


def test_one_domain_and_no_choice_is_the_nominal_mixture():
    scores = np.array([[1.0, 0.0], [3.0, 2.0]])
    found = reference.worst_mixture_score({"scores": scores}, radius=0.0, nominal=[0.25, 0.75])
    assert_allclose(found["score"], scores @ [0.25, 0.75])


def test_total_variation_moves_weight_to_the_model_that_scores_least():
    scores = np.array([[1.0, 0.0], [3.0, 2.0], [2.0, 1.0]])
    found = reference.worst_mixture_score({"scores": scores}, kind="tv", radius=0.2)
    assert_allclose(found["score"], scores @ [0.3, 0.7])


@pytest.mark.parametrize(
    ("changes", "settings", "error"),
    [
        ({}, {"kind": "l1"}, UnknownNameError), ({}, {"radius": -1.0}, SettingError), ({}, {"ridge": -1.0}, SettingError),
        ({"scores": None}, {}, ColumnError), ({"domains": np.ones((3, 2)) / 2}, {}, ShapeError),
        ({"domains": np.ones((4, 2))}, {}, NotStochasticError), ({"domains": np.eye(2)[[0, 0, 0, 0]]}, {}, SettingError),
        ({}, {"nominal": [0.5, 0.6]}, NotStochasticError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("room", [reference, scaled])
def test_refusals(room, changes, settings, error):
    columns = {"scores": np.arange(8.0).reshape(4, 2), "domains": np.eye(2)[[0, 0, 1, 1]], **changes}
    if room is scaled:
        columns = {name: None if x is None else torch.tensor(x) for name, x in columns.items()}
    with pytest.raises(error):
        room.worst_mixture_score(columns, **settings)
