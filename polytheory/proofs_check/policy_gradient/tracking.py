"""How fast the direction of each method approaches the gradient along a prescribed path.

The parameters walk on the unit circle, ``theta_t = (cos phi_t, sin phi_t)`` with ``phi_{t+1} = phi_t + gamma0 x_t``,
whatever the estimates say: the rates do not depend on a landscape being benign. Every replica samples its own
trajectories of H steps; the error is ``e_t = d_t - grad J_H(theta_t)``.

Error level: slopes are fitted to groups of replicas that share no random number; their mean has a Student interval at
confidence ``1 - 1e-4``. The noise in d_t is a constant c_t times the rate, and c_t follows the noise of one trajectory,
between its extremes on the circle. A least-squares slope over a log-range of length R moves by at most ``1.5 log(c_max /
c_min) / R`` for that (half-range deviations of opposite sign at both halves are the worst case): the allowance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from polytheory.access import Key, Online, Requests
from polytheory.proofs_check.claims import Margin
from polytheory.proofs_check.policy_gradient.instances import case_a
from polytheory.proofs_check.policy_gradient.oracles import STEP
from polytheory.reference.policy_gradient.estimators import pg_estimate
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories

CASE = case_a()


@dataclass(frozen=True)
class Experiment:
    """Fields: ``gamma0``; ``first`` and ``last`` step of the fit; ``groups`` of ``per_group`` replicas; ``seed``."""

    gamma0: float = 0.5
    first: int = 32
    last: int = 512
    groups: int = 32
    per_group: int = 8
    seed: int = 0

    @property
    def replicas(self) -> int:
        """All replicas."""
        return self.groups * self.per_group

    @property
    def allowance(self) -> float:
        """How far the path's changing noise may move a slope."""
        c_min, c_max = noise_range()
        return 1.5 * np.log(c_max / c_min) / np.log(self.last / self.first)


@dataclass(frozen=True, eq=False)
class Track:
    """Errors along the path.

    Fields: ``slopes`` [groups] fitted exponents; ``late`` [groups] mean of log RMS over the second half of the fit's
    range; ``final`` RMS error of all replicas at the last step.
    """

    experiment: Experiment
    slopes: np.ndarray
    late: np.ndarray
    final: float

    def near(self, rate: float) -> Margin:
        """The interval of the slope comes within the allowance of ``-rate``."""
        mean, half = interval(self.slopes)
        return Margin(-abs(mean + rate), self.experiment.allowance + half)

    def below(self, other: Track) -> Margin:
        """The late error is smaller than the other's: the whole interval of the log ratio is negative."""
        mean, half = interval(self.late - other.late)
        return Margin(-mean - half, 0.0)


