"""Known answers of the robust benchmarks, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory import models
from polytheory.access import KnownModel
from polytheory.errors import NotStochasticError, SettingError, ShapeError, UnknownNameError
from polytheory.models.ambiguity import Penalised, TotalVariation
from polytheory.models.factor_ambiguity import ball_of, check_factors, factor_features, radii_of, reference_of
from polytheory.models.linear import LinearMDP
from polytheory.models.robust_problems import american_put, put_features, put_prices, simulated_linear
from polytheory.reference.exploration.regret import stage_q_values
from polytheory.reference.robust.robust_dp import RobustBackwardInduction
from polytheory.run import run


def test_nominal_values_of_the_simulated_linear_mdp():
    q = stage_q_values(simulated_linear().to_tabular())
    assert_allclose(q[1].max(-1), [1.24975, 1.24975, 1, 0, 2], atol=1e-12)
    assert_allclose(q[0, 0, [0, -1]], [1.323650225, 1.624250125], atol=1e-12)


def test_a_collapse_changes_the_preferred_pull_at_the_printed_probability():
    at = 0.375749875
    for collapse, best in ((at - 1e-3, 15), (at + 1e-3, 0)):
        m, target = simulated_linear(), simulated_linear(collapse=collapse)
        # what is planned for: the nominal slip, the collapsed fourth factor
        measures = np.array(m.measures)
        measures[0, 3] = target.measures[0, 3]
        mixed = LinearMDP(m.phi, measures, m.theta, m.mu, horizon=3)
        assert stage_q_values(mixed.to_tabular())[0, 0].argmax() == best


@pytest.mark.parametrize(
    ("ball", "values"),
    [
        (TotalVariation(0.0), (6.4513077385, 3.5197163677, 1.6415075362)),
        (TotalVariation(0.05, "nominal"), (5.2191074544, 2.3042685076, 0.8870817837)),
        (TotalVariation(0.1, "nominal"), (5.0, 1.5929452429, 0.4593387434)),
        (TotalVariation(0.2, "nominal"), (5.0, 0.8611362686, 0.1026434214)),
        (Penalised("kl", 2.0), (5.0, 1.7697136893, 0.7541020187)),
    ],
)
def test_values_of_the_american_put(ball, values):
    for price, right in zip((95.0, 100.0, 105.0), values, strict=True):
        done = run(RobustBackwardInduction(ball), KnownModel(american_put(price=price)), progress=False)
        assert_allclose(done.state.v[0, 0], right, atol=6e-11)


def test_total_variation_on_two_prices_moves_the_chance_of_a_rise():
    done = run(RobustBackwardInduction(TotalVariation(0.1, "nominal")), KnownModel(american_put()), progress=False)
    assert_allclose(done.state.v[0, 0], stage_q_values(american_put(up=0.6))[0, 0].max(), atol=1e-12)


def test_put_features_interpolate():
    prices = put_prices()
    phi = put_features(prices, d=11)
    anchors = 80 + 10.0 * np.arange(11)
    assert_allclose(phi[:-1, 0].sum(-1), 1)
    assert_allclose(phi[:-1, 0] @ anchors, np.clip(prices, 80, 180))  # linear functions are reproduced
    assert not phi[-1].any()
    assert not phi[:, 1].any()


def test_names_are_in_the_registry():
    assert models.make("simulated-linear", collapse=0.5).A == 16
    assert models.make("american-put", horizon=3).S == 7


@pytest.mark.parametrize("options", [{"offset": 0.1}, {"slip": 2.0}, {"collapse": -0.1}, {"size": -0.1}])
def test_simulated_linear_refuses(options):
    with pytest.raises(SettingError):
        simulated_linear(**options)


@pytest.mark.parametrize("options", [{"price": 0.0}, {"up": 1.5}, {"step": 0.0}, {"horizon": 0}])
def test_american_put_refuses(options):
    with pytest.raises(SettingError):
        american_put(**options)


def test_settings_of_factor_sets_are_refused():
    for call, error in (
        (lambda: put_features(put_prices(), 1), SettingError),
        (lambda: radii_of("l1", 0.1, 3, 4), UnknownNameError),
        (lambda: radii_of("tv", 1.5, 3, 4), SettingError),
        (lambda: radii_of("kl", np.inf, 3, 4), SettingError),
        (lambda: radii_of("penalised-kl", 0.0, 3, 4), SettingError),
        (lambda: radii_of("kl", [0.1, 0.2], 3, 4), ShapeError),
        (lambda: reference_of(np.ones((1, 2, 3)) / 3, 1, 2, 2), ShapeError),
        (lambda: reference_of(np.array([[[0.0, 1.0]]]), 1, 1, 2), SettingError),
        (lambda: reference_of(np.array([[[0.5, 1.0]]]), 1, 1, 2), NotStochasticError),
        (lambda: factor_features(np.full((1, 1, 2), 0.4), 1, 1), SettingError),
        (lambda: factor_features(np.full((2, 1, 2), 0.5), 1, 1), ShapeError),
        (
            lambda: check_factors(LinearMDP(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones(1), np.ones(1), gamma=0.9)),
            SettingError,
        ),
    ):
        with pytest.raises(error):
            call()


def test_no_choice_is_no_set():
    assert ball_of("tv", 0.0) is None
    assert ball_of("penalised-kl", np.inf) is None
    assert factor_features(None, 2, 3).shape == (2, 3, 6)
