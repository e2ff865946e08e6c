"""The oracle of a study against another route, and its independence of how much it is asked at once."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory import models
from polytheory.lab.exact import TOL, Oracle
from polytheory.policies import TabularPolicy
from polytheory.reference.exploration.regret import value
from polytheory.reference.planning.planning import discounted_occupancy

MODELS = {
    "staged": models.make("deep-sea", depth=4),
    "stationary": models.make("riverswim", horizon=6),
    "discounted": models.make("two-state"),
    "discounted horizon": models.make("garnet", horizon=5, gamma=0.9),
}


def policies(model, n: int) -> np.ndarray:
    shape = (n, model.S, model.A) if model.horizon is None else (n, model.horizon, model.S, model.A)
    x = np.random.default_rng(0).exponential(size=shape)
    return x / x.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", MODELS)
def test_returns_are_visits_times_rewards(name):
    model = MODELS[name]
    tables = policies(model, 6)
    r = model.r_at(0) if model.horizon is None else np.stack([model.r_at(h) for h in range(model.horizon)])
    visits = [discounted_occupancy(model, TabularPolicy(x)) for x in tables]
    # both routes add up at most H S A terms (or solve one small system) of this size in float64
    size = max(float((d * np.abs(r)).sum()) for d in visits)
    np.testing.assert_allclose(
        Oracle(model).returns(tables), [(d * r).sum() for d in visits], rtol=0, atol=1e-13 * size
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_value_does_not_depend_on_its_neighbours(name):
    oracle, tables = Oracle(MODELS[name]), policies(MODELS[name], 37)
    together = oracle.returns(tables)
    for n in (1, 2, 3, 8, 36):
        np.testing.assert_array_equal(oracle.returns(tables[:n]), together[:n])
    np.testing.assert_array_equal(oracle.returns(tables[::-1]), together[::-1])


def test_the_optimum_is_known_where_it_is_known():
    assert Oracle(MODELS["staged"]).optimum == pytest.approx(1.0, abs=1e-12)
    assert abs(Oracle(MODELS["discounted"]).optimum - 90 / 23) <= TOL


def test_a_policy_of_one_action_each_is_worth_what_regret_says():
    model = MODELS["stationary"]
    table = np.eye(model.A)[np.random.default_rng(1).integers(model.A, size=(model.horizon, model.S))]
    assert abs(Oracle(model).returns(table[None])[0] - value(model, table)) <= 1e-13 * model.horizon
