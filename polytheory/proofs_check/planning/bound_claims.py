"""Claims about what a sweep certifies."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from polytheory.errors import require
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.planning.instances import Case, cases, worked
from polytheory.proofs_check.planning.operator_claims import FIRST_ACTION, UNDISCOUNTED, proved
from polytheory.proofs_check.planning.oracles import UNIT, distance, optimal_value, policy_value, sweep_tolerance

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

SWEEPS = (1, 3, 40)
NOT_AMPLIFIED = Wrap(
    "span_not_amplified", part="half_width", by=lambda f: lambda lo, hi, gamma: (1 - gamma) * f(lo, hi, gamma)
)
QUARTER = Wrap("quarter_of_the_span", part="half_width", by=lambda f: lambda lo, hi, gamma: f(lo, hi, gamma) / 2)
WHOLE_SPAN = Wrap("span_not_halved", part="half_width", by=lambda f: lambda lo, hi, gamma: 2 * f(lo, hi, gamma))
SHIFT_SIGN = Wrap("shift_sign", part="midpoint_shift", by=lambda f: lambda lo, hi, gamma: -f(lo, hi, gamma))
SUP_NOT_AMPLIFIED = Wrap(
    "sup_not_amplified", part="sup_norm_bound", by=lambda f: lambda a, b, gamma: (1 - gamma) * f(a, b, gamma)
)
NO_ROUNDING = Wrap("rounding_forgotten", part="rounding_bound", by=lambda f: lambda *a, **k: 0 * f(*a, **k))


RESIDUAL_NOT_AMPLIFIED = Wrap(
    "residual_not_amplified", part="residual_bound", by=lambda f: lambda d, gamma: (1 - gamma) * f(d, gamma)
)


def as_fraction(bound: float) -> Fraction:
    """A certified bound exactly; one that is no finite number certifies nothing and counts as hugely negative."""
    return Fraction(float(bound)) if np.isfinite(bound) else -(Fraction(10) ** 300)


def states(room: Room, case: Case, stop: str) -> Iterator[tuple[int, np.ndarray, np.ndarray, float]]:
    """The room's value iteration after some sweeps: (v, q, bound)."""
    for steps in SWEEPS:
        state = room.run("ValueIteration", case.access, steps=steps, stop=stop).state
        yield steps, state["v"][0], state["q"][0], float(state["bound"][0])


@claim(
    method="planning", source="puterman2005, Thm. 6.3.1 and 6.6.3; macqueen1966", level=Level.CERTIFICATE,
    statement="the bound of every sweep really bounds |v - V*|, rounding included (V* in exact rational arithmetic)",
    worked=worked, generated=cases,
    breaks=[NOT_AMPLIFIED, QUARTER, SHIFT_SIGN, SUP_NOT_AMPLIFIED, NO_ROUNDING, UNDISCOUNTED],
)  # fmt: skip
def bound_holds_at_every_sweep(case: Case, room: Room) -> Margin:
    exact = optimal_value(case.model)
    slacks = [
        as_fraction(bound) - distance(v, exact)
        for stop in ("span", "sup")
        for _, v, _, bound in states(room, case, stop)
    ]
    return Margin(float(min(slacks)), 0.0)


def absorbing_pair(low: float, high: float, gamma: float) -> TabularMDP:
    """Two absorbing states that pay ``low`` and ``high`` for ever."""
    return TabularMDP(np.eye(2)[:, None, :], [[low], [high]], [0.5, 0.5], gamma=gamma)


