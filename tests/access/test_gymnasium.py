"""Gymnasium episodes: the same rows whatever the batch, nothing after the end, replayed by a plain environment."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from polytheory.access import Grant, Key, Requests
from polytheory.access.gymnasium import VectorEnvs
from polytheory.errors import AccessError, SettingError, UnknownNameError
from polytheory.policies import Memoryless
from polytheory.streams import row_ids, subseed, uniforms

KEY = Key(5, "gym", 2)


class Tilt(Memoryless):
    """Pushes left or right by the pole's angle; elementwise arithmetic, so rows cannot influence each other."""

    def probs(self, m, h, s):
        right = torch.sigmoid(6.0 * s[:, 2].double())
        return torch.stack([1 - right, right], dim=1)


def requests(n, truncation=60, first=0):
    return Requests(row_ids(0, np.arange(first, first + n)), truncation)


def replay(row_id, truncation, key):
    """The same episode from one plain environment: the oracle."""
    env = gym.make("CartPole-v1")
    s, _ = env.reset(seed=subseed(key.seed, key.purpose + "/reset", key.step, int(row_id)))
    u = uniforms(*key, np.array([row_id]), truncation)[0]
    states, actions, rewards, terminated = [], [], [], False
    for t in range(truncation):
        p = Tilt().probs(None, t, torch.from_numpy(s)[None])[0]
        a = int(u[t] >= p[0])
        states.append(s)
        actions.append(a)
        s, r, terminated, cut, _ = env.step(a)
        rewards.append(r)
        if terminated or cut:
            break
    return np.array(states), actions, rewards, s, terminated


def test_rows_are_episodes_of_a_plain_environment():
    access = VectorEnvs("CartPole-v1", 4)
    traj = access.rollouts(Tilt(), requests(10), KEY)
    lengths = traj.lengths.tolist()
    assert len(set(lengths)) > 2, "episodes of one length would not test the masking"
    assert traj.actions.shape == (10, max(lengths))
    for i, row_id in enumerate(row_ids(0, np.arange(10))):
        states, actions, rewards, final, terminated = replay(row_id, 60, KEY)
        k = len(actions)
        assert lengths[i] == k
        assert_array_equal(traj.states[i, :k].numpy(), states)
        assert traj.actions[i, :k].tolist() == actions
        assert traj.rewards[i, :k].tolist() == rewards
        assert_array_equal(traj.final_states[i].numpy(), final)
        assert bool(traj.finished[i]) == terminated
        for column in (traj.states, traj.actions, traj.rewards, traj.log_probs_sampler):
            assert not column[i, k:].any(), "steps after the end must hold zeros"
    assert access.meter.total("episodes") == 10
    assert access.meter.total("transitions") == sum(lengths)


def test_rows_do_not_depend_on_batch_or_history():
    whole = VectorEnvs("CartPole-v1", 4).rollouts(Tilt(), requests(6), KEY)
    access = VectorEnvs("CartPole-v1", 3)
    access.rollouts(Tilt(), requests(5, first=40), KEY)  # leaves the environments in other states
    last = access.rollouts(Tilt(), requests(2, first=4), KEY)
    for i in range(2):
        k = int(last.lengths[i])
        assert k == int(whole.lengths[4 + i])
        assert_array_equal(last.states[i, :k].numpy(), whole.states[4 + i, :k].numpy())
        assert_array_equal(last.actions[i, :k].numpy(), whole.actions[4 + i, :k].numpy())


def test_cut_episodes_are_not_finished():
    ours = VectorEnvs("CartPole-v1", 2).rollouts(Tilt(), requests(2, truncation=3), KEY)
    assert not ours.finished.any()
    assert ours.mask.all()
    theirs = VectorEnvs("CartPole-v1", 2, max_episode_steps=4).rollouts(Tilt(), requests(2), KEY)
    assert theirs.lengths.tolist() == [4, 4]
    assert not theirs.finished.any(), "a time limit is not a terminal state"


