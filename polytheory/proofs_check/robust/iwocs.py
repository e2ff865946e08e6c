"""Claims about incremental worst-case search, and what `polytheory verify` solves for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.access import KnownModel
from polytheory.models.ambiguity import Scenarios
from polytheory.models.windy_walk import wind_kernels, windy_walk
from polytheory.proofs_check.claims import Demo, Level, Line, Margin, Setting, Wrap, claim
from polytheory.proofs_check.planning.oracles import policies
from polytheory.proofs_check.robust import deep_claims as deep_claims
from polytheory.proofs_check.robust import deep_formula_claims as deep_formula_claims
from polytheory.proofs_check.robust.iwocs_instances import (
    Listed,
    exact_robust_value,
    instances,
    optimal_action_values,
    stuck,
)
from polytheory.proofs_check.robust.operator_claims import pennies
from polytheory.reference.robust.robust_dp import RobustValueIteration
from polytheory.run import run

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

TOL = 1e-8  # of the searches below
LARGEST = Wrap("largest_for_smallest", part="combined", by=lambda f: lambda q, new: -f(-q, -new))
TOO_LOW = Wrap("too_low", part="combined", by=lambda f: lambda q, new: f(q, new) - 0.5)
BEST_KERNEL = Wrap(
    "best_kernel", part="worst_kernel",
    by=lambda f: lambda ball, *rest: (lambda found: (found[0], found[1] + 1.0))(f(ball, *rest)),
)  # fmt: skip


@claim(
    method="iwocs",
    source="zouitine2024, Property 1; derived",
    level=Level.CERTIFICATE,
    statement="at every step the guaranteed value and the smallest action values bracket the robust value of the start, "
    "for both variants",
    worked=instances,
    breaks=[BEST_KERNEL, TOO_LOW],
)
def bracket_holds(listed: Listed, room: Room) -> Margin:
    right = exact_robust_value(listed)[0]
    margins = []
    for variant in ("paper", "hull"):
        history = room.run(
            "Iwocs", listed.access, ambiguity=Scenarios(listed.kernels), variant=variant, tol=TOL
        ).history
        margins.append(Margin.at_most(history["lower"].max(), right, TOL))
        margins.append(Margin.at_most(right, history["upper"].min(), TOL))
    return Margin.worst(margins)


@claim(
    method="iwocs", source="zouitine2024, Properties 1 and 2", level=Level.PROPERTY,
    statement="the smallest action values never rise from one kernel to the next and stay above the robust action values "
    "of the hull",
    worked=instances,
    breaks=[LARGEST, TOO_LOW, Wrap("newest_only", part="combined", by=lambda f: lambda q, new: new)],
)  # fmt: skip
def action_values_fall_to_no_less_than_the_hull(listed: Listed, room: Room) -> Margin:
    robust, margins = exact_robust_value(listed), []
    floor = listed.r + 0.9 * (listed.kernels @ robust).min(0)
    q = optimal_action_values(listed, 0)
    for i in range(1, len(listed.kernels)):
        after = room.parts.combined(q, optimal_action_values(listed, i))
        margins += [Margin.at_most(after, q, 1e-12), Margin.at_most(floor, after, 1e-9)]
        q = after
    return Margin.worst(margins)


@claim(
    method="iwocs",
    source="derived; the paper conjectures that the search can stop early",
    level=Level.PROPERTY,
    statement="the paper's search is stuck on three states with the bracket 8.181818182 to 15.545454545; the hull variant "
    "ends certified at 13.824451411",
    worked=lambda: [stuck()],
    breaks=[
        BEST_KERNEL,
        Wrap("no_memory", part="known", by=lambda f: lambda kernel, kernels: True),
        Setting("nominal_rows", off_policy_rows="nominal", worst="static"),
    ],
)
def stuck_instance(listed: Listed, room: Room) -> Margin:
    ball, found = Scenarios(listed.kernels), []
    for variant in ("paper", "hull"):
        trace = room.run("Iwocs", listed.access, ambiguity=ball, variant=variant, tol=TOL)
        found += [trace.state["lower"][0], trace.state["upper"][0], float(trace.raw[0].status == "certified")]
    right = [8.181818181818182, 15.545454545454545, 0.0, 13.824451411, 13.824451411, 1.0]
    return Margin.equal(np.array(found), np.array(right), 2e-8)


@claim(
    method="iwocs",
    source="derived: a step that does not certify adds a row",
    level=Level.PROPERTY,
    statement="the hull variant ends certified at the robust value within one iteration more than there are rows to add",
    worked=instances,
    breaks=[
        Setting("paper", variant="paper"),
        Setting("nominal_rows_only", worst="static"),
    ],
)
def hull_variant_always_certifies(listed: Listed, room: Room) -> Margin:
    trace = room.run("Iwocs", listed.access, **{"ambiguity": Scenarios(listed.kernels), "variant": "hull", "tol": TOL})
    N, S, A, _ = listed.kernels.shape
    right = exact_robust_value(listed)[0]
    return Margin.worst([
        Margin.equal(trace.state["lower"][0], np.asarray(right), 2 * TOL),
        Margin.equal(trace.state["upper"][0], np.asarray(right), 2 * TOL),
        Margin.at_most(trace.state["iterations"][0], S * A * (N - 1) + 1, 0.0),
    ])  # fmt: skip


@claim(
    method="iwocs", source="derived", level=Level.CERTIFICATE,
    statement="with one kernel chosen for ever the bracket holds for the best deterministic policy, whatever the list of "
    "kernels",
    worked=instances,
    breaks=[
        Wrap("kinder_kernel", part="worst_kernel",
             by=lambda f: lambda *given: (lambda found: (found[0], found[1] + 0.5))(f(*given))),
        TOO_LOW,
    ],
)  # fmt: skip
def static_bracket_holds_for_deterministic_policies(listed: Listed, room: Room) -> Margin:
    S = listed.r.shape[0]
    best = -np.inf
    for actions in policies(listed.access.model):
        values = [
            np.linalg.solve(np.eye(S) - 0.9 * kernel[np.arange(S), actions], listed.r[np.arange(S), actions])[0]
            for kernel in listed.kernels
        ]
        best = max(best, min(values))
    trace = room.run("Iwocs", listed.access, ambiguity=Scenarios(listed.kernels), worst="static", tol=TOL)
    return Margin.worst([
        Margin.at_most(trace.history["lower"].max(), best, TOL), Margin.at_most(best, trace.history["upper"].min(), TOL)
    ])  # fmt: skip


@claim(
    method="iwocs", source="zouitine2024, App. E, on a reconstruction of its grid", level=Level.PROPERTY,
    statement="windy walk: from no wind the second candidate is certified at -7.952147490, the robust value, in two iterations",
    worked=lambda: [0.0, 0.25],
    breaks=[BEST_KERNEL, Line("first_kernel", room="reference", old="worst = int(np.argmin(", new="worst = int(np.argmax("),
            Line("first_kernel_in_torch", room="scaled", old="returns.min(-1)", new="returns.max(-1)")],
)  # fmt: skip
def windy_walk_takes_two_iterations(alpha: float, room: Room) -> Margin:
    ball = Scenarios(wind_kernels(7))
    trace = room.run("Iwocs", KnownModel(windy_walk(alpha=alpha)), ambiguity=ball, worst="static", tol=TOL)
    found: list[Any] = [trace.state["lower"][0], trace.state["upper"][0], trace.state["iterations"][0]]
    return Margin.equal(np.array(found), np.array([-7.952147489722, -7.952147489722, 2.0]), 2e-8)


@claim(
    method="iwocs", source="iyengar2005, Lemma 3.3; derived", level=Level.CERTIFICATE,
    statement="on sets by (s, a) the certified static value is the dynamic one, that of robust value iteration, and the "
    "margin is what is left of the bracket",
    worked=lambda: [("tv:0.2", 1), ("kl:0.1", 3)],
    breaks=[BEST_KERNEL, TOO_LOW, Setting("smaller_set", ambiguity="tv:0.01")],
)  # fmt: skip
def certified_static_value_is_the_dynamic_one(case: tuple[str, int], room: Room) -> Margin:
    text, i = case
    access = instances()[i].access
    trace = room.run("Iwocs", access, ambiguity=text, tol=1e-6)
    dynamic = run(RobustValueIteration(text, tol=1e-7), access.fresh(), progress=False).state
    lower, upper = trace.state["lower"][0], trace.state["upper"][0]
    return Margin.worst([
        Margin.at_most(upper - lower, 0.0, 1e-6),
        Margin.equal(lower, dynamic.v[0], 1e-6 + 1e-7), Margin.equal(upper, dynamic.v[0], 1e-6 + 1e-7),
    ])  # fmt: skip


@claim(
    method="iwocs", source="derived; wiesemann2013, sec. 1", level=Level.PROPERTY,
    statement="with two kernels that hurt different actions the static search is certified at 0 = the dynamic value, each "
    "kernel alone is worth 9, and a coin guarantees 4.5 against either: no bound on randomised policies",
    worked=lambda: [None],
    breaks=[BEST_KERNEL, TOO_LOW],
)  # fmt: skip
def static_bracket_fails_for_randomised_policies(_: None, room: Room) -> Margin:
    model, kernels = pennies()
    trace = room.run("Iwocs", KnownModel(model), ambiguity=Scenarios(kernels), worst="static", tol=TOL)
    listed = Listed(kernels, model.r_at())
    alone = [optimal_action_values(listed, i)[0].max() for i in range(2)]
    r = model.r_at().mean(1)
    coin = [np.linalg.solve(np.eye(3) - model.gamma * kernel.mean(1), r)[0] for kernel in kernels]
    found = [trace.state["lower"][0], trace.state["upper"][0], min(alone), min(coin), exact_robust_value(listed)[0]]
    return Margin.equal(np.array(found), np.array([0.0, 0.0, 9.0, 4.5, 0.0]), 2 * TOL)


DEMOS = (
    Demo("windy-walk", "Iwocs", {"ambiguity": "l1:0.1", "variant": "hull"}, steps=12, access="KnownModel", lockstep_steps=3),
    Demo("riverswim", "Iwocs", {"ambiguity": "kl:0.05"}, steps=12, options={"horizon": None, "gamma": 0.9},
         access="KnownModel", lockstep_steps=8),
)  # fmt: skip