@claim(
    method="planning", source="puterman2005, sec. 6.6.2", level=Level.PROPERTY,
    statement="neither bound can be improved: on two absorbing states both are attained",
    worked=lambda: [absorbing_pair(-1.0, 3.0, 0.9), absorbing_pair(0.0, 1.0, 0.5), absorbing_pair(2.0, 2.5, 0.99)],
    breaks=[WHOLE_SPAN, QUARTER, NOT_AMPLIFIED, SHIFT_SIGN, SUP_NOT_AMPLIFIED,
            Wrap("one_sweep_late", part="sup_norm_bound", by=lambda f: lambda a, b, gamma: f(a, b, gamma) / gamma)],
)  # fmt: skip
def bounds_are_attained(model: TabularMDP, room: Room) -> Margin:
    start, g = np.zeros(2), model.gamma
    truth = model.r_at()[:, 0] / (1 - g)  # geometric series of a constant reward
    raw = room.parts.greedy_backup(model.P_at(), model.r_at(), start, gamma=g)
    moved = room.parts.midpoint_correction(start, raw, g)
    tolerance = 16 * UNIT * float(np.max(np.abs(truth)))
    return Margin.worst([
        Margin.equal(np.max(np.abs(truth - raw)), room.parts.sup_norm_bound(start, raw, g), tolerance),
        Margin.equal(np.abs(truth - moved), np.full(2, room.parts.span_bound(start, raw, g)), tolerance),
    ])  # fmt: skip


@claim(
    method="planning", source="puterman2005, sec. 6.6.2", level=Level.PROPERTY,
    statement="the corrected value and its bound do not change when a constant is added to v, and the span bound never "
    "exceeds the sup bound",
    worked=worked, generated=cases,
    breaks=[SHIFT_SIGN, UNDISCOUNTED,
            Wrap("shift_not_amplified", part="midpoint_shift",
                 by=lambda f: lambda lo, hi, gamma: (1 - gamma) * f(lo, hi, gamma)),
            Wrap("stale_value", part="midpoint_correction",
                 by=lambda f: lambda old, new, gamma: f(old, new, gamma) - new + old),
            Wrap("largest_for_span", part="half_width", by=lambda f: lambda lo, hi, gamma: f(0 * lo, 2 * hi, gamma))],
)  # fmt: skip
def correction_ignores_constants(case: Case, room: Room) -> Margin:
    m, found, bounds = case.model, [], []
    for v in (case.v, case.v + case.shift):
        raw = room.parts.greedy_backup(m.P_at(), m.r_at(), v, gamma=m.gamma)
        found.append(room.parts.midpoint_correction(v, raw, m.gamma))
        bounds.append(float(room.parts.span_bound(v, raw, m.gamma)))
        sup = float(room.parts.sup_norm_bound(v, raw, m.gamma))
    # the shift c returns as gamma c + gamma / (1 - gamma) (gamma - 1) c: rounding of the sweep, amplified
    tolerance = 2 * sweep_tolerance(m, case.v, case.v + case.shift) / (1 - m.gamma)
    return Margin.worst([
        Margin.equal(found[0], found[1], tolerance),
        Margin.equal(bounds[0], bounds[1], tolerance),
        Margin.at_most(bounds[1], sup, tolerance),
    ])  # fmt: skip


@claim(
    method="planning", source="puterman2005, Thm. 6.3.1 (proof)", level=Level.CERTIFICATE,
    statement="any v is within |T v - v| / (1 - gamma) of V*",
    worked=worked, generated=cases,
    breaks=[RESIDUAL_NOT_AMPLIFIED,
            Wrap("of_the_iterate", part="residual_bound", by=lambda f: lambda d, gamma: gamma * f(d, gamma)),
            FIRST_ACTION],
)  # fmt: skip
def residual_bounds_any_value(case: Case, room: Room) -> Margin:
    m, exact = case.model, optimal_value(case.model)
    slacks = []
    # the last two are where the bound is attained or a wrong operator looks solved
    first = np.array([float(x) for x in policy_value(m, np.zeros(m.S, dtype=np.int64))])
    for v in (case.v, case.w, np.array([float(x) for x in exact]) + case.shift, first):
        d = room.parts.bellman_residual(m.P_at(), m.r_at(), v, gamma=m.gamma)
        slacks.append(float(room.parts.residual_bound(d, m.gamma)) - float(distance(v, exact)))
    size = max(float(np.max(np.abs(x))) for x in (first, case.v, case.w)) + abs(case.shift)
    return Margin(min(slacks), 4 * sweep_tolerance(m, np.array([size + float(max(map(abs, exact)))])) / (1 - m.gamma))


