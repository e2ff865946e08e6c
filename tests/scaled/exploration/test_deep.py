"""The deep form: with one-hot features it is the table's critic; the data are recorded rightly; DeepSea is solved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from polytheory import models
from polytheory.access import Online
from polytheory.access.gymnasium import VectorEnvs
from polytheory.errors import SettingError
from polytheory.scaled.exploration.bonus import bonus_scales
from polytheory.scaled.exploration.deep import DeepNora
from polytheory.scaled.exploration.torsos import FourierTorso, one_hot_cells, random_torso


class Identity(torch.nn.Module):
    """Observations as features."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + 0 * self.unused


def played(depth, steps, **settings):
    access = Online(models.make("deep-sea", depth=depth, cost=0.2)).replicate(1)
    torso = settings.pop("torso", None) or Identity()
    values = (0.0, float(settings.pop("high", depth)))
    learner = DeepNora(torso, depth, values, one_hot_cells(depth), **(bonus_scales(depth, values) | settings))
    state = learner.init(access, 0)
    for _ in range(steps):
        state, info = learner.step(state, access)
    return learner, state, info


def test_with_one_hot_cells_it_is_ridge_on_counts():
    depth, lam, radius = 3, 0.1, 0.3
    learner, state, _ = played(depth, 12, rise=1e-12, lam=lam, radius=radius, sweeps=depth, eta=0.1)
    number = state.points.argmax(-1)
    cell, action, after = number[state.at].numpy(), state.actions.numpy(), number[state.after].numpy()
    q, v = np.zeros((depth * depth, 2)), np.zeros(depth * depth)
    for _ in range(depth):  # by counting, row by row from the last one
        for c in range(depth * depth):
            for a in range(2):
                mine = (cell == c) & (action == a)
                y = state.rewards.numpy()[mine] + np.where(state.goes_on.numpy()[mine], v[after[mine]], 0)
                q[c, a] = np.clip(y.sum() / (lam + mine.sum()) + radius / np.sqrt(lam + mine.sum()), 0, depth)
        v = q.max(-1)
    assert_allclose(learner.q(state, torch.eye(depth * depth).double()), q, rtol=0, atol=1e-10)
    assert len(cell) == 12 * depth
    assert int((~state.goes_on).sum()) == 12


def test_between_switches_nothing_but_the_counter_moves():
    _, state, _ = played(3, 6, rise=1e6)
    assert state.switches == 0
    assert state.since_reset == 6
    assert float(state.w.abs().sum()) == 0
    _, state, _ = played(3, 6, rise=1e-12)
    assert (state.switches, state.since_reset) == (6, 1)
    _, state, _ = played(3, 6, rise=1e-12, reset=False)
    assert state.since_reset == 6


def deep_sea_runs(depth, torso, episodes, *, seed=0, **settings):
    """DeepSea with the scales of `bonus_scales`: the learner, its state, and in which episodes the treasure was found."""
    access = Online(models.make("deep-sea", depth=depth)).replicate(1)
    settings = bonus_scales(depth, (0.0, 1.0), directions=0.3 * depth) | {"eta": 100.0, "sweeps": depth} | settings
    learner = DeepNora(torso, depth, (0.0, 1.0), one_hot_cells(depth), **settings)
    state, found = learner.init(access, seed), []
    for _ in range(episodes):
        state, info = learner.step(state, access)
        found.append(info["return"] > 0.5)
    return learner, state, found


def test_the_bonus_finds_the_treasure_of_deep_sea():
    # the treasure is found by chance in one of 2^10 episodes; a table has 110 pairs to see, several an episode
    _, state, found = deep_sea_runs(10, FourierTorso(100, 100, 3.0), 80)
    assert np.mean(found[-20:]) >= 0.5
    assert state.switches <= len(found) / 3
    _, _, without = deep_sea_runs(10, FourierTorso(100, 100, 3.0), 80, radius=0.0, epsilon=0.1, reset=False)
    assert not any(without)


def test_what_was_not_seen_is_worth_the_whole_range():
    """On any cell, under any action, before any data of the pair: the value is the largest there is, exactly."""
    depth = 8
    learner, state, _ = deep_sea_runs(depth, Identity(), 12, rise=1e-12)  # fitted to all data after every episode
    q = learner.q(state, torch.eye(depth * depth).double())
    seen = torch.zeros(depth * depth, 2, dtype=torch.bool)
    seen[state.points.argmax(-1)[state.at], state.actions] = True
    assert 0 < int(seen.sum()) < 2 * depth * depth
    assert (q[~seen] == 1).all()
    assert (q[seen] < 1).any()


