"""The distribution term of `SampledParl` in both rooms: every trajectory as often as it is likely, against a linear solve."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytheory.proofs_check.alignment.instances import two_layers
from polytheory.reference.alignment import bilevel
from polytheory.reference.alignment import sampled as reference
from polytheory.reference.policy_gradient.exact import enumerate_trajectories
from polytheory.reference.policy_gradient.softmax import TabularSoftmax
from polytheory.reward_design import world_of
from polytheory.scaled.alignment import sampled as scaled
from polytheory.scaled.policy_gradient.softmax import TabularSoftmax as TorchSoftmax
from polytheory.trajectories import Trajectories

CASE, DAMPING = two_layers(), 0.25
S, A = CASE.world.r.shape
ROWS = 2**14  # probabilities of the instance under the uniform policy are multiples of 1 / 2^14
ROOMS = {"reference": reference, "scaled": scaled}


def found(room, term):
    """T1 at the uniform policy, and the exact one."""
    b = np.linspace(0.5, -1, S * A).reshape(S, A)
    b = (b - b.mean(axis=1, keepdims=True)).ravel()
    p, traj = enumerate_trajectories(CASE.model, TabularSoftmax.zeros(S, A), 2)
    rows = np.repeat(np.arange(len(p)), (p * ROWS).round().astype(int))
    columns = [np.asarray(x)[rows] for x in (traj.states, traj.actions, traj.rewards, traj.mask)]
    options = {"features": CASE.features, "tau": CASE.tau, "damping": DAMPING, "cg_steps": 50, "term": term}
    if room == "reference":
        policy = TabularSoftmax.zeros(S, A)
        made = reference.SampledParl(policy=policy, **options)
        T1 = made.distribution_term(CASE.nu, policy, Trajectories(*columns), b, CASE.features, CASE.world.gamma)
    else:
        policy = TorchSoftmax.zeros(S, A)
        made, tensors = scaled.SampledParl(policy=policy, **options), [torch.from_numpy(x) for x in columns]
        nu, b_, phi = torch.tensor(CASE.nu)[None], torch.tensor(b)[None], torch.tensor(CASE.features)
        T1 = made.distribution_term(nu, policy, Trajectories(*tensors), b_, phi, CASE.world.gamma)[0].numpy()
    return T1, exact(term, b)


def exact(term, b):
    """``M^T (C + damping)^-1 b`` from the model."""
    world, theta = world_of(CASE.model), np.zeros((S, A))
    pi = np.full((S, A), 1 / A)
    if term == "implicit":
        C = -bilevel.lower_derivatives(
            world.P, world.mu, CASE.features @ CASE.nu, theta, gamma=world.gamma, tau=CASE.tau
        ).hessian
    else:
        x = np.linalg.solve(np.eye(S) - world.gamma * np.einsum("sa,say->sy", pi, world.P).T, world.mu)
        z = bilevel.scores_of(pi)
        C = CASE.tau * np.einsum("s,sa,sad,sae->de", x, pi, z, z)
    u = np.linalg.solve(C + DAMPING * np.eye(S * A), b).reshape(S, A)
    return bilevel.mixed_pullback(world.P, world.mu, CASE.features, theta, u, gamma=world.gamma)


ROUNDING = 1e-13 * ROWS**0.5  # of sums of ROWS terms of size 1, and of a few conjugate gradients


@pytest.mark.parametrize("term", ["implicit", "fisher"])
@pytest.mark.parametrize("room", ROOMS)
def test_the_term_of_every_trajectory_is_the_exact_one(room, term):
    T1, wanted = found(room, term)
    assert np.abs(wanted).max() > 0.05
    assert np.abs(T1 - wanted).max() < ROUNDING


@pytest.mark.parametrize("factor", [0.0, -1.0, 1 / CASE.tau], ids=["identity", "sign", "no temperature"])
@pytest.mark.parametrize("room", ROOMS)
def test_a_wrong_fisher_matrix_is_seen(room, factor, monkeypatch):
    right = ROOMS[room].entropy_part
    monkeypatch.setattr(ROOMS[room], "entropy_part", lambda *a, **k: factor * right(*a, **k))
    T1, wanted = found(room, "fisher")
    assert np.abs(T1 - wanted).max() > 0.01