@claim(
    method="planning", source="puterman2005, Thm. 6.3.1(b)", level=Level.CERTIFICATE,
    statement="the greedy policy of a sweep loses at most twice the bound: an eps/2-accurate value buys an eps-optimal "
    "policy",
    worked=worked, generated=cases,
    breaks=[Wrap("worst_action", part="greedy_actions", by=lambda f: lambda q: f(-q)), NOT_AMPLIFIED],
)  # fmt: skip
def greedy_policy_loses_at_most_twice_the_bound(case: Case, room: Room) -> Margin:
    m, exact, slacks = case.model, optimal_value(case.model), []
    for stop in ("span", "sup"):
        for _, _, q, bound in states(room, case, stop):
            value = policy_value(m, room.parts.greedy_actions(q))
            loss = max(best - mine for best, mine in zip(exact, value, strict=True))
            slacks.append(2 * as_fraction(bound) - loss)
    return Margin(float(min(slacks)), 0.0)


@claim(
    method="planning", source="puterman2005, Thm. 6.3.3", level=Level.CERTIFICATE,
    statement="n sweeps of value iteration from zero leave an error of at most gamma^n |V*|",
    worked=worked, generated=cases,
    breaks=[UNDISCOUNTED,
            Wrap("half_future", part="q_values", by=lambda f: lambda P, r, v, *, gamma: f(P, r, v, gamma=gamma / 2)),
            Line("stale_value", room="reference", module="value_iteration",
                 old="swept(model, state.v,", new="swept(model, 0 * state.v,")],
)  # fmt: skip
def value_iteration_converges_at_rate_gamma(case: Case, room: Room) -> Margin:
    m, exact = case.model, optimal_value(case.model)
    size = float(max(map(abs, exact)))
    slacks = [m.gamma**n * size - float(distance(v, exact)) for n, v, _, _ in states(room, case, "sup")]
    return Margin(min(slacks), sweep_tolerance(m, np.array([size])) / (1 - m.gamma))


@claim(
    method="planning", source="macqueen1966; puterman2005, Thm. 6.6.3", level=Level.SYMBOLIC,
    statement="MacQueen's interval holds for every MDP with two states and two actions and all reals, proved by z3",
    breaks=[NOT_AMPLIFIED, QUARTER, SHIFT_SIGN],
)  # fmt: skip
def macqueen_interval_for_all_reals(_: None, room: Room) -> Margin:
    z3 = require("z3", "certify")
    gamma, low, high = z3.Reals("gamma low high")
    v, x = z3.Reals("v0 v1"), z3.Reals("x0 x1")  # x = V* - v
    least, most = z3.If(x[0] <= x[1], x[0], x[1]), z3.If(x[0] >= x[1], x[0], x[1])
    p, a, b = z3.Reals("p a b")
    # lemma: an average of x lies between its extremes; so P x may be replaced by any number there
    lemma = z3.And(p * a + (1 - p) * b <= z3.If(a >= b, a, b), p * a + (1 - p) * b >= z3.If(a <= b, a, b))
    setting, goals = [gamma >= 0, gamma < 1], []
    for s in range(2):
        q, ahead = z3.Reals(f"q{s}0 q{s}1"), z3.Reals(f"d{s}0 d{s}1")  # q(v), P x
        swept = z3.If(q[0] >= q[1], q[0], q[1])
        after = [y + gamma * d for y, d in zip(q, ahead, strict=True)]
        setting += [z3.And(least <= d, d <= most) for d in ahead]
        setting += [v[s] + x[s] == z3.If(after[0] >= after[1], after[0], after[1])]  # V* = T V*
        setting += [low <= swept - v[s], swept - v[s] <= high]
        error = v[s] + x[s] - swept - room.part("midpoint_shift")(low, high, gamma)
        width = room.part("half_width")(low, high, gamma)
        goals += [error <= width, error >= -width]
    holds = proved(z3, [p >= 0, p <= 1], lemma) and proved(z3, setting, z3.And(*goals))
    return Margin.proved(holds)
