"""Claims about the analysis that N-PG-IGT and (N)-HARPG share: from a small gradient error to a small gap."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from polytheory.errors import NotSolvedError, require
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Level, Line, Margin, Room, claim
from polytheory.proofs_check.policy_gradient import oracles
from polytheory.proofs_check.policy_gradient.breaks import DROPPED_DISCOUNT, MISSED_REWARD
from polytheory.proofs_check.policy_gradient.instances import Case, case_a, case_shared, one_logit
from polytheory.reference.policy_gradient.softmax import TabularSoftmax
from polytheory.reference.policy_gradient.theory import softmax_constants

PAPER = "fatkhullin2023"


def symbols(kind: str, names: str) -> list[Any]:
    """Indeterminates of a polynomial "ring" over the integers or of its "field" of fractions, in normal form throughout.

    Equality with 0 is decided, not simplified towards.
    """
    domain = require("sympy", "certify").ZZ
    return list(getattr(require(f"sympy.polys.{kind}s", "certify"), kind)(names.split(), domain)[1:])


@claim(
    method="n-pg-igt", source="sutton1999, Thm. 1", level=Level.SYMBOLIC, rooms=("reference",),
    statement="the policy gradient theorem holds for every discounted MDP with two states and two actions",
    breaks=[
        Line("policy_dropped", module="exact", old="(x[:, None] * pi * q)[", new="(x[:, None] * q)["),
        Line("visits_dropped", module="exact", old="(x[:, None] * pi * q)[", new="(pi * q)["),
    ],
)  # fmt: skip
def policy_gradient_theorem(_: None, room: Room) -> Margin:
    # polynomials with integer coefficients; p is the probability of action 1 in each state, the sigmoid of its logit; P
    # the probability of moving to state 1
    gamma, mu, *p = (x := symbols("ring", "gamma mu p0 p1 P0 P1 P2 P3 r0 r1 r2 r3"))[:4]
    P, r = (np.array(part, dtype=object).reshape(2, 2) for part in (x[4:8], x[8:]))
    pi = np.array([[1 - p[0], p[0]], [1 - p[1], p[1]]], dtype=object)
    to_one, reward = (pi * P).sum(axis=1), (pi * r).sum(axis=1)
    # (I - gamma P_pi)^(-1) = adjugate / det, by hand: two states
    det = (1 - gamma * (1 - to_one[0])) * (1 - gamma * to_one[1]) - gamma**2 * to_one[0] * (1 - to_one[1])
    adjugate = np.array(
        [[1 - gamma * to_one[1], gamma * to_one[0]], [gamma * (1 - to_one[1]), 1 - gamma * (1 - to_one[0])]], dtype=object
    )  # fmt: skip
    start = np.array([1 - mu, mu], dtype=object)
    v_det, x_det = adjugate @ reward, start @ adjugate  # value and visits, times det
    q_det = r * det + ((1 - P) * v_det[0] + P * v_det[1]) * gamma  # arrays on the left of symbols
    z = np.zeros((2, 2, 2), dtype=object)
    for s in range(2):
        z[s, 0, s], z[s, 1, s] = -p[s], 1 - p[s]
    by_theorem = room.part("policy_gradient")(x_det, pi, z, q_det)  # times det^2
    J_det = start @ v_det
    differences = [
        (J_det.diff(p[s]) * det - J_det * det.diff(p[s])) * p[s] * (1 - p[s]) - by_theorem[s] for s in range(2)
    ]
    return Margin.proved(all(x == 0 for x in differences))


@claim(
    method="n-pg-igt", source=f"{PAPER}, normalised ascent lemma (here with sharper constants)", level=Level.SYMBOLIC,
    statement="<a, d / |d|> >= |a| - 2 |d - a| for all vectors a and d != 0", rooms=("reference",),
    breaks=[
        Line("constant_1", module="theory", old="gradient - 2 * error", new="gradient - error"),
        Line("constant_1_9", module="theory", old="gradient - 2 * error", new="gradient - 1.9 * error"),
    ],
)  # fmt: skip
def normalised_ascent_inequality(_: None, room: Room) -> Margin:
    z3 = require("z3", "certify")
    # a and d span a plane; in its coordinates d = (n_d, 0) and <a, d / |d|> = a_1
    a_1, a_2, n_a, n_d, n_e = z3.Reals("a_1 a_2 n_a n_d n_e")
    solver = z3.Solver()
    solver.set("timeout", 20_000)
    solver.add(n_a >= 0, n_e >= 0, n_d > 0)
    solver.add(n_a * n_a == a_1 * a_1 + a_2 * a_2, n_e * n_e == (n_d - a_1) * (n_d - a_1) + a_2 * a_2)
    solver.add(a_1 < room.part("ascent_bound")(n_a, n_e))
    return Margin.proved(solver.check() == z3.unsat)


@claim(
    method="n-pg-igt", source=f"{PAPER}, step size of Thms. on N-PG-IGT and N-HARPG", level=Level.SYMBOLIC,
    statement="gamma_t = 6 M_g / (mu_F (t + 2)) contracts the gap by t / (t + 2), and these factors telescope",
    rooms=("reference",),
    breaks=[
        Line("shorter_steps", module="theory", old="return 3 * M_g / mu_F", new="return 2 * M_g / mu_F"),
        Line("decay_of_1_over_t", module="schedules", old="return 2 / (t + 2)", new="return 1 / (t + 1)"),
        Line("telescope", module="theory", old="start * (start + 1) / (steps", new="start * start / (steps"),
    ],
)  # fmt: skip
def steps_contract_the_gap(_: None, room: Room) -> Margin:
    t, t0, T, M_g, mu_F = symbols("field", "t t0 T M_g mu_F")
    gamma_t = room.part("contraction_gamma0")(M_g, mu_F) * room.part("decay")(t)
    product = room.part("telescoped")
    zeros = [
        1 - gamma_t * mu_F / (3 * M_g) - t / (t + 2),
        product(t0, t0) - 1,
        product(t0, T + 1) - product(t0, T) * T / (T + 2),
    ]
    return Margin.proved(all(x == 0 for x in zeros))


@claim(
    method="n-pg-igt", source=f"{PAPER}, Thms. on N-PG-IGT and N-HARPG", level=Level.PROPERTY,
    statement="directions that track with error t^(-p) give a gap of O(T^(-p)): p = 2/5 for N-PG-IGT, 1/2 for N-HARPG",
    worked=lambda: [2 / 5, 1 / 2, 1 / 3], rooms=("reference",),
    breaks=[
        Line("no_contraction", module="theory", old="return (1 - step * mu_F / (3 * M_g)) * gap", new="return gap"),
        Line("smoothness_dropped", module="theory", old="* 8 / 3 + L * step**2 / 2", new="* 8 / 3"),
        Line("error_not_scaled", module="theory", old="step * error * 8 / 3", new="error * 8 / 3"),
    ],
)  # fmt: skip
def tracking_gives_the_rate(p: float, room: Room) -> Margin:
    M_g, mu_F, L, start, steps = 1.0, 0.5, 2.0, 10, 3000
    gap, decay, gamma0 = 4.0, room.part("decay"), room.part("contraction_gamma0")(M_g, mu_F)
    t = np.arange(start, steps)
    after_step = room.part("gap_after_step")
    for k in t.tolist():
        gap = after_step(gap, k**-p, gamma0 * decay(k), M_g, mu_F, L)
    tail, kept = steps * (steps + 1), 4.0 * start * (start + 1)
    terms = 16 * M_g / mu_F * t**-p / (t + 2) + 18 * L * M_g**2 / (mu_F * (t + 2)) ** 2
    unrolled = (kept + np.sum((t + 1) * (t + 2) * terms)) / tail
    # sum (t + 1) t^(-p) <= T^(2-p) / (2-p) + T^(1-p) / (1-p), sums of increasing and decreasing powers by integrals
    sums = steps ** (2 - p) / (2 - p) + steps ** (1 - p) / (1 - p)
    rate = (kept + 16 * M_g / mu_F * sums + 18 * L * M_g**2 / mu_F**2 * steps) / tail
    rounding = 4 * steps * 2.0**-53 * (1 + unrolled)
    return Margin.worst([Margin.equal(gap, unrolled, rounding), Margin.at_most(gap, rate, rounding)])


def logit_cases() -> Any:
    """Hypothesis strategy: two actions and one logit per state, every state possible at the start."""
    st = require("hypothesis.strategies", "conform")
    weight = st.integers(1, 4)

    @st.composite
    def make(draw: Any) -> Case:
        S = draw(st.integers(1, 3))
        P = np.array([[[draw(st.integers(0, 4)) + (s == 0) for s in range(S)] for _ in range(2)] for _ in range(S)])
        r = np.array([[draw(st.integers(-4, 4)) / 4 for _ in range(2)] for _ in range(S)])
        mu = np.array([draw(weight) for _ in range(S)])
        gamma = draw(st.sampled_from([0.0, 0.5, 0.9]))
        model = TabularMDP(P / P.sum(axis=2, keepdims=True), r, mu / mu.sum(), gamma=gamma, name="generated")
        theta = np.array([draw(st.integers(-12, 12)) / 4 for _ in range(S)])
        return Case(model, one_logit(S), theta, theta + 1, 2)

    return make()


def _domination_cases() -> list[Case]:
    corners = [case_a((x, y)) for x in (-6.0, -1.0, 0.0, 3.0) for y in (-6.0, -1.0, 0.0, 3.0)]
    return [case_a(), case_shared(0.0), case_shared(0.7), *corners]


@claim(
    method="n-pg-igt", source=f"{PAPER}, relaxed weak gradient domination; ding2022", level=Level.PROPERTY,
    statement="J* - J <= (M_g / mu_F) |grad J| + sqrt(eps_bias) / (1 - gamma) at every theta, with local mu_F and eps_bias",
    worked=_domination_cases, generated=logit_cases, rooms=("reference",),
    breaks=[
        Line("bias_dropped", module="exact", old="mu_F, eps_bias, model.gamma)", new="mu_F, 0.0, model.gamma)"),
        Line("largest_eigenvalue", module="exact", old="eigvalsh(F)[0]", new="eigvalsh(F)[-1]"),
        Line("weights_not_normalised", module="exact", old="(1 - model.gamma) * policy.scores()", new="policy.scores()"),
        Line("visits_not_normalised", module="exact", old="return (1 - gamma) * np.linalg", new="return np.linalg"),
    ],
)  # fmt: skip
def gradient_domination(case: Case, room: Room) -> Margin:
    model, theta = case.model, case.theta
    found = room.part("domination")(model, case.reference(), softmax_constants(case.features, 1.0, model.gamma).M_g)
    # both solves, with F and I - gamma P, lose their condition number
    tolerance = oracles.ROUNDING * oracles.size_of(case) / (found.mu_F * (1 - model.gamma)) ** 2
    gap = _best_return(model) - oracles.infinite_return(case)(theta).real
    margins = [Margin.at_most(gap, found.bound, tolerance), Margin.equal(found.gap, gap, tolerance)]
    # one logit per state and two actions can represent every advantage: no bias
    if case.features.shape == (model.S, 2, model.S) and np.array_equal(case.features, one_logit(model.S)):
        margins.append(Margin.equal(found.eps_bias, 0.0, tolerance))
    margins.append(Margin.equal(found.mu_F, _fisher_by_hand(case), tolerance))
    return Margin.worst(margins)


def _best_return(model: TabularMDP) -> float:
    """The best deterministic policy, by trying all."""
    P, r, states = np.asarray(model.P), model.r_at(), np.arange(model.S)
    values = []
    for actions in itertools.product(range(model.A), repeat=model.S):
        chosen = np.array(actions)
        v = np.linalg.solve(np.eye(model.S) - model.gamma * P[states, chosen], r[states, chosen])
        values.append(model.mu @ v)
    return float(max(values))


def _fisher_by_hand(case: Case) -> float:
    """Smallest eigenvalue of minus the mean Hessian of log pi: the Fisher matrix by Bartlett's second identity."""
    model = case.model
    pi = np.exp(oracles.log_pi(case.features, case.theta))
    P_pi, x, visits = np.einsum("sa,sat->st", pi, np.asarray(model.P)), model.mu, np.zeros(model.S)
    for _ in range(1 + int(40 / (1 - model.gamma))):  # gamma^k < 1e-17
        visits, x = visits + (1 - model.gamma) * x, model.gamma * P_pi.T @ x
    mean = np.einsum("sa,sad->sd", pi, case.features)
    second = np.einsum("sa,sad,sae->sde", pi, case.features, case.features)
    covariance = second - mean[:, :, None] * mean[:, None, :]
    return float(np.linalg.eigvalsh(np.einsum("s,sde->de", visits, covariance))[0])


