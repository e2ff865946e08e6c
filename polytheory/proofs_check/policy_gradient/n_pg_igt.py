"""Claims of N-PG-IGT: gradient estimates, implicit gradient transport, tracking rate; the theory is in `ascent`."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Demo, Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.policy_gradient import ascent as ascent
from polytheory.proofs_check.policy_gradient import oracles
from polytheory.proofs_check.policy_gradient.ascent import symbols
from polytheory.proofs_check.policy_gradient.breaks import (
    DROPPED_DISCOUNT,
    FROZEN_NORM,
    IGNORED_MASK,
    MISSED_REWARD,
    NO_LOOKAHEAD,
    SHORT_LOOKAHEAD,
)
from polytheory.proofs_check.policy_gradient.instances import Case, case_a, cases, worked
from polytheory.proofs_check.policy_gradient.scripted import one_step
from polytheory.proofs_check.policy_gradient.tracking import Experiment, track_momentum

PAPER = "fatkhullin2023"


def _forget(f: Any) -> Any:
    return lambda d, g, eta: f(g, g, eta)


@claim(
    method="n-pg-igt", source="sutton1999, Thm. 1; baxter2001", level=Level.PROPERTY,
    statement="REINFORCE and GPOMDP, with and without a state baseline, have the gradient of the truncated return as mean",
    worked=worked, generated=cases, breaks=[DROPPED_DISCOUNT, MISSED_REWARD, IGNORED_MASK],
)  # fmt: skip
def gradient_estimates_are_unbiased(case: Case, room: Room) -> Margin:
    p, traj = case.trajectories()
    exact = oracles.gradient(oracles.truncated_return(case), case.theta)
    baseline = np.cos(1.0 + np.arange(case.model.S))[traj.states]
    means = [
        p @ room.parts.pg_estimate(case.policy(room), traj, gamma=case.model.gamma, kind=kind, baseline=b)
        for kind in ("gpomdp", "reinforce")
        for b in (None, baseline)
    ]
    return Margin.equal(np.stack(means), np.tile(exact, (4, 1)), oracles.ROUNDING * oracles.size_of(case))


@claim(
    method="n-pg-igt", source=f"{PAPER}, analysis of N-PG-IGT; cutkosky2020, sec. 3", level=Level.SYMBOLIC,
    statement="on every quadratic with exact gradients, a direction that equals the gradient goes on to equal it",
    breaks=[
        NO_LOOKAHEAD,
        SHORT_LOOKAHEAD,
        Wrap("weights_swapped", part="momentum", by=lambda f: lambda d, g, eta: f(d, g, 1 - eta)),
    ],
)  # fmt: skip
def transport_is_exact_on_quadratics(_: None, room: Room) -> Margin:
    now, before, eta, a, b = symbols("field", "theta theta_prev eta a b")

    def gradient(x: Any) -> Any:
        return b - a * x

    ahead = room.part("lookahead")(now, before, eta)
    d = room.part("momentum")(gradient(before), gradient(ahead), eta)
    return Margin.proved(d - gradient(now) == 0)


@claim(
    method="n-pg-igt", source=f"{PAPER}, error recursion of N-PG-IGT", level=Level.SYMBOLIC,
    statement="on every cubic the error obeys e_t = (1 - eta)(e_{t-1} + Z(theta_{t-1}, theta_t)) + eta Z(theta~_t, theta_t)",
    breaks=[NO_LOOKAHEAD, SHORT_LOOKAHEAD],
)  # fmt: skip
def error_recursion(_: None, room: Room) -> Margin:
    now, before, eta, e, a, b, c = symbols("field", "theta theta_prev eta e a b c")

    def gradient(x: Any) -> Any:
        return b - a * x + c * x**2

    def beyond_linear(x: Any) -> Any:  # Z(x, theta_t): what the tangent at theta_t misses
        return gradient(x) - gradient(now) - (2 * c * now - a) * (x - now)

    ahead = room.part("lookahead")(now, before, eta)
    new = room.part("momentum")(gradient(before) + e, gradient(ahead), eta) - gradient(now)
    true_ahead = (now - (1 - eta) * before) / eta
    expected = (1 - eta) * (e + beyond_linear(before)) + eta * beyond_linear(true_ahead)
    return Margin.proved(new - expected == 0)


@claim(
    method="n-pg-igt", source=f"{PAPER}, error recursion of N-PG-IGT", level=Level.PROPERTY,
    statement="after one step of length s the error of the transported direction is O(s^2): halving s divides it by about 4",
    breaks=[NO_LOOKAHEAD, SHORT_LOOKAHEAD],
)  # fmt: skip
def one_step_error_is_quadratic(_: None, room: Room) -> Margin:
    # worked numbers: eta = 1/2, displacement (0.6, 0.7) times 1, 1/2, 1/4, 1/8
    published = np.array([0.0386504, 0.0076739, 0.0014602, 0.0003028])
    case = case_a()
    value = oracles.truncated_return(case)
    before, errors = case.theta, []
    for scale in (1, 1 / 2, 1 / 4, 1 / 8):
        now = before + scale * (case.other - before)
        ahead = room.part("lookahead")(now, before, 0.5)
        d = room.part("momentum")(oracles.gradient(value, before), oracles.gradient(value, ahead), 0.5)
        errors.append(np.linalg.norm(d - oracles.gradient(value, now)))
    return Margin.equal(errors, published, 0.5e-7)  # seven digits are given


@claim(
    method="n-pg-igt", source=f"{PAPER}, Algorithm 1", level=Level.PROPERTY,
    statement="an iteration samples at the look-ahead, takes the scores there, averages, and moves by gamma_t exactly",
    worked=lambda: [case_a(), case_ends_in_time()],
    breaks=[
        NO_LOOKAHEAD,
        FROZEN_NORM,
        Line("scores_at_theta", room="reference", old="self.gradients(ahead,", new="self.gradients(state.theta,"),
        Line("scores_at_theta_scaled", room="scaled", old="self.gradient(ahead,", new="self.gradient(state.theta,"),
        Wrap("momentum_adds", part="momentum", by=lambda f: lambda d, g, eta: d + eta * g),
    ],
)  # fmt: skip
def iteration_is_the_papers(case: Case, room: Room) -> Margin:
    t, d = 6, np.linspace(0.3, -0.2, case.theta.size)
    x = 2 / (t + 2)
    eta = x**0.8
    new, script = one_step(room, "NPgIgt", case, d, t)
    ahead = case.other / eta + (1 - 1 / eta) * case.theta
    traj = script.answers["tau"]
    g = np.mean(
        [oracles.gradient(oracles.weighted_log_likelihood(case, traj, i), ahead) for i in range(traj.n)], axis=0
    )
    direction = (1 - eta) * d + eta * g
    theta = case.other + 0.5 * x * direction / np.sqrt(direction @ direction)
    got = np.concatenate([script.theta_asked("tau"), new["d"], new["theta"], new["theta_prev"]])
    want = np.concatenate([ahead, direction, theta, case.other])
    return Margin.equal(got, want, oracles.ROUNDING * oracles.size_of(case.at(theta=ahead)))


def case_ends_in_time() -> Case:
    """The three-action case, whose episodes end early."""
    return worked()[1]


@claim(
    method="n-pg-igt", source=f"{PAPER}, Thm. on N-PG-IGT: eta_t ~ t^(-4/5)", level=Level.STATISTICAL,
    statement="along steps of length ~1/t the direction's RMS error falls as t^(-2/5) and is below plain momentum's, whose "
    "best is t^(-1/3) (confidence 1 - 1e-4)",
    rooms=("scaled",),
    breaks=[Line("wrong_eta_exponent", old="= 4 / 5", new="= 1 / 5"), Wrap("momentum_forgets", "momentum", _forget)],
)  # fmt: skip
def transported_momentum_tracks(e: Experiment | None, room: Room) -> Margin:
    e = e or Experiment()
    transported = track_momentum(room, e, room.part("NPgIgt").momentum_exponent, ahead=True)
    plain = track_momentum(room, e, 2 / 3, ahead=False)
    return Margin.worst([transported.near(2 / 5), transported.below(plain)])


def _softmax(**settings: Any) -> Any:
    def build(room: Any, model: Any) -> dict[str, Any]:
        return {"policy": room.part("TabularSoftmax").zeros(model.S, model.A), **settings}

    return build


DEMOS = (
    Demo("two-state", "NPgIgt", _softmax(truncation=30, gamma0=0.5, batch=8), steps=100, lockstep_steps=15),
    Demo(
        "frozenlake", "NPgIgt", _softmax(truncation=40, gamma0=3.0, batch=128), steps=100, options={"gamma": 0.95},
        lockstep_steps=10,
    ),
)  # fmt: skip
