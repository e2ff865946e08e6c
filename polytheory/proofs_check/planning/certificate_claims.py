"""Claims about duality, evaluation and sampling: routes to the same numbers that share no step with the solvers."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from polytheory.access import Key, KnownModel, Requests
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.planning.instances import Case, cases, two_state, worked
from polytheory.proofs_check.planning.operator_claims import NEGATED, UNDISCOUNTED
from polytheory.proofs_check.planning.oracles import UNIT, exact_q, optimal_value, sweep_tolerance
from polytheory.streams import row_ids
from polytheory.trajectories import discounts

if TYPE_CHECKING:
    from polytheory.models.tabular import TabularMDP
    from polytheory.proofs_check.claims import Room


@claim(
    method="planning", source="puterman2005, Thm. 6.9.1-6.9.4", level=Level.CERTIFICATE, rooms=("reference",),
    statement="the rational linear program is strongly dual: feasible pair, no gap, complementary slackness, "
    "occupancies sum to 1 / (1 - gamma)",
    worked=worked, generated=cases,
    breaks=[
        Line("basis_not_repaired", module="rational",
             old="better = [s for s in range(S) if max(q[s]) > v[s]]", new="better = []"),
        Line("flow_not_transposed", module="rational",
             old="[M[t][s] for t in range(S)]", new="[M[s][t] for t in range(S)]"),
        Line("slack_of_twice_q", module="rational",
             old="slack = [[v[s] - q[s][a]", new="slack = [[v[s] - 2 * q[s][a]"),
        Line("weights_twice", module="rational", old="Fraction(float(w)) for w", new="2 * Fraction(float(w)) for w"),
    ],
)  # fmt: skip
def linear_program_is_strongly_dual(case: Case, room: Room) -> Margin:
    m = case.model
    gamma, weights = Fraction(m.gamma), [Fraction(1 / m.S)] * m.S
    # started from the worst basis, so that pivots have something to do
    found = room.part("exact_optimum")(m, np.full(m.S, 1 / m.S), np.argmin(m.r_at(), axis=1))
    q, x, a = exact_q(m, found.v), found.occupancy, found.actions
    P = np.asarray(m.P_at())
    flow = [
        x[y] - gamma * sum((Fraction(float(P[s, a[s], y])) * x[s] for s in range(m.S)), Fraction(0)) - weights[y]
        for y in range(m.S)
    ]
    primal = sum((w * v for w, v in zip(weights, found.v, strict=True)), Fraction(0))
    dual = sum((x[s] * Fraction(float(m.r_at()[s, a[s]])) for s in range(m.S)), Fraction(0))
    violations = [
        max(max(row) - v for row, v in zip(q, found.v, strict=True)),  # primal feasible: v >= q
        -min(x),  # dual feasible: x >= 0
        max(map(abs, flow)),  # dual feasible: flow balance
        abs(primal - dual),  # strong duality
        max(abs(x[s] * (found.v[s] - q[s][a[s]])) for s in range(m.S)),  # complementary slackness
        max(abs(found.v[s] - q[s][b] - found.slack[s][b]) for s in range(m.S) for b in range(m.A)),
    ]
    rows = Fraction(0) if _sums_to_one(P) else Fraction(1, 10**12)  # rows that are doubles may sum to 1 + 1e-16
    total = abs(sum(x, Fraction(0)) * (1 - gamma) - sum(weights, Fraction(0)))
    violations.append(max(Fraction(0), total - rows))
    return Margin(-float(max(violations)), 0.0)


def _sums_to_one(P: np.ndarray) -> bool:
    return all(sum(map(Fraction, map(float, row)), Fraction(0)) == 1 for row in P.reshape(-1, P.shape[-1]))


@claim(
    method="planning", source="puterman2005, Thm. 6.9.1-6.9.4", level=Level.CERTIFICATE, rooms=("reference",),
    statement="the linear program from HiGHS' basis gives V*, an occupancy that sums to 1 / (1 - gamma) and no gap",
    worked=worked, generated=cases,
    breaks=[UNDISCOUNTED,
            Line("gap_without_primal", module="linear_program",
                 old="np.mean(v) + lift - np.sum(x * r)", new="lift - np.sum(x * r)"),
            Line("flow_not_transposed", module="linear_program", old="gamma=gamma, transpose=True", new="gamma=gamma"),
            Line("occupancy_of_all_actions", module="linear_program",
                 old="visits[:, None], 0.0)\n    gap", new="visits[:, None], visits[:, None])\n    gap")],
)  # fmt: skip
def linear_program_matches_the_rational_optimum(case: Case, room: Room) -> Margin:
    m = case.model
    state = room.run("LinearProgram", case.access, steps=1).state
    size = float(max(map(abs, optimal_value(m)))) + float(np.max(np.abs(m.r_at())))
    tolerance = 4 * sweep_tolerance(m, np.array([size])) / (1 - m.gamma) + 64 * UNIT / (1 - m.gamma) ** 2
    exact = np.array([float(x) for x in optimal_value(m)])
    x = state["occupancy"][0]
    inflow = x.sum(axis=1) - m.gamma * np.einsum("sa,sat->t", x, np.asarray(m.P_at()))
    return Margin.worst([
        Margin.equal(state["v"][0], exact, tolerance),
        Margin.equal(state["gap"], [0.0], tolerance),
        Margin.equal(inflow, np.full(m.S, 1 / m.S), tolerance),
        Margin.equal(np.sum(x), 1 / (1 - m.gamma), tolerance),
    ])  # fmt: skip


def mixed_policy(m: TabularMDP, v: np.ndarray) -> np.ndarray:
    """A policy that takes every action, weighted by the digits of v."""
    weights = 1 + np.abs(v)[:, None] * np.arange(m.A) + np.arange(m.S)[:, None]
    return weights / weights.sum(axis=1, keepdims=True)


@claim(
    method="planning", source="puterman2005, Thm. 6.1.1", level=Level.PROPERTY, rooms=("reference",),
    statement="the value of a policy is the Neumann sum of discounted rewards, its occupancy the sum of discounted "
    "laws, and both give one return",
    worked=worked, generated=cases,
    breaks=[UNDISCOUNTED,
            Line("other_policy", module="evaluation", old="sat->st\", pi, P)", new="sat->st\", pi[:, ::-1], P)"),
            Line("flow_not_transposed", module="evaluation", old="P_pi.T if transpose else P_pi", new="P_pi"),
            Line("discounted_twice", module="evaluation",
                 old="np.eye(b.size) - gamma * M", new="np.eye(b.size) - gamma**2 * M")],
)  # fmt: skip
def evaluation_is_the_neumann_sum(case: Case, room: Room) -> Margin:
    m, pi = case.model, mixed_policy(case.model, case.v)
    policy = TabularPolicy(pi)
    chain = np.array([[sum(pi[s, a] * m.P_at()[s, a, y] for a in range(m.A)) for y in range(m.S)] for s in range(m.S)])
    # 2^16 terms by doubling, sum_{t < 2n} M^t = (I + M^n) sum_{t < n} M^t: no linear solve, gamma^65536 < 1e-28
    power, total = m.gamma * chain, np.eye(m.S)
    for _ in range(16):
        total, power = total + power @ total, power @ power
    v, x = total @ (pi * m.r_at()).sum(axis=1), m.mu @ total
    reward = float(np.max(np.abs(m.r_at())))
    # a squared power errs by S roundings per factor: sum_t t gamma^t of them in all
    rounding = 8 * (m.S + m.A + 4) * UNIT / (1 - m.gamma) ** 2
    found = room.part("evaluate")(m, policy).v
    occupancy = room.part("discounted_occupancy")(m, policy)
    returns = room.part("return_of")(m, policy)
    return Margin.worst([
        Margin.equal(found, v, rounding * reward),
        Margin.equal(occupancy, x[:, None] * pi, rounding),
        Margin.equal(returns, np.sum(occupancy * m.r_at()), (m.S + 1) * rounding * reward),
    ])  # fmt: skip


@claim(
    method="planning", source="hoeffding1963, Thm. 2", level=Level.STATISTICAL,
    statement="4000 sampled returns of the optimal policy average to mu . V* within Hoeffding's interval "
    "(error level 1e-9 for each fixed seed)",
    worked=lambda: [(two_state(), 1), (two_state(), 2)],
    breaks=[UNDISCOUNTED, NEGATED, Wrap("worst_action", part="greedy_actions", by=lambda f: lambda q: f(-q))],
)  # fmt: skip
def sampled_returns_agree(instance: tuple[TabularMDP, int], room: Room) -> Margin:
    model, seed = instance
    n, truncation, delta = 4000, 60, 1e-9
    access = KnownModel(model)
    state = room.run("ValueIteration", access, steps=60).state
    policy = TabularPolicy.deterministic(room.parts.greedy_actions(state["q"][0]), model.A)
    sampled = access.rollouts(
        policy, Requests(row_ids(0, 0, np.arange(n)), truncation), Key(seed, "planning/returns", 0)
    )
    weights = discounts(model.gamma, truncation)
    mean = float(np.mean((sampled.rewards * sampled.mask) @ weights))
    low, high = model.reward_range
    spread = (high - low) * float(weights.sum())
    tail = max(abs(low), abs(high)) * model.gamma**truncation / (1 - model.gamma)
    allowed = spread * np.sqrt(np.log(2 / delta) / (2 * n)) + tail + float(state["bound"][0])
    return Margin(allowed - abs(mean - float(model.mu @ state["v"][0])), 0.0)
