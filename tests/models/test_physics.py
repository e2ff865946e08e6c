"""Our dynamics are Gymnasium's, step for step, at nominal and at other constants, in NumPy and in torch."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.physics import CartPole, Pendulum, physics

STEPS = 120
ALTERED = {
    "cartpole": {"gravity": 6.0, "masscart": 2.5, "masspole": 0.3, "length": 1.7},
    "pendulum": {"gravity": 6.0, "mass": 1.4, "length": 0.6},
}
IDS = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1"}


def gymnasium_env(name, constants):
    env = gymnasium.make(IDS[name]).unwrapped
    short = {"gravity": "g", "mass": "m", "length": "l"} if name == "pendulum" else {}
    for key, value in constants.items():
        setattr(env, short.get(key, key), value)
    if name == "cartpole":  # what its constructor derives
        env.total_mass = env.masspole + env.masscart
        env.polemass_length = env.masspole * env.length
    return env


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("altered", [False, True])
@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_steps_are_those_of_gymnasium(name, altered, kind):
    constants = ALTERED[name] if altered else {k: physics(name).constants[k] for k in ALTERED[name]}
    system = physics(name, **{key: (value, value) for key, value in constants.items()})
    env, rng, ends = gymnasium_env(name, constants), np.random.default_rng(0), 0
    env.reset(seed=0)
    parameters = np.array([list(constants.values())])
    for i in range(STEPS):
        s = np.array(env.state, dtype=float)[None]
        a = rng.integers(2, size=1) if system.actions else rng.uniform(-1.3, 1.3, size=(1, 1))
        seen, reward, ended, _, _ = env.step(int(a[0]) if system.actions else 2 * a[0])
        given = (parameters, s, a)
        if kind == "torch":
            given = tuple(torch.from_numpy(x) for x in given)
        after, r, over = system.step(*given)
        # the same formulas in another order: a few roundings of numbers of size 10
        np.testing.assert_allclose(np.asarray(after)[0], env.state, rtol=0, atol=1e-13)
        np.testing.assert_allclose(np.asarray(system.observe(after))[0], seen, rtol=1e-6, atol=1e-6)  # float32 there
        assert (float(r[0]), bool(over[0])) == (pytest.approx(float(reward), abs=1e-13), ended)
        ends += ended
        if ended:
            env.reset(seed=i)
    assert ends >= (name == "cartpole")


def test_rows_do_not_mix():
    system, rng = CartPole(), np.random.default_rng(1)
    parameters = rng.uniform(system.low, system.high, (5, 2))
    s, a = system.start(rng.random((5, 4))), rng.integers(2, size=5)
    whole = system.step(parameters, s, a)
    for i in range(5):
        alone = system.step(parameters[i : i + 1], s[i : i + 1], a[i : i + 1])
        for x, y in zip(whole, alone, strict=True):
            np.testing.assert_array_equal(x[i : i + 1], y)


def test_a_pendulum_without_torque_keeps_its_energy():
    system = Pendulum(("mass", "length"), (0.7, 1.3), (0.7, 1.3))
    s, parameters, energies = np.array([[2.0, 0.0]]), np.array([[0.7, 1.3]]), []
    for _ in range(400):
        s, _, _ = system.step(parameters, s, np.zeros((1, 1)))
        energies.append(0.5 * s[0, 1] ** 2 + 1.5 * 10.0 / 1.3 * np.cos(s[0, 0]))
    # the symplectic Euler method keeps a nearby energy: off by at most half a step times the largest power, 23
    assert np.ptp(energies) <= 2 * 0.5 * system.tau * 23


def test_starts_are_uniform_in_their_boxes():
    corners = np.array([[0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(Pendulum().start(corners), [[-np.pi, -1], [np.pi, 1]])
    np.testing.assert_allclose(CartPole().start(np.tile(corners, 2)), [[-0.05] * 4, [0.05] * 4])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": "acrobot"}, UnknownNameError, "physical system"),
        ({"name": "pendulum", "lenght": (0.5, 1.0)}, UnknownNameError, "did you mean 'length'"),
        ({"name": "pendulum", "length": 0.5}, SettingError, "two ends"),
        ({"name": "pendulum", "length": (True, 2.0)}, SettingError, "two ends"),
        ({"name": "pendulum", "length": (0.0, 2.0)}, SettingError, "positive"),
        ({"name": "pendulum", "length": (2.0, 1.0)}, SettingError, "low <= high"),
        ({"name": "pendulum", "length": (1.0, float("inf"))}, SettingError, "low <= high"),
    ],
)
def test_what_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        physics(**options)


def test_ends_and_names_go_together():
    with pytest.raises(SettingError, match="as many ends"):
        Pendulum(("mass",), (0.5, 0.5), (1.0, 1.0))
    with pytest.raises(SettingError, match="twice"):
        Pendulum(("mass", "mass"), (0.5, 0.5), (1.0, 1.0))