def interval(x: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of the Student interval at confidence ``1 - 1e-4``."""
    from scipy.stats import t as student

    quantile = float(student.ppf(1 - 0.5e-4, x.size - 1))
    return float(x.mean()), quantile * float(x.std(ddof=1)) / x.size**0.5


def path(e: Experiment) -> np.ndarray:
    """theta_{-1} = theta_0, theta_0, ..., theta_last: [last + 2, 2]."""
    t = np.arange(e.last)
    phi = np.concatenate([[0.0, 0.0], np.cumsum(e.gamma0 * 2 / (t + 2))])
    return np.stack([np.cos(phi), np.sin(phi)], axis=1)


@lru_cache(maxsize=8)
def gradients(e: Experiment) -> np.ndarray:
    """grad J_H along the path, [last + 1, 2]: complex steps of the forward recursion, all times at once."""
    model, columns = CASE.model, []
    P = np.asarray(model.P)
    for unit in np.eye(2):
        p = 1 / (1 + np.exp(-(path(e)[1:] + 1j * STEP * unit)))  # probability of action 1 in each state
        pi, x, total = np.stack([1 - p, p], axis=2), np.broadcast_to(model.mu, p.shape), np.zeros(len(p), dtype=complex)
        for h in range(CASE.truncation):
            total += model.gamma**h * np.einsum("ts,tsa,sa->t", x, pi, model.r_at())
            x = np.einsum("ts,tsa,sau->tu", x, pi, P)
        columns.append(np.imag(total) / STEP)
    return np.stack(columns, axis=1)


@lru_cache(maxsize=1)
def noise_range() -> tuple[float, float]:
    """Smallest and largest standard deviation of one gradient estimate on the circle."""
    found = []
    for phi in np.linspace(0, 2 * np.pi, 64, endpoint=False):
        theta = np.array([np.cos(phi), np.sin(phi)])
        p, traj = CASE.trajectories(theta)
        g = pg_estimate(CASE.reference(theta), traj, gamma=CASE.model.gamma)
        found.append(np.sqrt(p @ (g**2).sum(axis=1) - ((p @ g) ** 2).sum()))
    return min(found), max(found)


@lru_cache(maxsize=4)
def episodes(e: Experiment, use: str, points: bytes) -> tuple[Any, Trajectories]:
    """Parameters [n, 2] and one fresh trajectory for each of them; ``points`` are the bytes of [last + 1, R, 2]."""
    import torch

    from polytheory.scaled.policy_gradient.softmax import LinearSoftmax

    theta = torch.frombuffer(bytearray(points), dtype=torch.float64).view(-1, 2)
    row = np.arange(len(theta))
    requests = Requests(row_ids(row % e.replicas, row // e.replicas), CASE.truncation)
    policy = LinearSoftmax(torch.from_numpy(CASE.features), theta)
    return theta, Online(CASE.model).replicate(len(theta)).rollouts(policy, requests, Key(e.seed, f"tracking/{use}", 0))


def estimates(room: Any, e: Experiment, points: np.ndarray, use: str, estimate: Callable[..., Any]) -> np.ndarray:
    """``estimate(policy, traj)`` on the trajectories sampled at ``points`` [last + 1, R or 1, 2]: [last + 1, R, 2]."""
    points = np.ascontiguousarray(np.broadcast_to(points, (e.last + 1, e.replicas, 2)))
    theta, traj = episodes(e, use, points.tobytes())
    policy = room.part("LinearSoftmax")(room.inward(CASE.features), theta)
    return estimate(policy, traj).numpy().reshape(points.shape)


def gradient_estimates(room: Any, e: Experiment, points: np.ndarray) -> np.ndarray:
    """The room's gradient estimates at ``points``."""
    part = room.part("pg_estimate")
    return estimates(room, e, points, "tau", lambda policy, traj: part(policy, traj, gamma=CASE.model.gamma))


def measured(e: Experiment, directions: np.ndarray) -> Track:
    """Errors of ``directions`` [last + 1, R, 2] against the exact gradient."""
    squares = ((directions - gradients(e)[:, None]) ** 2).sum(axis=2)[e.first :]
    logs = np.log(squares.reshape(len(squares), e.groups, e.per_group).mean(axis=2)) / 2
    x = np.log(np.arange(e.first, e.last + 1))
    return Track(e, np.polyfit(x, logs, 1)[0], logs[len(logs) // 2 :].mean(axis=0), float(squares[-1].mean() ** 0.5))


def weights(room: Any, e: Experiment, exponent: float) -> np.ndarray:
    """eta_t from the room's schedule, [last + 1]."""
    momentum_weight = room.part("momentum_weight")
    return np.array([momentum_weight(1.0, t, exponent) for t in range(e.last + 1)])


def track_momentum(room: Any, e: Experiment, exponent: float, *, ahead: bool) -> Track:
    """Plain momentum (``ahead`` False) or N-PG-IGT (True) with ``eta_t = x_t^exponent``, from the room's own parts."""
    theta, eta = path(e), weights(room, e, exponent)
    points = room.part("lookahead")(theta[1:], theta[:-1], eta[:, None]) if ahead else theta[1:]
    g, momentum = gradient_estimates(room, e, points[:, None]), room.part("momentum")
    d = [g[0]]
    for t in range(1, e.last + 1):
        d.append(momentum(d[-1], g[t], eta[t]))
    return measured(e, np.stack(d))


def track_recursive(room: Any, e: Experiment, exponent: float) -> Track:
    """N-HARPG with ``eta_t = x_t^exponent``, from the room's own parts."""
    theta, eta = path(e), weights(room, e, exponent)
    row = np.arange((e.last + 1) * e.replicas)
    q = uniforms(e.seed, "tracking/q", 0, row_ids(row % e.replicas, row // e.replicas), 1).reshape(-1, e.replicas, 1)
    u = room.inward(np.repeat(theta[1:] - theta[:-1], e.replicas, axis=0))
    part, recursive_momentum = room.part("hvp_estimate"), room.part("recursive_momentum")
    g = gradient_estimates(room, e, theta[1:, None])
    between = room.part("interpolate")(theta[1:, None], theta[:-1, None], q)
    v = estimates(room, e, between, "tau_hat", lambda policy, traj: part(policy, traj, u, gamma=CASE.model.gamma))
    d = [g[0]]
    for t in range(1, e.last + 1):
        d.append(recursive_momentum(d[-1], v[t], g[t], eta[t]))
    return measured(e, np.stack(d))
