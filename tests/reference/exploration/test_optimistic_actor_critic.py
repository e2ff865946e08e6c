"""Settings, data, constants and peers of the optimistic actor-critic; the theorems are claims."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from polytheory import models
from polytheory.access import GenerativeModel, Online
from polytheory.errors import SettingError, UnknownNameError
from polytheory.exploration import constants
from polytheory.models.random_models import random_linear
from polytheory.reference.exploration import optimistic_actor_critic as oac
from polytheory.reference.exploration.behaviours import behaviour_episodes
from polytheory.reference.exploration.critics import add_episodes, nothing_seen
from polytheory.reference.exploration.regret import stage_q_values, value
from polytheory.run import run
from polytheory.trajectories import Trajectories

LOCK = models.make("baited-lock", H=4)


def test_data_are_counted_by_stage_and_early_ends_are_worth_nothing():
    traj = Trajectories(
        states=np.array([[0, 1, 1], [2, 0, 0]]), actions=np.array([[1, 0, 1], [0, 0, 0]]),
        rewards=np.array([[0.5, 0.0, 1.0], [0.25, 0.0, 0.0]]), mask=np.array([[True] * 3, [True, False, False]]),
    )  # fmt: skip
    n, N, R = add_episodes(nothing_seen(3, 3, 2), traj)
    assert n.sum() == 4
    assert n[0, 0, 1] == n[1, 1, 0] == n[2, 1, 1] == n[0, 2, 0] == 1
    assert N.sum() == 2  # the last steps of both episodes lead nowhere
    assert N[0, 0, 1, 1] == N[1, 1, 0, 1] == 1
    assert_allclose(R[[0, 0, 2], [0, 2, 1], [1, 0, 1]], [0.5, 0.25, 1.0])
    with pytest.raises(SettingError, match="at most 2 steps"):
        add_episodes(nothing_seen(2, 3, 2), traj)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episodes": 0}, "episodes = 0"), ({"bonus_scale": -1.0}, "bonus_scale"), ({"lam": 0.0}, "lam = 0"),
        ({"delta": 1.0}, "delta"), ({"value_bound": 0.0}, "value_bound"), ({"eta": -0.1}, "eta"),
        ({"phi": np.full((2, 2, 3), 1.0)}, "norm at most 1"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        oac.Nora(**{"episodes": 10, **settings})


@pytest.mark.parametrize(
    ("field", "name"), [("target", "q-star"), ("switching", "determinants"), ("constants", "theory")]
)
def test_unknown_names_are_refused(field, name):
    with pytest.raises(UnknownNameError, match=name):
        oac.Nora(10, **{field: name})


def test_worlds_that_do_not_fit_are_refused():
    learner = oac.Nora(10)
    with pytest.raises(SettingError, match="finite horizon"):
        learner.init(Online(models.make("chain")), 0)
    with pytest.raises(SettingError, match="phi must be"):
        oac.Nora(10, phi=np.zeros((3, 2, 1))).init(Online(LOCK), 0)
    with pytest.raises(SettingError, match="offline"):
        oac.NoraHybrid(10)
    with pytest.raises(SettingError, match="no features"):
        oac.Ucbvi(10, phi=np.zeros((2, 2, 1)))


def test_a_table_is_the_linear_critic_with_one_hot_features():
    phi = np.eye(4).reshape(2, 2, 4)
    runs = [run(oac.Nora(40, phi=x, bonus_scale=s), Online(LOCK), steps=40) for x, s in ((None, 1.5), (phi, 1.0))]
    # practical radii are 0.2 and 0.3: equal after scaling, up to the rounding of inverses
    assert_allclose(runs[0].state.f, runs[1].state.f, rtol=0, atol=1e-12)
    assert_array_equal(runs[0].state.n, runs[1].state.n)


def test_the_linear_radius_is_a_fixed_point_and_grows_with_what_it_must_cover():
    radius = constants.linear_radius(3, 4, 1000, 2.0, delta=0.05, lam=1.0)
    assert constants.linear_radius(4, 4, 1000, 2.0, delta=0.05, lam=1.0) > radius
    assert constants.linear_radius(3, 4, 4000, 2.0, delta=0.05, lam=1.0) > radius
    assert constants.linear_radius(3, 4, 1000, 2.0, delta=0.01, lam=1.0) > radius
    eps, L = 3 * 2.0 / 1000, 4.0 * np.sqrt(3 * 1000)
    cover = 3 * np.log(1 + 4 * L / eps) + 9 * np.log(1 + 8 * np.sqrt(3) * radius**2 / eps**2)
    noise = 4 * (1.5 * np.log(1 + 1000 / 3) + cover + np.log(4 / 0.05))
    assert_allclose(radius, np.sqrt(noise + 8000 * eps**2) + 4 * np.sqrt(3), rtol=1e-9)


def test_optimistic_methods_solve_the_lock_and_the_usual_actor_critic_takes_the_bait():
    best = float(LOCK.mu @ stage_q_values(LOCK)[0].max(-1))
    assert_allclose(best, 1.0)
    for learner in (
        oac.Nora(300, value_bound=1.2),
        oac.Ucbvi(300),
        oac.Ucbvi(300, bonus="bernstein"),
        oac.LsviUcb(300),
    ):
        result = run(learner, Online(LOCK, known_rewards=True), steps=300)
        assert value(LOCK, result.policy.table()) > 0.9, type(learner).__name__
    big = models.make("baited-lock", H=6, bait=0.4)
    result = run(oac.EpsilonGreedyActorCritic(100), Online(big), steps=100)
    assert value(big, result.policy.table()) < 0.5


def test_offline_data_are_enough_without_a_bonus():
    data = behaviour_episodes(LOCK, "half-optimal", 60)
    result = run(oac.Noah(60, offline=data), Online(LOCK), steps=60)
    assert value(LOCK, result.policy.table()) > 0.9


def test_a_resumed_run_is_the_same_run(tmp_path):
    learner, access = oac.Nora(20), Online(LOCK)
    whole = run(learner, access, steps=20)
    run(learner, access.fresh(), steps=11, checkpoint=tmp_path)
    resumed = run(learner, access.fresh(), steps=20, checkpoint=tmp_path)
    assert_array_equal(whole.state.log_weights, resumed.state.log_weights)
    assert_array_equal(whole.state.N, resumed.state.N)


def test_features_of_a_linear_mdp_generalise_over_unseen_pairs():
    made = random_linear(S=8, A=4, d=3, horizon=3, seed=1)
    model = made.to_tabular()
    result = run(oac.LsviUcb(120, phi=made.phi), GenerativeModel(model), steps=120)
    best = float(model.mu @ stage_q_values(model)[0].max(-1))
    uniform = value(model, np.full((3, 8, 4), 0.25))
    # the greedy policy closes at least half of the gap, although most pairs of 96 were seen at most once
    assert value(model, result.policy.table()) > (best + uniform) / 2
