"""The exact probe is itself right: gradients in logits by differences, groups that sum to one, a scripted access."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory.proofs_check._rooms import Room
from polytheory.proofs_check.posttraining.probe import pull, row_weights, steps_of, toy, with_theta
from polytheory.reference.posttraining import grpo as reference  # noqa: F401  (the rooms look among loaded modules)
from polytheory.scaled.posttraining import grpo as scaled  # noqa: F401

PROBE = toy()


def test_gradients_in_token_log_probs_become_gradients_in_logits():
    weights, h = np.cos(np.arange(PROBE.lm.N * PROBE.lm.T)).reshape(PROBE.lm.N, PROBE.lm.T) * PROBE.lm.mask, 1e-6
    found = PROBE.in_logits(np.arange(PROBE.lm.N), weights)
    for at in np.ndindex(PROBE.theta.shape):
        step = np.zeros_like(PROBE.theta)
        step[at] = h
        ahead, behind = ((weights * PROBE.lm.token_log_probs(PROBE.theta + s * step)).sum() for s in (1, -1))
        # rounding of a sum of 39 terms over 2h
        assert_allclose(found[at], (ahead - behind) / (2 * h), rtol=0, atol=1e-8)


def test_groups_are_all_groups():
    p, columns = PROBE.groups(2)
    assert_allclose(p.sum(), 1.0, rtol=1e-12)
    means = columns["score"].reshape(-1, 2).mean(axis=1)
    assert_allclose(p @ means, PROBE.J, rtol=1e-12)
    assert (columns["group"] == np.repeat(np.arange(225), 2)).all()


def test_old_log_probs_are_those_of_the_old_policy():
    away = PROBE.columns(on_policy=False)
    assert_allclose(away["log_probs_old"], PROBE.lm.token_log_probs(PROBE.old))
    assert_allclose(PROBE.columns()["log_probs_old"], PROBE.lm.token_log_probs(PROBE.theta))
    assert_allclose(with_theta(PROBE, PROBE.old).J, 0.3797133368, atol=5e-11)


@pytest.mark.parametrize("name", ["reference", "scaled"])
def test_pulling_and_stepping_agree(name):
    """One step on one scripted group is the pulled-back gradient of that group's loss."""
    room = Room(name, "posttraining", "grpo")
    rows = [4, 0]  # (0, 0, 1) scores 1, (2) scores 0
    change = steps_of(room, PROBE, [rows], scale="none", beta=0.0, normalisation="seq_sum", step_size=0.25)[0]
    columns = PROBE.columns(np.array(rows))
    columns["advantages"] = columns["score"] - columns["score"].mean()
    w = row_weights(room, columns["mask"], np.full(2, 0.5), "seq_sum")
    slope = pull(room, "ppo_clip", columns, w)[1]
    assert_allclose(change, -0.25 * PROBE.in_logits(columns["rows"], slope), rtol=0, atol=1e-15)
    assert np.abs(change).max() > 0.01