@claim(
    method="n-pg-igt", source=f"{PAPER}, assumption of Fisher-non-degeneracy", level=Level.PROPERTY,
    statement="the bound is refused for a full tabular softmax, whose Fisher matrix has a null direction per state",
    rooms=("reference",),
    breaks=[Line("assumption_unchecked", module="exact", old="if mu_F <= tol:", new="if mu_F < -tol:")],
)  # fmt: skip
def degenerate_policies_are_refused(_: None, room: Room) -> Margin:
    case = case_a()
    try:
        room.part("domination")(case.model, TabularSoftmax.zeros(2, 2), 2**0.5)
    except NotSolvedError:
        return Margin.proved(True)
    except np.linalg.LinAlgError:
        return Margin.proved(False)
    return Margin.proved(False)


def _always_paid() -> list[Case]:
    """Reward 1 at every step: rewards to go are as large as they can be; a rare action makes scores large."""
    model = TabularMDP(np.ones((1, 2, 1)), np.ones((1, 2)), np.ones(1), gamma=0.5, name="always paid")
    return [Case(model, one_logit(1), np.array([x]), np.array([x]), 10) for x in (0.0, -6.0)]


@claim(
    method="n-pg-igt", source="shen2019, Lemma 3; derived constants", level=Level.PROPERTY,
    statement="E |g|^2 <= r_max^2 M_g^2 / (1 - gamma)^3, and |g| <= r_max M_g / (1 - gamma)^2 for every trajectory",
    worked=lambda: [*_always_paid(), case_a()], breaks=[DROPPED_DISCOUNT],
)  # fmt: skip
def gradient_estimates_are_bounded(case: Case, room: Room) -> Margin:
    p, traj = case.trajectories()
    g = room.parts.pg_estimate(case.policy(room), traj, gamma=case.model.gamma)
    squares = (g**2).sum(axis=1)
    c = softmax_constants(case.features, float(np.abs(case.model.r_at()).max()), case.model.gamma)
    return Margin.worst([
        Margin.at_most(p @ squares, c.sigma_g2, oracles.ROUNDING * c.sigma_g2),
        Margin.at_most(np.sqrt(squares.max()), c.g_max, oracles.ROUNDING * c.g_max),
    ])  # fmt: skip


