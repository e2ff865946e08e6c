"""Claims about the Bellman operator itself."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.errors import require
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.planning.instances import Case, cases, worked
from polytheory.proofs_check.planning.oracles import distance, exact_q, policies, sweep_tolerance

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

UNDISCOUNTED = Wrap("undiscounted", part="q_values", by=lambda f: lambda P, r, v, *, gamma: f(P, r, v, gamma=1.0))
NEGATED = Wrap("negated_future", part="q_values", by=lambda f: lambda P, r, v, *, gamma: f(P, r, v, gamma=-gamma))
FIRST_ACTION = Wrap(
    "first_action", part="greedy_backup",
    by=lambda f: lambda P, r, v, *, gamma: f(P[..., :1, :], r[..., :1], v, gamma=gamma),
)  # fmt: skip
SUMMED = Wrap("actions_summed", part="greedy_backup",
              by=lambda f: lambda P, r, v, *, gamma: 2 * f(P, r, v, gamma=gamma))  # fmt: skip


def backup(room: Room, case: Case, v: np.ndarray) -> np.ndarray:
    """The room's ``T v``."""
    m = case.model
    return room.parts.greedy_backup(m.P_at(), m.r_at(), v, gamma=m.gamma)


@claim(
    method="planning", source="puterman2005, eq. 6.2.2", level=Level.CERTIFICATE,
    statement="state-action values and the greedy backup are their definition, to the rounding of one sweep",
    worked=worked, generated=cases,
    breaks=[
        UNDISCOUNTED,
        NEGATED,
        Wrap("first_state_only", part="q_values",
             by=lambda f: lambda P, r, v, *, gamma: f(P, r, v[..., :1] + 0 * v, gamma=gamma)),
        FIRST_ACTION,
        Line("min_for_max", room="reference", module="bellman", old="np.max(q_values", new="np.min(q_values"),
        Line("mean_for_max", room="reference", module="bellman", old="np.max(q_values", new="np.mean(q_values"),
    ],
)  # fmt: skip
def backup_is_its_definition(case: Case, room: Room) -> Margin:
    m = case.model
    exact = exact_q(m, case.v)
    q = room.parts.q_values(m.P_at(), m.r_at(), case.v, gamma=m.gamma)
    off = max(distance(row, right) for row, right in zip(q, exact, strict=True))
    off = max(off, distance(backup(room, case, case.v), [max(row) for row in exact]))
    return Margin(-float(off), sweep_tolerance(m, case.v))


@claim(
    method="planning", source="puterman2005, Prop. 6.2.4", level=Level.PROPERTY,
    statement="the Bellman operator contracts the sup norm by gamma",
    worked=worked, generated=cases, breaks=[UNDISCOUNTED, SUMMED],
)  # fmt: skip
def backup_contracts(case: Case, room: Room) -> Margin:
    m, v = case.model, case.v
    slacks = []
    for w in (case.w, v + case.shift):  # a constant apart is the worst case
        before, after = np.max(np.abs(v - w)), np.max(np.abs(backup(room, case, v) - backup(room, case, w)))
        slacks.append(m.gamma * before - after)
    return Margin(float(min(slacks)), sweep_tolerance(m, v, case.w, v + case.shift))


@claim(
    method="planning", source="puterman2005, Lemma 6.3.2 (monotone) and 6.6 (constants)", level=Level.PROPERTY,
    statement="T is monotone, and adding a constant c to v adds gamma c to T v",
    worked=worked, generated=cases,
    breaks=[
        UNDISCOUNTED,
        NEGATED,
        Wrap("centred", part="q_values",
             by=lambda f: lambda P, r, v, *, gamma: f(P, r, v - v.mean(-1)[..., None], gamma=gamma)),
    ],
)  # fmt: skip
def backup_is_monotone_and_shifts(case: Case, room: Room) -> Margin:
    m, v = case.model, case.v
    above = v + np.abs(case.w)
    tolerance = sweep_tolerance(m, v, above, v + case.shift)
    monotone = Margin.at_most(backup(room, case, v), backup(room, case, above), tolerance)
    shifted = backup(room, case, v + case.shift)
    return Margin.worst([monotone, Margin.equal(shifted, backup(room, case, v) + m.gamma * case.shift, tolerance)])


