"""Claims of HARPG and N-HARPG: Hessian estimates, the Hessian-aided difference, importance weights, tracking rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from polytheory.access import Online
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Demo, Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.policy_gradient import oracles
from polytheory.proofs_check.policy_gradient.ascent import symbols
from polytheory.proofs_check.policy_gradient.breaks import (
    DESCENT,
    DROPPED_CURVATURE,
    DROPPED_DISCOUNT,
    DROPPED_OUTER,
    FLIPPED_OUTER,
    FROZEN_NORM,
    INVERTED_RATIO,
    MIDPOINT,
    UNCARRIED,
)
from polytheory.proofs_check.policy_gradient.instances import Case, case_a, case_ends, cases, one_logit, worked
from polytheory.proofs_check.policy_gradient.scripted import Script, one_step, path_of
from polytheory.proofs_check.policy_gradient.tracking import Experiment, track_momentum, track_recursive
from polytheory.reference.policy_gradient.exact import derivatives, objective
from polytheory.reference.policy_gradient.theory import softmax_constants, step_bound
from polytheory.trajectories import Trajectories

PAPER = "fatkhullin2023"


def _matrices(case: Case, room: Room, traj: Trajectories, theta: Any = None) -> np.ndarray:
    """B of every trajectory, [n, d, d], column by column."""
    policy, gamma = case.policy(room, theta), case.model.gamma
    columns = [room.parts.hvp_estimate(policy, traj, room_u, gamma=gamma) for room_u in _directions(case, room)]
    return np.stack(columns, axis=2)


def _directions(case: Case, room: Room) -> list[np.ndarray]:
    return [room.batch(e) for e in np.eye(case.theta.size)]


@claim(
    method="harpg", source="shen2019, Lemma 1; furmston2016", level=Level.PROPERTY,
    statement="the Hessian estimate B has the Hessian of the truncated return as mean",
    worked=worked, generated=cases,
    breaks=[FLIPPED_OUTER, DROPPED_OUTER, DROPPED_CURVATURE, DROPPED_DISCOUNT],
)  # fmt: skip
def hessian_estimate_is_unbiased(case: Case, room: Room) -> Margin:
    p, traj = case.trajectories()
    mean = np.einsum("n,nde->de", p, _matrices(case, room, traj))
    exact = oracles.hessian(oracles.truncated_return(case), case.theta)
    return Margin.equal(mean, exact, oracles.SECOND * oracles.size_of(case))


def _segment_mean(case: Case, room: Room) -> np.ndarray:
    """``E_q E_tau^[B(tau^, theta^) (other - theta)]`` by 20-node Gauss-Legendre quadrature in q."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    total = np.zeros_like(case.theta)
    u = room.batch(case.other - case.theta)
    for q, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        between = room.parts.interpolate(case.other, case.theta, float(q))
        p, traj = case.trajectories(between)
        total += weight * (p @ room.parts.hvp_estimate(case.policy(room, between), traj, u, gamma=case.model.gamma))
    return total


@claim(
    method="harpg", source=f"{PAPER}, Hessian-aided difference; shen2019, Lemma 2", level=Level.PROPERTY,
    statement="with theta^ uniform on the segment, B(tau^, theta^)(theta_t - theta_{t-1}) has the gradient difference as mean",
    worked=lambda: [case_a(), case_ends()], breaks=[MIDPOINT, FLIPPED_OUTER, DROPPED_CURVATURE],
)  # fmt: skip
def hessian_aided_difference_is_exact(case: Case, room: Room) -> Margin:
    value = oracles.truncated_return(case)
    difference = oracles.gradient(value, case.other) - oracles.gradient(value, case.theta)
    # the integrand is analytic in a strip wider than the segment: 20 nodes integrate it to rounding
    return Margin.equal(_segment_mean(case, room), difference, oracles.ROUNDING * oracles.size_of(case))


@claim(
    method="harpg", source=f"{PAPER}, Algorithm 2: q ~ U[0, 1]", level=Level.STATISTICAL,
    statement="the position on the segment is uniform (Kolmogorov-Smirnov over 400 iterations, error level 1e-6)",
    breaks=[
        Wrap("midpoint_always", part="segment_position", by=lambda f: lambda method, state: 0 * f(method, state) + 0.5),
        Wrap("q_reused", part="segment_position", by=lambda f: lambda method, state: f(method, _at_time_0(state))),
    ],
)  # fmt: skip
def segment_position_is_uniform(_: None, room: Room) -> Margin:
    from scipy.stats import kstwo

    case = case_a(truncation=1)
    made = room.make("NHarpg", policy=case.policy(room), truncation=1)
    script = Script(room, case, {})
    states = [replace(made.init(script, seed), t=t) for seed in range(20) for t in range(1, 21)]
    segment_position = room.part("segment_position")
    q = np.sort([float(np.ravel(segment_position(made, state))[0]) for state in states])
    ranks = np.arange(q.size)
    distance = max(np.max(q - ranks / q.size), np.max((ranks + 1) / q.size - q))
    return Margin(float(kstwo.isf(1e-6, q.size) - distance), 0.0)


