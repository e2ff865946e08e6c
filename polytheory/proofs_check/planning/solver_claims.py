"""Claims about the solvers: what their iterations do, and where they end."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.access import KnownModel
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Level, Line, Margin, Setting, Wrap, claim
from polytheory.proofs_check.planning.bound_claims import (
    NO_ROUNDING,
    NOT_AMPLIFIED,
    RESIDUAL_NOT_AMPLIFIED,
    as_fraction,
)
from polytheory.proofs_check.planning.instances import Case, cases, staged_cases, staged_worked, worked
from polytheory.proofs_check.planning.operator_claims import NEGATED, UNDISCOUNTED
from polytheory.proofs_check.planning.oracles import (
    UNIT,
    best_staged_return,
    distance,
    exact_q,
    optimal_value,
    policies,
    sweep_tolerance,
)

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room


@claim(
    method="planning", source="puterman2005, Thm. 6.3.1, 6.6.3", level=Level.CERTIFICATE, rooms=("reference",),
    statement="the bounds of policy iteration, modified and inexact policy iteration and the linear program hold",
    worked=worked, generated=cases,
    breaks=[NOT_AMPLIFIED, NO_ROUNDING, UNDISCOUNTED,
            RESIDUAL_NOT_AMPLIFIED],
)  # fmt: skip
def every_solver_bounds_its_error(case: Case, room: Room) -> Margin:
    exact, slacks = optimal_value(case.model), []
    solvers = ("PolicyIteration", "ModifiedPolicyIteration", "InexactPolicyIteration", "LinearProgram")
    for name, steps in [(name, steps) for name in solvers for steps in (1, 3)]:
        state = room.run(name, case.access, steps=steps).state
        slacks.append(as_fraction(state["bound"][0]) - distance(state["v"][0], exact))
    return Margin(float(min(slacks)), 0.0)


@claim(
    method="planning", source="puterman2005, sec. 6.5.1", level=Level.CERTIFICATE,
    statement="a step of modified policy iteration of order m is T after m - 1 times T_pi of the last greedy policy "
    "(order 1: value iteration)",
    worked=worked, generated=cases,
    breaks=[Setting("another_order", order=2), UNDISCOUNTED,
            Line("one_sweep_too_many", room="reference", module="modified_policy_iteration",
                 old="sweeps=self.order - 1", new="sweeps=self.order"),
            Line("worst_policy", room="reference", module="modified_policy_iteration",
                 old="greedy_actions(state.q)", new="greedy_actions(-state.q)")],
)  # fmt: skip
def modified_policy_iteration_is_its_definition(case: Case, room: Room) -> Margin:
    m, margins = case.model, [Margin(0.0, 0.0)]
    for order, steps in ((1, 3), (4, 2)):
        expected = by_hand(m, order, steps)
        if expected is not None:
            v = room.run("ModifiedPolicyIteration", case.access, steps=steps, order=order, stop="sup").state["v"][0]
            margins.append(Margin(-float(distance(v, expected)), sweep_tolerance(m, v) * steps * order))
    return Margin.worst(margins)


def by_hand(m: TabularMDP, order: int, steps: int) -> list[Fraction] | None:
    """Modified policy iteration from zero in rational arithmetic; None where a tie decides which policy is swept."""
    v: list[Fraction] = [Fraction(0)] * m.S
    q = exact_q(m, v)
    for step in range(steps):
        if step and order > 1:
            if tied(m, q):
                return None
            actions = [row.index(max(row)) for row in q]
            for _ in range(order - 1):
                v = [row[a] for row, a in zip(exact_q(m, v), actions, strict=True)]
        q = exact_q(m, v)
        v = [max(row) for row in q]
    return v


def tied(m: TabularMDP, q: Any) -> bool:
    """Whether two actions that do different things are so close that rounding may choose between them."""
    P, r = np.asarray(m.P_at()), m.r_at()
    for s in range(m.S):
        best = max(range(m.A), key=lambda a, s=s: q[s][a])
        for a in range(m.A):
            same = r[s, a] == r[s, best] and np.array_equal(P[s, a], P[s, best])
            if not same and float(q[s][best] - q[s][a]) < 1e-9:
                return True
    return False


@claim(
    method="planning", source="puterman2005, sec. 6.5", level=Level.PROPERTY,
    statement="modified policy iteration of a very high order makes the same steps as policy iteration",
    worked=worked, generated=cases,
    breaks=[
        Wrap("one_sweep", part="partial_evaluation",
             by=lambda f: lambda P, r, v, *, gamma, sweeps: f(P, r, v, gamma=gamma, sweeps=1)),
        Line("old_value", room="reference", module="policy_iteration",
             old="model.r_at(), v, gamma", new="model.r_at(), state.v, gamma"),
    ],
)  # fmt: skip
def high_order_is_policy_iteration(case: Case, room: Room) -> Margin:
    m, order, steps = case.model, 60, 3
    if m.gamma > 0.5:  # gamma^60 must be below rounding
        m = TabularMDP(m.P, m.r, m.mu, gamma=0.5, terminal=m.terminal)
    access, margins = KnownModel(m), []
    size = np.array([float(max(map(abs, optimal_value(m)))) + float(np.max(np.abs(m.r_at()))) / (1 - m.gamma)])
    tolerance = 8 * sweep_tolerance(m, size) / (1 - m.gamma)  # order sweeps and a linear solve, each amplified
    for k in range(1, steps + 1):
        left = room.run("ModifiedPolicyIteration", access, steps=k + 1, order=order).state["q"][0]
        right = room.run("PolicyIteration", access, steps=k).state["q"][0]
        margins.append(Margin.equal(left, right, tolerance))
        if tied(m, right):  # the two may go on with different policies
            break
    return Margin.worst(margins)


@claim(
    method="planning", source="howard1960; puterman2005, Thm. 6.4.2", level=Level.CERTIFICATE,
    statement="policy iteration never lowers a value and ends at V* within as many steps as there are policies",
    worked=worked, generated=cases,
    breaks=[Wrap("worst_action", part="greedy_actions", by=lambda f: lambda q: f(-q)), NEGATED,
            Line("never_improves", room="reference", module="policy_iteration",
                 old="> kept + gain", new="> kept + gain + 1e9"),
            Line("undiscounted_evaluation", room="reference", module="policy_iteration",
                 old="v = solve_linear(P_pi, r_pi, gamma=model.gamma)", new="v = solve_linear(P_pi, r_pi, gamma=0.0)")],
)  # fmt: skip
def policy_iteration_improves_and_ends(case: Case, room: Room) -> Margin:
    m, exact = case.model, optimal_value(case.model)
    most = min(len(policies(m)), 8)  # policies of these sizes are found long before
    values = [room.run("PolicyIteration", case.access, steps=k).state["v"][0] for k in range(1, most + 1)]
    size = np.array([float(max(map(abs, exact))) + float(np.max(np.abs(m.r_at()))) / (1 - m.gamma)])
    tolerance = 4 * sweep_tolerance(m, size) / (1 - m.gamma)
    rises = [Margin.at_most(a, b, tolerance) for a, b in pairwise(values)]
    return Margin.worst([*rises, Margin(-float(distance(values[-1], exact)), tolerance)])


@claim(
    method="planning", source="gargiani2024", level=Level.PROPERTY, rooms=("reference",),
    statement="inexact policy iteration shrinks its certified interval by gamma or more, even with one inner iteration",
    worked=worked, generated=cases,
    breaks=[Line("no_fallback", module="inexact_policy_iteration",
                 old="after = None\n", new="pass\n"),
            Wrap("span_grows", part="half_width", by=lambda f: lambda lo, hi, gamma: (hi - lo) ** 0)],
)  # fmt: skip
def inexact_policy_iteration_never_stalls(case: Case, room: Room) -> Margin:
    slacks = []
    m = case.model
    for solver in ("gmres", "bicgstab"):
        widths = []
        for steps in (1, 2, 3):
            run = room.run("InexactPolicyIteration", case.access, steps=steps, solver=solver, inner=1, forcing=0.9)
            widths.append(float(run.state["bound"][0] - run.state["rounding"][0]))
        slacks += [m.gamma * a - b for a, b in pairwise(widths)]
    size = np.array([float(max(map(abs, optimal_value(m)))) + float(np.max(np.abs(m.r_at())))])
    return Margin(min(slacks), 4 * sweep_tolerance(m, size) / (1 - m.gamma))


@claim(
    method="planning", source="puterman2005, Thm. 4.5.1", level=Level.CERTIFICATE,
    statement="backward induction finds the best return of all deterministic Markov policies, each followed forward",
    worked=staged_worked, generated=staged_cases,
    breaks=[UNDISCOUNTED, NEGATED,
            Line("same_stage", room="reference", module="backward_induction", old="v[h + 1], gamma", new="v[h], gamma"),
            Line("wrong_stage_reward", room="reference", module="backward_induction",
                 old="model.r_at(h)", new="model.r_at(0)"),
            Line("wrong_stage_transition", room="reference", module="backward_induction",
                 old="model.P_at(h)", new="model.P_at(len(v) - 2)"),
            Line("worst_action", room="reference", module="backward_induction", old="np.max(q[h]", new="np.min(q[h]")],
)  # fmt: skip
def backward_induction_beats_every_policy(model: TabularMDP, room: Room) -> Margin:
    H = int(model.horizon or 0)
    state = room.run("BackwardInduction", KnownModel(model), steps=H).state
    best = [best_staged_return(model, s) for s in range(model.S)]
    reward = max(float(np.max(np.abs(model.r_at(h)))) for h in range(H))
    # two routes through H stages of S products each
    tolerance = 4 * H * (model.S + 4) * UNIT * (H + 1) * reward
    return Margin.worst([
        Margin.equal(state["v"][0][0], best, tolerance),
        Margin.equal(state["v"][0][H], np.zeros(model.S), 0.0),
        Margin.equal(np.max(state["q"][0], axis=-1), state["v"][0][:H], 0.0),
    ])  # fmt: skip