@claim(
    method="n-pg-igt", source=f"{PAPER}, truncation lemma; yuan2022", level=Level.PROPERTY,
    statement="cutting episodes after H steps loses the gradient of the tail gamma^H E V(s_H), which is O(gamma^H sqrt(H))",
    worked=lambda: [case_a(truncation=H) for H in (1, 2, 4, 5)], breaks=[DROPPED_DISCOUNT, MISSED_REWARD],
)  # fmt: skip
def truncation_bias(case: Case, room: Room) -> Margin:
    p, traj = case.trajectories()
    model, H = case.model, case.truncation
    mean = p @ room.parts.pg_estimate(case.policy(room), traj, gamma=model.gamma)
    lost = oracles.gradient(oracles.infinite_return(case), case.theta) - mean

    def tail(theta: Any) -> Any:
        pi = np.exp(oracles.log_pi(case.features, theta))
        P_pi, r_pi = np.einsum("sa,sat->st", pi, np.asarray(model.P)), (pi * model.r_at()).sum(axis=1)
        v = np.linalg.solve(np.eye(model.S) - model.gamma * P_pi, r_pi)
        return model.gamma**H * model.mu @ np.linalg.matrix_power(P_pi, H) @ v

    bound = softmax_constants(case.features, 1.0, model.gamma).truncation_bias(H)
    tolerance = oracles.ROUNDING * oracles.size_of(case) / (1 - model.gamma) ** 2
    return Margin.worst([
        Margin.equal(lost, oracles.gradient(tail, case.theta), tolerance),
        Margin.at_most(np.linalg.norm(lost), bound, tolerance),
    ])  # fmt: skip
