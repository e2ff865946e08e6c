"""Tracking rates over the full range: the slow form of what `verify` checks on a short one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory.proofs_check._rooms import Room
from polytheory.proofs_check.policy_gradient import tracking
from polytheory.proofs_check.policy_gradient.tracking import Experiment, Track
from polytheory.reference.policy_gradient.exact import derivatives

FULL = Experiment(gamma0=0.5, first=256, last=4096, groups=16, per_group=4)


def test_path_has_the_prescribed_steps():
    e = Experiment(gamma0=0.5, last=100)
    theta = tracking.path(e)
    assert theta.shape == (102, 2)
    assert_allclose(theta[0], theta[1], atol=0)
    chord = np.linalg.norm(np.diff(theta[1:], axis=0), axis=1)
    assert_allclose(2 * np.arcsin(chord / 2), 0.5 * 2 / (np.arange(100) + 2), rtol=1e-10)


def test_gradients_along_the_path():
    e = Experiment(last=20)
    for t in (0, 7, 20):
        exact = derivatives(tracking.CASE.model, tracking.CASE.reference(tracking.path(e)[t + 1]), truncation=4)
        assert_allclose(tracking.gradients(e)[t], exact.gradient, atol=1e-14)


def test_fit_recovers_a_known_rate():
    e = Experiment(groups=4, per_group=3)
    t = np.maximum(np.arange(e.last + 1.0), 1)
    error = np.zeros((e.last + 1, e.replicas, 2))
    error[..., 0] = (t**-0.4)[:, None] * np.linspace(0.5, 2, e.replicas)
    track = tracking.measured(e, tracking.gradients(e)[:, None] + error)
    assert_allclose(track.slopes, -0.4, atol=1e-10)
    assert track.near(0.4).holds
    assert not track.near(0.8).holds


def test_order_needs_the_whole_interval():
    e, spread = Experiment(groups=4), np.array([-0.01, 0.0, 0.0, 0.01])
    low, high = (Track(e, spread, spread[::k] + level, 0.0) for k, level in ((1, -1.0), (-1, 0.0)))
    assert low.below(high).holds
    assert not high.below(low).holds
    assert not low.below(low.__class__(e, spread, low.late + spread, 0.0)).holds


@pytest.mark.slow
def test_full_range():
    transport, harpg = (Room("scaled", "policy_gradient", name) for name in ("n-pg-igt", "harpg"))
    plain = tracking.track_momentum(transport, FULL, 2 / 3, ahead=False)
    ahead = tracking.track_momentum(transport, FULL, 4 / 5, ahead=True)
    recursive = tracking.track_recursive(harpg, FULL, 1.0)
    for track, rate in ((plain, 1 / 3), (ahead, 2 / 5), (recursive, 1 / 2)):
        assert track.near(rate).holds, (track.slopes.mean(), rate)
    assert recursive.below(ahead).holds
    assert ahead.below(plain).holds