@claim(
    method="planning", source="puterman2005, eq. 6.2.3", level=Level.PROPERTY,
    statement="T v is the largest T_pi v over all deterministic policies, and the greedy policy attains it",
    worked=worked, generated=cases,
    breaks=[
        FIRST_ACTION,
        Wrap("worst_action", part="greedy_actions", by=lambda f: lambda q: f(-q)),
        Wrap("policy_undiscounted", part="policy_backup",
             by=lambda f: lambda P, r, pi, v, *, gamma: f(P, r, pi, v, gamma=1.0)),
        Line("min_for_max", room="reference", module="bellman", old="np.max(q_values", new="np.min(q_values"),
    ],
)  # fmt: skip
def backup_is_the_best_policy_backup(case: Case, room: Room) -> Margin:
    m, v = case.model, case.v
    args = (m.P_at(), m.r_at())
    best = backup(room, case, v)
    under = [room.parts.policy_backup(*args, np.eye(m.A)[pi], v, gamma=m.gamma) for pi in policies(m)]
    greedy = room.parts.greedy_actions(room.parts.q_values(*args, v, gamma=m.gamma))
    attained = room.parts.policy_backup(*args, np.eye(m.A)[greedy], v, gamma=m.gamma)
    tolerance = sweep_tolerance(m, v)
    return Margin.worst([Margin.equal(best, np.max(under, axis=0), tolerance), Margin.equal(best, attained, tolerance)])


@claim(
    method="planning", source="higham2002, eq. 3.5", level=Level.CERTIFICATE,
    statement="a computed sweep differs from the exact one by at most the rounding that the certificate charges for it",
    worked=worked, generated=cases,
    breaks=[
        Wrap("sloppy_sweep", part="q_values",
             by=lambda f: lambda P, r, v, *, gamma: f(P, r, v, gamma=gamma) * (1 + 1e-13)),
        Wrap("no_charge", part="sweep_rounding", by=lambda f: lambda *a, **k: 0 * f(*a, **k)),
    ],
)  # fmt: skip
def rounding_of_a_sweep_is_charged(case: Case, room: Room) -> Margin:
    m = case.model
    v = case.v / 3  # digits that do not fit
    q = room.parts.q_values(m.P_at(), m.r_at(), v, gamma=m.gamma)
    off = max(distance(row, right) for row, right in zip(q, exact_q(m, v), strict=True))
    terms = int(np.max(np.count_nonzero(np.asarray(m.P_at()), axis=-1)))
    size, reward = float(np.max(np.abs(v))), float(np.max(np.abs(m.r_at())))
    charge = float(room.parts.sweep_rounding(size, reward, gamma=m.gamma, terms=terms))
    return Margin(float(Fraction(charge) - off), 0.0)


@claim(
    method="planning", source="puterman2005, Prop. 6.2.4", level=Level.SYMBOLIC, rooms=("reference",),
    statement="for every MDP with two successor states and two actions: |T v - T w| <= gamma |v - w|, proved by z3",
    breaks=[
        Line("future_counted_twice", module="bellman",
             old="reward + gamma * next_value", new="reward + 2 * gamma * next_value"),
        Line("undiscounted", module="bellman", old="reward + gamma * next_value", new="reward + next_value"),
    ],
)  # fmt: skip
def contraction_for_all_reals(_: None, room: Room) -> Margin:
    z3 = require("z3", "certify")
    gamma, v, w, r, p = z3.Real("gamma"), z3.Reals("v0 v1"), z3.Reals("w0 w1"), z3.Reals("r0 r1"), z3.Reals("p0 p1")
    discounted = room.part("discounted")

    def backup_of(x: list) -> Any:
        return _max(z3, *[discounted(r[a], p[a] * x[0] + (1 - p[a]) * x[1], gamma) for a in range(2)])

    gap = [z3.If(a >= b, a - b, b - a) for a, b in zip(v, w, strict=True)]
    allowed = gamma * _max(z3, *gap)
    setting = [gamma >= 0, gamma < 1, *[x >= 0 for x in p], *[x <= 1 for x in p]]
    goal = z3.And(backup_of(v) - backup_of(w) <= allowed, backup_of(w) - backup_of(v) <= allowed)
    return Margin.proved(proved(z3, setting, goal))


def proved(z3: Any, setting: list, goal: Any) -> bool:
    """True when z3 finds the goal's negation unsatisfiable (an unknown is not a proof)."""
    solver = z3.Solver()
    solver.set("timeout", 20_000)
    solver.add(*setting, z3.Not(goal))
    return solver.check() == z3.unsat


def _max(z3: Any, a: Any, b: Any) -> Any:
    return z3.If(a >= b, a, b)