@pytest.mark.parametrize("torso", [Identity(), FourierTorso(64, 64, 3.0)])
def test_there_are_no_more_switches_than_the_potential_allows(torso):
    """Every switch takes `rise` of the log-determinant, which the data raise by A k log(1 + N / (A k lam)) at most."""
    depth, episodes, directions = 8, 40, 2.0
    scales = bonus_scales(depth, (0.0, 1.0), directions=directions)
    learner, state, _ = deep_sea_runs(depth, torso, episodes, **scales)
    k, N = depth * depth, episodes * depth
    bound = 2 * k * np.log1p(N / (2 * k * scales["lam"]))
    grown = sum(float(torch.linalg.slogdet(Lambda / learner.lam).logabsdet) for Lambda in state.Lambda)
    assert grown <= bound
    # the slogdet of 2 k = 128 pivots, and as many sums of them as switches, each exact to 1e-12
    assert state.switches * learner.rise <= grown + 1e-9
    assert 0 < state.switches < episodes
    if isinstance(torso, Identity):  # when to switch, by counting: the determinant is the product of lam + visits
        visits, last, due = np.zeros((2, k)), 2 * k * np.log(scales["lam"]), 0
        cell = state.points.argmax(-1)[state.at].numpy().reshape(episodes, depth)
        for cells, actions in zip(cell, state.actions.numpy().reshape(episodes, depth), strict=True):
            np.add.at(visits, (actions, cells), 1)
            now = np.log(scales["lam"] + visits).sum()
            if now - last >= scales["rise"]:
                last, due = now, due + 1
        assert state.switches == due


def test_the_scales_fit_one_another():
    depth, low, high = 20, -3.0, 5.0
    scales = bonus_scales(depth, (low, high), path=0.4, unseen=5.0, directions=3.0)
    norm = np.linalg.norm  # widths by hand: of a unit vector not seen, and of one seen once
    unseen, once = scales["radius"] / np.sqrt(scales["lam"]), scales["radius"] / norm([np.sqrt(scales["lam"]), 1.0])
    assert_allclose(unseen, 5 * (high - low), rtol=1e-12)
    assert 0.399 * (high - low) < depth * once <= 0.4 * (high - low)
    phi = np.eye(7)[:3]
    grown = np.linalg.slogdet(scales["lam"] * np.eye(7) + phi.T @ phi)[1] - 7 * np.log(scales["lam"])
    assert_allclose(grown, scales["rise"], rtol=1e-12)


@pytest.mark.parametrize(
    "arguments", [{"horizon": 0.5}, {"value_range": (1.0, 1.0)}, {"path": 0.0}, {"unseen": 0.5}, {"directions": 0.0}]
)
def test_scales_out_of_range_are_refused(arguments):
    with pytest.raises(SettingError, match="horizon >= 1, low < high"):
        bonus_scales(**{"horizon": 5.0, "value_range": (0.0, 1.0), **arguments})


def test_a_torso_that_is_fitted_moves_and_the_values_stay_in_range():
    torso = random_torso(9, 16)
    learner, state, _ = played(3, 8, torso=torso, torso_steps=5, high=1.2, rise=0.5)
    moved = [float((state.theta[k] - x.detach()).abs().max()) for k, x in torso.named_parameters()]
    assert max(moved) > 0
    q = learner.q(state, learner.features(state.theta, state.points))
    assert 0 <= float(q.min()) <= float(q.max()) <= 1.2


def test_it_runs_on_mountain_car():
    access = VectorEnvs("MountainCar-v0", 2)
    learner = DeepNora(
        random_torso(2, 16), 30, (-100.0, 0.0), lambda h, s: s.float() * torch.tensor([1.0, 10.0]), gamma=0.99, batch=2,
        sweeps=5, **bonus_scales(30, (-100.0, 0.0)),
    )  # fmt: skip
    state = learner.init(access, 0)
    for _ in range(2):
        state, info = learner.step(state, access)
    assert len(state.rewards) == 2 * 2 * 30
    assert bool(state.goes_on.all())  # cut, not ended: the value goes on
    assert info["return"] == -30
    # the observation after a step is the one in which the next step was taken
    assert_allclose(state.after[:29], state.at[1:30])


def test_cosines_are_a_kernel_of_the_distance():
    torso = FourierTorso(2, 40_000, 2.0)
    x = torch.tensor([[0.1, 0.2], [0.4, -0.2], [3.0, 3.0]])
    with torch.no_grad():
        phi = torso(x)
    found = 2 * (phi @ phi.T) / phi.shape[1]
    expected = torch.exp(-0.5 * 4.0 * torch.cdist(x, x) ** 2)  # the Gaussian kernel of width 1 / 2
    # a mean of 40 000 products in [-2, 2]: five standard deviations are at most 5 * 2 / 200
    assert_allclose(found, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    "settings", [{"value_range": (1.0, 1.0)}, {"eta": 0.0}, {"rise": 0.0}, {"epsilon": 2.0}, {"sweeps": 0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(SettingError):
        DeepNora(Identity(), 3, **{"value_range": (0.0, 1.0), "radius": 0.5, "lam": 0.1, "rise": 2.0, **settings})
