"""The worked instance of two states and two actions, every trajectory of it, and its exact gradient by autograd."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from polytheory.models import TabularMDP
from polytheory.scaled.policy_gradient.softmax import one_logit_per_state
from polytheory.trajectories import Trajectories

P = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]]])
R = np.array([[0.1, 0.0], [0.5, 1.0]])
RHO = np.array([0.6, 0.4])
GAMMA = 0.8


def two_state() -> TabularMDP:
    return TabularMDP(P, R, RHO, gamma=GAMMA, name="two-state")


def policy_at(*theta: float):
    return one_logit_per_state(2).with_theta(torch.tensor([theta], dtype=torch.float64))


def all_trajectories(H: int) -> tuple[torch.Tensor, Trajectories]:
    """Probability of the world's part of every trajectory (without the policy's), and the trajectories."""
    steps = list(itertools.product(range(2), repeat=2 * H))
    both = np.array(steps).reshape(-1, H, 2)
    states, actions = both[:, :, 0], both[:, :, 1]
    p = RHO[states[:, 0]]
    for t in range(H - 1):
        p = p * P[states[:, t], actions[:, t], states[:, t + 1]]
    traj = Trajectories(
        torch.tensor(states), torch.tensor(actions), torch.tensor(R[states, actions]),
        torch.ones(len(states), H, dtype=torch.bool),
    )  # fmt: skip
    return torch.tensor(p), traj


def probabilities(policy, p: torch.Tensor, traj: Trajectories) -> torch.Tensor:
    """Probability of every trajectory under the policy, as a plain product."""
    one = torch.sigmoid(policy.theta[0])[traj.states]
    return p * torch.where(traj.actions == 1, one, 1 - one).prod(1)


def exact_return(theta: torch.Tensor, H: int | None) -> torch.Tensor:
    """J(theta), or J_H, by linear algebra: a route without trajectories."""
    one = torch.sigmoid(theta)
    pi = torch.stack([1 - one, one], dim=1)
    P_pi = torch.einsum("sa,sax->sx", pi, torch.tensor(P))
    r_pi = (pi * torch.tensor(R)).sum(1)
    if H is None:
        return torch.tensor(RHO) @ torch.linalg.solve(torch.eye(2, dtype=torch.float64) - GAMMA * P_pi, r_pi)
    v = torch.zeros(2, dtype=torch.float64)
    for _ in range(H):
        v = r_pi + GAMMA * P_pi @ v
    return torch.tensor(RHO) @ v


def exact_gradient(theta: torch.Tensor, H: int | None = None) -> torch.Tensor:
    """grad J at [n, d], by autograd through `exact_return`."""
    return torch.stack([torch.autograd.functional.jacobian(lambda x: exact_return(x, H), row) for row in theta])
