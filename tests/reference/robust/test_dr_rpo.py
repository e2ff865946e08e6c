"""DR-RPO in the reference room: limits, refusals, resuming, and duals against dense grids."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory import models
from polytheory.access import Online
from polytheory.errors import PolytheoryError, SettingError, ShapeError, UnknownNameError
from polytheory.models.factor_ambiguity import KINDS
from polytheory.models.robust_problems import american_put, put_features, put_prices, simulated_linear
from polytheory.policies import TabularPolicy
from polytheory.reference.robust.dr_rpo import DrRpo, RobustLsvi, plan, suboptimality, worst_value
from polytheory.reference.robust.factor_duals import factor_values
from polytheory.reference.robust.regularised import relative_entropy, soft_policy, soft_value
from polytheory.run import run
from polytheory.streams import row_ids
from polytheory.trajectories import Trajectories


@pytest.fixture(scope="module")
def nominal():
    return simulated_linear()


def access(model, known_rewards=True):
    return Online(model.to_tabular(), known_rewards=known_rewards)


def test_dual_of_total_variation_against_a_dense_grid():
    rng, a = np.random.default_rng(1), np.linspace(0, 2, 100_001)
    W, v = rng.normal(size=(3, 6)) / 3, rng.uniform(0, 2, 6)
    grid = (W @ np.minimum(v[:, None], a) - 0.3 * (a - np.minimum(a, v.min()))).max(-1)
    found = factor_values(W, v, np.full(3, 0.3), kind="tv", top=2.0)
    assert (found >= grid - 1e-12).all()
    assert_allclose(found, grid, atol=2e-5 * (1 + np.abs(W).sum()))  # a step of the grid times the slope


@pytest.mark.parametrize("kind", KINDS)
def test_many_data_give_the_worst_values_of_the_factors(nominal, kind):
    radius = 0.5
    exact = plan(nominal, kind, radius, eta=0.1)
    flat = nominal.phi.reshape(-1, 4)
    n = 1e9
    for h in range(2):
        counts = n * nominal.kernel[h].reshape(-1, 5)
        W = np.linalg.solve(np.eye(4) + n * flat.T @ flat, flat.T @ counts)
        found = factor_values(W, exact.v[h + 1], np.full(4, radius), kind=kind, top=3.0)
        # the ridge takes 1e-9 of the mass, a floor of b = 0.3 costs at most 0.3 (rho + log 1/p) where nature takes all
        room = 0.3 * (radius + np.log(1 / 0.001)) if kind == "kl" else 1e-3
        assert (found <= exact.nu[h] + 1e-3).all()
        assert_allclose(found, exact.nu[h], atol=room)


def test_suboptimality_falls_with_the_episodes(nominal):
    radius = np.zeros((3, 4))
    radius[0, 3] = 0.5
    best = plan(nominal, "tv", radius, eta=0.05)
    learner, world = DrRpo(phi=nominal.phi, radius=radius, fail_state=3, bonus_scale=0.5), access(nominal)
    state, losses = learner.init(world, 0), []
    for _ in range(120):
        losses.append(suboptimality(nominal, learner.policy(state).table(), best, "tv", radius, eta=0.05))
        state, _ = learner.step(state, world)
    assert min(losses) >= -1e-12
    assert np.mean(losses[-40:]) < np.mean(losses[10:50])


def test_a_large_eta_plays_the_reference_policy(nominal):
    rng = np.random.default_rng(0)
    reference = rng.dirichlet(np.ones(16), (3, 5))
    learner = DrRpo(phi=nominal.phi, eta=1e9, reference=reference)
    done = run(learner, access(nominal), steps=5, progress=False)
    assert_allclose(done.policy.table(), reference, rtol=1e-7)


def test_a_moving_reference_follows_the_best_action(nominal):
    fixed, moving = (
        run(DrRpo(phi=nominal.phi, radius=0.0, eta=1.0, moving_reference=x), access(nominal), steps=60, progress=False)
        for x in (False, True)
    )
    best = fixed.policy.table()[0, 0].max()
    assert moving.policy.table()[0, 0].max() > 2 * best


def test_rewards_are_estimated_where_they_are_not_known(nominal):
    world = access(nominal, known_rewards=False)
    learner = DrRpo(phi=nominal.phi, radius=0.0, bonus_scale=0.0, eta=1.0, fail_state=3, lam=1e-6)
    done = run(learner, world, steps=150, progress=False)
    # pulls pay themselves; the regression is exact up to the ridge since rewards are no noise
    r = np.einsum("sad,d->sa", nominal.phi, nominal.theta[2])
    assert_allclose(done.state.f[2, [1, 2, 4]], r[[1, 2, 4]], atol=1e-5)


def test_offline_pessimism_is_below_optimism_and_leaves_what_is_known():
    model, d = american_put(horizon=8), 12
    prices = put_prices(horizon=8)
    world = Online(model, known_rewards=True)
    hold = TabularPolicy(np.tile([1.0, 0.0], (8, model.S, 1)))
    data = collect(world, hold, 200)
    q = {}
    for pessimistic in (True, False):
        settings = {"phi": put_features(prices, d), "radius": 0.02, "offline": data, "value_bound": 100.0}
        q[pessimistic] = RobustLsvi(**settings, pessimistic=pessimistic).init(world, 0).f
        known = np.broadcast_to(model.r[:, 1], (8, model.S))
        assert np.array_equal(q[pessimistic][:, :, 1], known)  # rows of zeros: no next value, no bonus
    assert (q[True] <= q[False]).all()
    assert (q[True][:, 0, 0] < q[False][:, 0, 0]).all()


def collect(world, policy, n) -> Trajectories:
    from polytheory.access import Key, Requests

    return world.rollouts(policy, Requests(row_ids(0, np.arange(n)), world.spec.horizon), Key(0, "test/data", 0))


def test_runs_of_two_parts_are_one_run(nominal):
    learner, world = DrRpo(phi=nominal.phi, kind="chi2", moving_reference=True), access(nominal)
    state = learner.init(world, 3)
    whole = state
    for _ in range(10):
        whole, _ = learner.step(whole, world)
    for _ in range(5):
        state, _ = learner.step(state, world)
    for _ in range(5):
        state, _ = learner.step(state, world)
    assert_allclose(whole.f, state.f, atol=0)
    assert_allclose(whole.log_weights, state.log_weights, atol=0)


def test_episodes_that_end_early_are_worth_nothing_more():
    world = Online(models.make("frozenlake", horizon=4, gamma=1.0))
    learner = DrRpo(kind="penalised-kl", radius=1.0, centred=True, bonus_scale=0.0)
    done = run(learner, world, steps=60, progress=False)
    holes = np.asarray(world._model.terminal)  # test of the model's own states
    into = done.state.n - done.state.N.sum(-1)
    assert into[:3].sum() > 0
    assert done.state.f[:, holes].max() == 0
    assert done.state.f.max() <= 1


def test_soft_values_are_attained_by_soft_policies():
    rng = np.random.default_rng(0)
    q, ref = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(3), 4)
    for eta in (0.0, 0.3):
        pi = soft_policy(q, np.log(ref), eta)
        own = (pi * q).sum(-1) - eta * relative_entropy(pi, np.log(ref))
        assert_allclose(soft_value(q, np.log(ref), eta), own, atol=1e-12)
        for other in rng.dirichlet(np.ones(3), (20, 4)):
            assert ((other * q).sum(-1) - eta * relative_entropy(other, np.log(ref)) <= own + 1e-12).all()


def test_a_constrained_policy_may_be_worth_less_than_nothing(nominal):
    pi = np.zeros((3, 5, 16))
    pi[..., 0] = 1.0
    assert worst_value(nominal, pi, "tv", 0.9, eta=1.0).v[0, 0] < 0


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"kind": "l1"}, UnknownNameError), ({"radius": 1.2}, SettingError), ({"radius": -0.1}, SettingError),
        ({"eta": -1.0}, SettingError), ({"eta": 0.0, "moving_reference": True}, SettingError),
        ({"constants": "theorem"}, SettingError),
        ({"kind": "penalised-kl", "radius": 0.0}, SettingError), ({"bonus_scale": -1.0}, SettingError),
    ],
)  # fmt: skip
def test_settings_without_meaning_are_refused(settings, error):
    with pytest.raises(error):
        DrRpo(**settings)


@pytest.mark.parametrize(
    "settings", [{"radius": np.zeros(3)}, {"reference": np.ones((2, 5, 16)) / 16}, {"phi": np.full((5, 16, 2), 0.3)},
                 {"fail_state": 9}, {"fail_state": -1}],
)  # fmt: skip
def test_settings_that_do_not_fit_the_world_are_refused(nominal, settings):
    with pytest.raises(PolytheoryError):
        DrRpo(**{"phi": nominal.phi, **settings}).init(access(nominal), 0)


def test_plan_refuses(nominal):
    for options, error in (({"support": "half"}, UnknownNameError), ({"eta": np.inf}, SettingError)):
        with pytest.raises(error):
            plan(nominal, "tv", 0.1, **options)
    with pytest.raises(ShapeError):
        plan(nominal, "tv", np.zeros(7))