def _at_time_0(state: Any) -> Any:
    return replace(state, t=0)


@claim(
    method="harpg", source=f"{PAPER}, error recursion of N-HARPG", level=Level.SYMBOLIC,
    statement="the error obeys e_t = (1 - eta)(e_{t-1} + v - E v) + eta xi: with exact v and g it stays 0",
    breaks=[
        UNCARRIED,
        Wrap("not_carried", part="recursive_momentum", by=lambda f: lambda d, v, g, eta: (1 - eta) * d + eta * g),
    ],
)  # fmt: skip
def error_recursion(_: None, room: Room) -> Margin:
    e, old, new, noise_v, noise_g, eta = symbols("field", "e old new noise_v noise_g eta")
    d = room.part("recursive_momentum")(old + e, new - old + noise_v, new + noise_g, eta)
    return Margin.proved(d - new - (1 - eta) * (e + noise_v) - eta * noise_g == 0)


def _iteration(algorithm: str, case: Case, room: Room) -> Margin:
    t, d = 6, np.linspace(0.3, -0.2, case.theta.size)
    eta = 2 / (t + 2)
    new, script = one_step(room, algorithm, case, d, t)
    if sorted(use for use, _ in script.asked) != ["tau", "tau_hat"]:
        return Margin.proved(False)
    between, move = script.theta_asked("tau_hat"), case.other - case.theta
    q = (between - case.theta) @ move / (move @ move)
    tau, tau_hat = script.answers["tau"], script.answers["tau_hat"]
    g = np.mean(
        [oracles.gradient(oracles.weighted_log_likelihood(case, tau, i), case.other) for i in range(tau.n)], axis=0
    )
    v = np.mean([_b_times(case, tau_hat, i, between, move) for i in range(tau_hat.n)], axis=0)
    direction = (1 - eta) * (d + v) + eta * g
    if algorithm == "NHarpg":
        theta = case.other + 0.5 * eta * direction / np.sqrt(direction @ direction)
    else:
        theta = case.other + 0.5 * np.sqrt(eta) * direction
    got = np.concatenate([script.theta_asked("tau"), between, new["d"], new["theta"], new["theta_prev"]])
    want = np.concatenate([case.other, case.theta + np.clip(q, 0, 1) * move, direction, theta, case.other])
    return Margin.equal(got, want, oracles.SECOND * oracles.size_of(case))


def _b_times(case: Case, traj: Trajectories, i: int, theta: np.ndarray, u: np.ndarray) -> np.ndarray:
    phi, log_p = oracles.weighted_log_likelihood(case, traj, i), oracles.log_likelihood(case, traj, i)
    return oracles.gradient(phi, theta) * (oracles.gradient(log_p, theta) @ u) + oracles.along(phi, theta, u)


_ITERATION_BREAKS = (
    FLIPPED_OUTER,
    UNCARRIED,
    Wrap("one_outer_product_of_means", part="score_along", by=lambda f: lambda *a: 0 * f(*a) + f(*a).mean()),
    Wrap("extrapolated", part="interpolate", by=lambda f: lambda theta, prev, q: f(theta, prev, q + 1)),
    Line("tau_reused", module="differences", old='access, "tau_hat")', new='access, "tau")'),
)


@claim(
    method="harpg", source=f"{PAPER}, Algorithm 2", level=Level.PROPERTY,
    statement="an iteration of HARPG and of N-HARPG is the paper's: fresh trajectories at theta_t and between the iterates, "
    "each outer product with its own trajectory",
    worked=lambda: [case_a(), case_ends()], breaks=[*_ITERATION_BREAKS, FROZEN_NORM],
)  # fmt: skip
def iteration_is_the_papers(case: Case, room: Room) -> Margin:
    return Margin.worst([_iteration("Harpg", case, room), _iteration("NHarpg", case, room)])


def _always_paid() -> list[Case]:
    """Reward 1 at every step and actions so rare that their scores are nearly 1."""
    model = TabularMDP(np.ones((1, 2, 1)), np.ones((1, 2)), np.ones(1), gamma=0.5, name="always paid")
    return [Case(model, one_logit(1), np.array([-8.0]), np.array([-7.0]), 8)]


@claim(
    method="harpg", source="shen2019, Lemma 3; derived constants", level=Level.PROPERTY,
    statement="|B| <= r_max (H M_g^2 + M_h) / (1 - gamma)^2 for every trajectory, so |v| <= |B| |theta_t - theta_{t-1}|",
    worked=lambda: [*_always_paid(), case_a()], breaks=[DROPPED_DISCOUNT],
)  # fmt: skip
def hessian_estimates_are_bounded(case: Case, room: Room) -> Margin:
    _, traj = case.trajectories()
    largest = np.linalg.norm(_matrices(case, room, traj), 2, axis=(1, 2)).max()
    c = softmax_constants(case.features, float(np.abs(case.model.r_at()).max()), case.model.gamma)
    return Margin.at_most(largest, c.B_max(case.truncation), oracles.ROUNDING * c.B_max(case.truncation))


