"""Episodes in a box of worlds: parameters by row, cuts and ends, common starts, what is counted and refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from polytheory.access import Key, Requests
from polytheory.access.worlds import Worlds
from polytheory.errors import AccessError, SettingError
from polytheory.models.physics import CartPole, Pendulum
from polytheory.policies import Memoryless

KEY, GAIN = Key(3, "test", 0), -0.05  # some fall, some do not


@dataclass(frozen=True)
class Lean(Memoryless):
    """Push the cart to where the pole leans."""

    gain: float = 1.0

    def act(self, m, h, s, u):
        return (s[:, 2] + self.gain * s[:, 3] > 0).long()


@dataclass(frozen=True)
class Noise(Memoryless):
    def act(self, m, h, s, u):
        return 2 * u[:, :1] - 1


def rows(n):
    return np.arange(n, dtype=np.int64)


def test_an_episode_is_a_loop_over_its_own_world():
    worlds = Worlds(CartPole(), truncation=40)
    traj = worlds.rollouts(Lean(GAIN), Requests(rows(6), 40), KEY)
    assert bool(traj.finished.any())
    assert not bool(traj.finished.all())
    from polytheory.streams import uniforms

    u = uniforms(3, "test/world", 0, rows(6), 2)
    parameters = worlds.low + (worlds.high - worlds.low) * u
    for i in range(6):
        s, over, t = traj.states[i, :1].numpy(), False, 0
        while not over and t < 40:
            np.testing.assert_allclose(traj.states[i, t], s[0], rtol=0, atol=1e-12)
            a = Lean(GAIN).act(None, t, torch.from_numpy(s), None).numpy()
            assert traj.actions[i, t] == a[0]
            s, r, end = worlds.physics.step(parameters[i : i + 1], s, a)
            assert traj.rewards[i, t] == r[0]
            t, over = t + 1, bool(end[0])
        np.testing.assert_allclose(traj.final_states[i], s[0], rtol=0, atol=1e-12)
        assert (int(traj.mask[i].sum()), bool(traj.finished[i])) == (t, over)
        assert not traj.rewards[i, t:].any()
    assert worlds.meter.total("episodes") == 6
    assert worlds.meter.total("transitions") == int(traj.mask.sum())


def test_a_row_does_not_depend_on_its_place():
    worlds = Worlds(Pendulum(), truncation=7)
    whole = worlds.rollouts(Noise(), Requests(rows(5), 7), KEY)
    part = worlds.rollouts(Noise(), Requests(rows(5)[[3, 1]], 7), KEY)
    torch.testing.assert_close(whole.rewards[[3, 1]], part.rewards, rtol=0, atol=1e-12)
    assert whole.actions.shape == (5, 7, 1)
    assert not bool(whole.finished.any())


def test_worlds_are_compared_from_the_same_starts():
    worlds = Worlds(Pendulum(), truncation=5, gamma=0.9)
    points = np.array([[1.0, 1.0], [0.5, 0.5], [1.0, 1.0]])
    found = worlds.returns(Noise(), points, KEY, 4)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-12)
    assert (np.abs(found[0] - found[1]) > 1e-9).all()
    alone = worlds.at(points[1]).rollouts(Noise(), Requests(rows(4), 5), KEY)
    discounted = sum(0.9**t * alone.rewards[:, t] for t in range(5))
    np.testing.assert_allclose(found[1], discounted, rtol=1e-12)
    np.testing.assert_allclose(
        worlds.returns(Noise(), points[1:2], KEY, 4, gamma=1.0)[0], alone.rewards.sum(-1), rtol=1e-12
    )
    torch.testing.assert_close(worlds.starts(KEY, rows(4)), alone.states[:, 0])


def test_a_point_shares_the_meter_and_saves_it():
    worlds = Worlds(Pendulum(), truncation=3)
    worlds.at(worlds.nominal).rollouts(Noise(), Requests(rows(2), 3), KEY)
    assert worlds.meter.total("transitions") == 6
    other = Worlds(Pendulum(), truncation=3)
    other.load_state_dict(worlds.state_dict())
    assert other.meter.total("episodes") == 2


def test_what_is_refused():
    for options in ({"gamma": 1.0}, {"gamma": -0.1}, {"truncation": 0}):
        with pytest.raises(SettingError):
            Worlds(Pendulum(), **options)
    with pytest.raises(AccessError, match="LOCAL_RESET"):
        Worlds(Pendulum()).rollouts(Noise(), Requests(rows(1), 3, start=rows(1)), KEY)