def test_log_probs_are_those_of_the_sampler():
    traj = VectorEnvs("CartPole-v1", 2).rollouts(Tilt(), requests(2), KEY)
    p = Tilt().probs(None, 0, traj.states.flatten(0, 1)).gather(1, traj.actions.reshape(-1, 1))
    torch.testing.assert_close(traj.log_probs_sampler[traj.mask].exp(), p.view_as(traj.mask)[traj.mask])


def test_acrobot():
    access = VectorEnvs("Acrobot-v1", 2, gamma=1.0)
    uniform = type("Uniform", (Memoryless,), {"probs": lambda self, m, h, s: torch.full((len(s), 3), 1 / 3).double()})()
    traj = access.rollouts(uniform, requests(3, truncation=20), KEY)
    assert traj.states.shape == (3, 20, 6)
    assert access.spec.A == 3
    assert access.spec.S is None
    assert sorted(set(traj.actions.flatten().tolist())) == [0, 1, 2]


def test_meter_is_saved():
    access = VectorEnvs("CartPole-v1", 2)
    access.rollouts(Tilt(), requests(2), KEY)
    other = VectorEnvs("CartPole-v1", 2)
    other.load_state_dict(access.state_dict())
    assert other.meter.total("transitions") == access.meter.total("transitions") > 0


def test_bad_input_is_named():
    with pytest.raises(UnknownNameError, match=r"CartPole-v1"):
        VectorEnvs("CartPol-v1")
    with pytest.raises(SettingError, match="n_envs = 0"):
        VectorEnvs("CartPole-v1", 0)
    with pytest.raises(SettingError, match=r"gamma = 1\.5"):
        VectorEnvs("CartPole-v1", gamma=1.5)
    with pytest.raises(SettingError, match="Discrete"):
        VectorEnvs("Pendulum-v1", 1)
    access = VectorEnvs("CartPole-v1", 1)
    with pytest.raises(SettingError, match="truncation = 0"):
        access.rollouts(Tilt(), requests(1, truncation=0), KEY)
    with pytest.raises(AccessError, match="LOCAL_RESET"):
        access.rollouts(Tilt(), Requests(row_ids(0, 0), 5, start=np.array([0])), KEY)
    with pytest.raises(AccessError, match="MODEL"):
        access.ask(Grant.MODEL)


def test_a_horizon_ends_episodes_and_a_cut_does_not():
    ends = VectorEnvs("CartPole-v1", 2, horizon=5).rollouts(Tilt(), requests(3, truncation=60), KEY)
    assert (ends.mask.shape[1], ends.finished.tolist()) == (5, [True] * 3)
    cut = VectorEnvs("CartPole-v1", 2).rollouts(Tilt(), requests(3, truncation=5), KEY)
    assert (cut.mask.shape[1], cut.finished.tolist()) == (5, [False] * 3)
    assert not VectorEnvs("CartPole-v1", 2, horizon=6).rollouts(Tilt(), requests(3, truncation=5), KEY).finished.any()


def test_what_an_environment_says_of_itself():
    pole, lake = VectorEnvs("CartPole-v1", 1), VectorEnvs("FrozenLake-v1", 1, horizon=7)
    assert (pole.spec.S, pole.time_limit, lake.spec.S, lake.spec.horizon) == (None, 500, 16, 7)
    assert pole.observation_scale.tolist() == pytest.approx([4.8, 1.0, 0.41887903, 1.0], rel=1e-7)  # float32 bounds
    assert lake.observation_scale is None


class TwoRewards(gym.Env):
    """Declares vector rewards, as environments with several objectives do."""

    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)
    reward_space = gym.spaces.Box(-1.0, 1.0, (2,))


def test_what_cannot_be_played_is_refused():
    gym.register("TwoRewards-v0", TwoRewards)
    with pytest.raises(SettingError, match="vector rewards"):
        VectorEnvs("TwoRewards-v0", 1)
    with pytest.raises(SettingError, match="at most CartPole-v1's limit 500"):
        VectorEnvs("CartPole-v1", 1, horizon=501)
    with pytest.raises(SettingError, match="does not take these options"):
        VectorEnvs("CartPole-v1", 1, wind=3)
