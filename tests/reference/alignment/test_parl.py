"""PARL's reference: the worked instances' numbers, limits, inexact answers, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory.access import KnownModel, Online
from polytheory.errors import DiscountError, SettingError, ShapeError, UnknownNameError
from polytheory.models import TabularMDP, make
from polytheory.reference.alignment import bilevel, soft
from polytheory.reference.alignment.conjugate import conjugate_gradients
from polytheory.reference.alignment.parl import Parl, SampledParl, TabularSoftmax
from polytheory.reference.alignment.trajectory import curved_part, lower_hvp, mixed_product, regularised_rewards
from polytheory.reference.alignment.upper import utility_upper
from polytheory.reference.planning.planning import return_of
from polytheory.reference.policy_gradient.exact import enumerate_trajectories
from polytheory.reference.policy_gradient.softmax import one_logit_per_state
from polytheory.reward_design import MAX_PATHS, paths_of, reward_features, world_of
from polytheory.run import run

MODEL = make("three-state")
FEATURES = reward_features("three-state", 3, 2)
NU = np.array([0.6, -0.4])
GRADIENT = (-0.8697429992, 0.9818468325)  # ten digits, checked against central differences


def solved(nu=NU, tau=0.5, model=MODEL, features=FEATURES):
    """Logits of the regularised optimum."""
    world = world_of(model)
    theta = np.zeros(world.r.shape)
    for _ in range(30):
        theta, gap, _ = soft.soft_sweep(world.P, features @ nu, theta, gamma=world.gamma, tau=tau)
    assert gap < 1e-11
    return theta


def first_upper_step(access=None, **settings):
    made = Parl(**{"features": "three-state", "nu0": NU, **settings})
    access = access or KnownModel(MODEL)
    state = made.init(access)
    while not state.t:
        state, _ = made.step(state, access)
    return state


def test_lower_level_of_the_worked_instance():
    world, theta = world_of(MODEL), solved()
    log_pi = soft.log_policy(theta)
    pi = np.exp(log_pi)
    v = soft.values(world.P, pi, soft.with_entropy(FEATURES @ NU, log_pi, 0.5), gamma=0.9)
    assert_allclose(v, [6.4059819650, 6.3959618359, 5.6328322023], atol=5e-11, rtol=0)
    assert_allclose(pi[:, 1], [0.0813073383, 0.2367535137, 0.9125022783], atol=5e-11, rtol=0)
    d = 0.1 * soft.visits(world.P, pi, world.mu, gamma=0.9)
    assert_allclose(d, [0.6117747801, 0.2713197426, 0.1169054774], atol=5e-11, rtol=0)
    assert_allclose(
        utility_upper(world.P, world.mu, pi, world.r, 2, gamma=0.9).value, 0.9422395996155, atol=5e-14, rtol=0
    )


def reduced(theta):
    """Derivatives in one logit a state, theta(s, 1) - theta(s, 0), from those in all logits."""
    return np.array([np.kron(np.eye(3)[s], [0.0, 1.0]) for s in range(3)])


def test_derivatives_in_one_logit_a_state():
    world, theta = world_of(MODEL), solved()
    low = bilevel.lower_derivatives(world.P, world.mu, FEATURES @ NU, theta, gamma=0.9, tau=0.5)
    assert np.abs(low.gradient).max() < 1e-13
    B = reduced(theta)
    assert_allclose(B @ low.hessian @ B.T, np.diag([-0.2284870368, -0.2451391340, -0.0466697599]), atol=5e-11, rtol=0)
    mixed = [bilevel.mixed_pullback(world.P, world.mu, FEATURES, theta, b.reshape(3, 2), gamma=0.9) for b in B]
    rows = [[-0.6635562723, 0.4449960229], [-0.0077935889, 0.6440118976], [0.1428040418, -0.0687124683]]
    assert_allclose(mixed, rows, atol=5e-11, rtol=0)
    pi = np.exp(soft.log_policy(theta))
    A_f = soft.feature_advantages(world.P, pi, FEATURES, gamma=0.9)
    moves = bilevel.log_policy_sensitivity(A_f, 0.5)
    rows = [[-2.9041309370, 1.9475766724], [-0.0317925120, 2.6271280606], [3.0598837939, -1.4723124459]]
    assert_allclose(moves[:, 1] - moves[:, 0], rows, atol=5e-10, rtol=0)
    upper = utility_upper(world.P, world.mu, pi, world.r, 2, gamma=0.9)
    b = B @ bilevel.upper_gradient(upper.weights, pi).ravel()
    assert_allclose(b, [0.2160312012, 0.1659234722, -0.0578731064], atol=5e-11, rtol=0)
    # what the second part alone would say: seven to nine times too small
    v = soft.values(world.P, pi, soft.with_entropy(FEATURES @ NU, np.log(pi), 0.5), gamma=0.9)
    x = soft.visits(world.P, pi, world.mu, gamma=0.9)
    second = -x * v * pi[:, 0] * pi[:, 1]
    assert_allclose(second, [-2.92737, -3.13580, -0.52577], atol=5e-6, rtol=0)
    wrong = np.array(mixed).T @ (b / -second) - 0.1 * NU
    assert_allclose(wrong, [-0.12510, 0.11448], atol=5e-6, rtol=0)


@pytest.mark.parametrize("route", ["closed", "implicit", "fisher"])
def test_worked_hypergradient(route):
    state = first_upper_step(route=route)
    assert_allclose(state.gradient, GRADIENT, atol=1e-10, rtol=0)
    assert_allclose(state.value, 0.9162395996155, atol=5e-14, rtol=0)


def test_worked_preferences():
    state = first_upper_step(upper="preference", ridge=0.0)
    assert_allclose(state.value, -0.8020446576, atol=5e-11, rtol=0)
    assert_allclose(state.gradient, [-0.0468941341, 0.0384842864], atol=5e-11, rtol=0)
    direct = first_upper_step(upper="preference", ridge=0.0, route="none").gradient
    assert_allclose(direct, [-0.1762412496, 0.1166308636], atol=5e-11, rtol=0)


@pytest.mark.parametrize(("route", "G", "J"), [("closed", -0.6420887672, 3.98121), ("none", -0.6425981101, 3.87793)])
def test_fixed_points_of_preferences(route, G, J):
    made = Parl("three-state", upper="preference", ridge=0.0, route=route)
    access = KnownModel(MODEL)
    state = made.init(access)
    while state.t < 800 or not made.solved(state):
        state, _ = made.step(state, access)
    upper, _ = made.hypergradient(state.nu, state.theta, FEATURES, world_of(MODEL), access)
    assert_allclose(upper.value, G, atol=5e-11, rtol=0)
    assert_allclose(return_of(MODEL, made.policy(state)), J, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("T", "mean", "bound", "G"), [
    (100, 0.271578, 0.479962, 5.1374981232), (400, 0.067896, 0.119993, 5.1375520593),
])  # fmt: skip
def test_outer_rate(T, mean, bound, G):
    history = run(Parl("three-state"), KnownModel(MODEL), steps=4 * T + 10, progress=False).history
    t = history.column("iterations")[:, 0]
    moved = np.flatnonzero(np.diff(t, prepend=0))
    values, squares = (history.column(x)[moved, 0] for x in ("objective", "gradient_norm"))
    assert_allclose(values[T], G, atol=5e-11, rtol=0)
    assert_allclose(np.mean(squares[:T] ** 2), mean, atol=1e-6, rtol=0)
    assert_allclose(2 * (values[T] - values[0]) / (0.1 * T), bound, atol=1e-6, rtol=0)
    assert mean <= bound


@pytest.mark.parametrize(
    ("tau", "T1"), [(0.5, (-0.80974, 0.94185)), (5.0, (-0.25487, 0.22753)), (50.0, (-0.02577, 0.02301))]
)
def test_the_term_fades_with_temperature(tau, T1):
    assert_allclose(first_upper_step(tau=tau, ridge=0.0).gradient, T1, atol=5e-6, rtol=0)


def test_without_discount_it_is_a_covariance():
    model = make("three-state", gamma=0.0)
    weight = np.exp(FEATURES @ NU / 0.5)
    pi = weight / weight.sum(axis=1, keepdims=True)
    covariance = np.zeros(2)
    for s, mu in enumerate(model.mu):
        u, f = model.r_at()[s], FEATURES[s]
        covariance += mu * ((pi[s] * u) @ f - (pi[s] @ u) * (pi[s] @ f)) / 0.5
    assert_allclose(first_upper_step(KnownModel(model), ridge=0.0).gradient, covariance, atol=1e-12, rtol=0)


def test_trajectory_hessian_of_the_worked_instance():
    policy = one_logit_per_state(3).with_theta(np.array([0.2, -0.3, 0.5]))
    p, traj = enumerate_trajectories(MODEL, policy, 3)

    def hessian(tau):
        rho = regularised_rewards(policy, traj, FEATURES @ NU, tau)
        return np.array([p @ lower_hvp(policy, traj, rho, e, gamma=0.9, tau=tau) for e in np.eye(3)]), rho

    plain, rho = hessian(0.0)
    rows = [
        [0.0937089829, 0.0108860915, 0.0082889678], [0.0108860915, -0.0075092156, 0.0280095576],
        [0.0082889678, 0.0280095576, -0.0463023143],
    ]  # fmt: skip
    assert_allclose(plain, rows, atol=5e-11, rtol=0)
    second = [p @ curved_part(policy, traj, rho, e, gamma=0.9) for e in np.eye(3)]
    assert_allclose(second, np.diag([-0.0548793484, -0.1195666746, 0.0527868920]), atol=5e-11, rtol=0)
    assert_allclose(np.diag(hessian(0.5)[0]), [-0.0389516441, -0.1151602813, -0.1133312127], atol=5e-11, rtol=0)
    mixed = [p @ mixed_product(policy, traj, FEATURES, e, gamma=0.9) for e in np.eye(3)]
    rows = [[-0.3126009335, 0.2405472612], [0.0313607564, 0.2388954485], [0.2031129325, -0.1076494636]]
    assert_allclose(mixed, rows, atol=5e-11, rtol=0)


def test_sampled_ascent_improves_the_true_return():
    made = SampledParl("three-state", policy=TabularSoftmax.zeros(3, 2))
    access = Online(MODEL)
    start = return_of(MODEL, _table(made.policy))
    done = run(made, access, steps=20 * 21, seed=1, progress=False)
    assert return_of(MODEL, _table(done.policy)) > start + 0.5
    assert done.meter.total("episodes") == 20 * (20 * 32 + 32 + 64)


def _table(policy):
    from polytheory.policies import TabularPolicy

    return TabularPolicy(policy.table())


def test_labels_are_counted():
    made = SampledParl("state", policy=TabularSoftmax.zeros(3, 2), upper="preference", lower_steps=2, upper_batch=5)
    assert run(made, Online(MODEL), steps=9, progress=False).state.labels == 15


def test_paths_are_all_there_is():
    for model, length in ((MODEL, 3), (make("frozenlake", gamma=0.9), 2)):
        found = paths_of(model, length)
        pi = 1.0 / model.A
        assert_allclose((found.dynamics * pi ** found.mask.sum(axis=1)).sum(), 1, rtol=1e-12)
    with pytest.raises(SettingError, match=str(MAX_PATHS)):
        paths_of(MODEL, 8)


def test_conjugate_gradients_stop_at_negative_curvature():
    A = np.diag([2.0, -1.0, 3.0])
    b = np.array([1.0, 0.0, 1.0])
    assert_allclose(conjugate_gradients(lambda p: A @ p, b, steps=5), [0.5, 0.0, 1 / 3], rtol=1e-12)
    x = conjugate_gradients(lambda p: A @ p, np.array([0.1, 1.0, 0.1]), steps=5)
    assert_allclose(x, 0)  # the first direction curves downwards: nothing is known


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"tau": 0.0}, SettingError, "no derivative"), ({"alpha": -1.0}, SettingError, "alpha"),
    ({"ridge": np.nan}, SettingError, "ridge"), ({"upper": "reward"}, UnknownNameError, "upper level"),
    ({"features": "one-hit"}, UnknownNameError, "one-hot"), ({"route": "close"}, UnknownNameError, "closed"),
    ({"lower": "adam"}, UnknownNameError, "newton"), ({"segment": 0}, SettingError, "segment"),
    ({"lower_tol": 0.0}, SettingError, "lower_tol"),
])  # fmt: skip
def test_settings_are_checked(settings, error, message):
    with pytest.raises(error, match=message):
        Parl(**settings)


@pytest.mark.parametrize(("settings", "message"), [
    ({"upper_batch": 1}, "upper_batch"), ({"damping": 0.0}, "damping"), ({"truncation": 0}, "truncation"),
])  # fmt: skip
def test_sampled_settings_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        SampledParl(policy=TabularSoftmax.zeros(3, 2), **settings)
    with pytest.raises(UnknownNameError, match="implicit"):
        SampledParl(policy=TabularSoftmax.zeros(3, 2), term="exact")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="nu0"):
        Parl("three-state", nu0=[1.0]).init(KnownModel(MODEL))
    with pytest.raises(ShapeError, match=r"\[3, 2, m\]"):
        Parl(np.ones((2, 3, 1))).init(KnownModel(MODEL))
    staged = TabularMDP(MODEL.P, MODEL.r, MODEL.mu, horizon=3)
    made = Parl()
    with pytest.raises(DiscountError, match="horizon=None"):
        made.step(made.init(KnownModel(staged)), KnownModel(staged))
    sampled = SampledParl(policy=TabularSoftmax.zeros(3, 2))
    with pytest.raises(SettingError, match="gamma < 1"):
        sampled.init(Online(staged), 0)
