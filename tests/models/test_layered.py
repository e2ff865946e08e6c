"""Layered models: numbers of states tell the layer, and nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.errors import NotStochasticError, SettingError, ShapeError
from polytheory.models import make
from polytheory.models.layered import Layers, layered, layers_of, tables_of, uniform_resets, unrolled
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.planning import return_of


def test_a_layered_model_is_its_tables():
    rng = np.random.default_rng(0)
    P, r = rng.dirichlet(np.ones(4), size=(3, 3, 2))[..., :3], rng.random((3, 3, 2))  # what lacks to 1 ends the episode
    model = layered(P, r, [0.5, 0.5, 0.0])
    tables = tables_of(model)
    assert layers_of(model) == Layers(3, 3, 2)
    np.testing.assert_allclose(tables.P[:2], P[:2], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(tables.r, r)
    assert not tables.P[2].any()
    assert model.terminal.tolist() == [False] * 9 + [True]


def test_unrolling_keeps_every_return():
    """The same staged policy is worth the same before and after, discount and terminal states included."""
    for name, options in (
        ("riverswim", {"gamma": 0.9, "horizon": 4}),
        ("two-state", {"gamma": 0.8, "horizon": 4}),
        ("combination-lock", {}),  # its locks end episodes early
    ):
        before = make(name, **options)
        H = before.horizon
        table = np.random.default_rng(1).dirichlet(np.ones(before.A), size=(H, before.S))
        flat = np.concatenate([table.reshape(-1, before.A), np.eye(before.A)[:1]])
        after = unrolled(before)
        assert return_of(after, TabularPolicy(flat)) == pytest.approx(
            return_of(before, TabularPolicy(table)), abs=1e-12
        )


def test_reset_laws_stay_in_their_layer():
    reset = uniform_resets(Layers(3, 2, 2), over=np.array([0.25, 0.75]))
    assert reset.shape == (3, 7)
    np.testing.assert_array_equal(reset[1], [0, 0, 0.25, 0.75, 0, 0, 0])


def test_what_is_not_layered_is_refused():
    with pytest.raises(ShapeError, match="P \\[H, n, A, n\\]"):
        layered(np.zeros((3, 2, 2)), np.zeros((3, 2, 2)), [1.0, 0.0])
    with pytest.raises(NotStochasticError, match="more than 1"):
        layered(np.ones((1, 2, 2, 2)), np.zeros((2, 2, 2)), [1.0, 0.0])
    with pytest.raises(SettingError, match="is not layered"):
        layers_of(make("two-state"))
    looks_the_part = make("riverswim", horizon=5)  # 6 states and gamma 1
    assert layers_of(looks_the_part) == Layers(5, 1, 2)
    with pytest.raises(SettingError, match="skips a layer"):
        tables_of(looks_the_part)
    with pytest.raises(SettingError, match="has no horizon"):
        unrolled(make("two-state"))


def test_the_named_models_have_their_known_values():
    value = {}
    for name, actions in (
        ("layered-two-state", [[1, 1], [1, 1], [0, 1]]),
        ("psdp-trap", [[0, 0, 0], [1, 1, 1]]),
        ("error-amplification", [[1, 1]] * 5),
    ):
        model = make(name)
        flat = np.append(np.ravel(actions), 0)
        value[name] = return_of(model, TabularPolicy.deterministic(flat, model.A))
    assert value["layered-two-state"] == pytest.approx(0.45866666667, abs=1e-10)
    assert value["psdp-trap"] == 0.5
    assert value["error-amplification"] == pytest.approx(0.348395, abs=1e-12)
    with pytest.raises(SettingError, match="last"):
        make("error-amplification", horizon=9)