@claim(
    method="harpg", source="yuan2020; xu2020: importance weights of policy gradients", level=Level.PROPERTY,
    statement="the importance-weighted difference has the same mean; E w^2 is a product over steps that grows with H",
    worked=lambda: [case_a(truncation=H) for H in (1, 2, 4)],
    breaks=[
        INVERTED_RATIO,
        Wrap("weight_dropped", part="importance_ratio", by=lambda f: lambda *a: 0 * f(*a) + 1),
    ],
)  # fmt: skip
def importance_weights_pay_with_variance(case: Case, room: Room) -> Margin:
    p, traj = case.trajectories(case.other)
    old, new = case.policy(room), case.policy(room, case.other)
    w = room.parts.importance_ratio(old, new, traj)
    g_old, g_new = (room.parts.pg_estimate(x, traj, gamma=case.model.gamma) for x in (old, new))
    value = oracles.truncated_return(case)
    difference = oracles.gradient(value, case.other) - oracles.gradient(value, case.theta)
    tolerance = oracles.ROUNDING * oracles.size_of(case)
    margins = [
        Margin.equal(p @ (g_new - w[:, None] * g_old), difference, tolerance),
        Margin.equal(p @ w**2, _second_moment(case, case.truncation), tolerance),
        Margin.at_most(_second_moment(case, case.truncation - 1), p @ w**2, tolerance),
    ]
    if case.truncation == 4:
        margins.append(Margin.equal(p @ w**2 - 1, 0.478565, 0.5e-6))  # worked number, six digits
    return Margin.worst(margins)


def _second_moment(case: Case, steps: int) -> float:
    """``E w^2`` by propagating the start distribution through ``sum_a pi_old^2 / pi_new P``."""
    old, new = (np.exp(oracles.log_pi(case.features, x)) for x in (case.theta, case.other))
    kernel = np.einsum("sa,sat->st", old**2 / new, np.asarray(case.model.P))
    return float(case.model.mu @ np.linalg.matrix_power(kernel, steps) @ np.ones(case.model.S))


@claim(
    method="harpg", source=f"{PAPER}, normalised ascent lemma (here with sharper constants)", level=Level.PROPERTY,
    statement="every step of N-HARPG gains gamma_t (|grad J| - 2 |e_t|) - L gamma_t^2 / 2 at least, e_t the exact error",
    breaks=[DESCENT, FROZEN_NORM],
)  # fmt: skip
def every_step_ascends(_: None, room: Room) -> Margin:
    # a small discount keeps L small and a large batch keeps e_t small: otherwise the bound says little
    base = case_a()
    model = TabularMDP(base.model.P, base.model.r_at(), base.model.mu, gamma=0.3, name="two states")
    case = base.at(model=model, truncation=3)
    L = softmax_constants(case.features, 1.0, model.gamma).L
    settings = {"policy": case.policy(room), "truncation": 3, "gamma0": 0.1, "batch": 256}
    thetas, ds = path_of(room, "NHarpg", Online(model), 40, **settings)
    margins = []
    for t, d in enumerate(ds):
        now = derivatives(model, case.reference(thetas[t]), truncation=3)
        error, size = float(np.linalg.norm(d - now.gradient)), 0.1 * 2 / (t + 2)
        least = step_bound(now.J, float(np.linalg.norm(now.gradient)), error, size, L)
        margins.append(Margin.at_most(least, objective(model, case.reference(thetas[t + 1]), truncation=3), 1e-12))
    return Margin.worst(margins)


@claim(
    method="harpg", source=f"{PAPER}, Thm. on N-HARPG: eta_t ~ 1/t", level=Level.STATISTICAL,
    statement="along steps of length ~1/t the direction's RMS error falls as t^(-1/2) and is below that of implicit gradient "
    "transport, whose best is t^(-2/5) (confidence 1 - 1e-4)",
    rooms=("scaled",),
    breaks=[
        Line("wrong_eta_exponent", old="momentum_exponent: ClassVar[float] = 1.0", new="momentum_exponent = 0.5"),
        FLIPPED_OUTER,
    ],
)  # fmt: skip
def recursive_momentum_tracks(e: Experiment | None, room: Room) -> Margin:
    e = e or Experiment()
    recursive = track_recursive(room, e, room.part("NHarpg").momentum_exponent)
    transported = track_momentum(room, e, 4 / 5, ahead=True)
    return Margin.worst([recursive.near(1 / 2), recursive.below(transported)])


def _softmax(**settings: Any) -> Any:
    def build(room: Any, model: Any) -> dict[str, Any]:
        return {"policy": room.part("TabularSoftmax").zeros(model.S, model.A), **settings}

    return build


DEMOS = (
    Demo("two-state", "NHarpg", _softmax(truncation=30, gamma0=0.5, batch=8), steps=100, lockstep_steps=15),
    Demo("two-state", "Harpg", _softmax(truncation=30, gamma0=0.2, batch=8), steps=100, lockstep_steps=15),
    Demo(
        "cliffwalking", "NHarpg", _softmax(truncation=30, gamma0=1.0, batch=4), steps=80, options={"gamma": 0.9},
        lockstep_steps=8,
    ),
)  # fmt: skip
