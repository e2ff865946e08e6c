"""Claims about incremental worst-case search, and what `polytheory verify` solves for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import KnownModel
from polytheory.models.ambiguity import Scenarios
from polytheory.models.tabular import TabularMDP
from polytheory.models.windy_walk import wind_kernels, windy_walk
from polytheory.proofs_check.claims import Demo, Level, Line, Margin, Setting, Wrap, claim
from polytheory.proofs_check.planning.oracles import policies

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

TOL = 1e-8  # of the searches below
LARGEST = Wrap("largest_for_smallest", part="combined", by=lambda f: lambda q, new: -f(-q, -new))
TOO_LOW = Wrap("too_low", part="combined", by=lambda f: lambda q, new: f(q, new) - 0.5)
BEST_KERNEL = Wrap(
    "best_kernel", part="worst_kernel",
    by=lambda f: lambda ball, *rest: (lambda found: (found[0], found[1] + 1.0))(f(ball, *rest)),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Listed:
    """A model whose kernel is the first of ``kernels`` [N, S, A, S]."""

    kernels: Float[np.ndarray, "N S A S"]
    r: Float[np.ndarray, "S A"]

    @property
    def access(self) -> KnownModel:
        """The nominal model, starting in state 0."""
        S = self.r.shape[0]
        return KnownModel(TabularMDP(self.kernels[0], self.r, np.eye(S)[0], gamma=0.9, name="listed"))


def stuck() -> Listed:
    """Three states on which the paper's search stops at 8.18 while the robust value is 13.824451."""
    first = [[[0.5, 0, 0.5], [1, 0, 0]], [[0, 0.5, 0.5], [0, 0.5, 0.5]], [[0.5, 0.5, 0], [0, 0.5, 0.5]]]
    second = [[[0, 1, 0], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 1]]]
    return Listed(np.array([first, second], dtype=float), np.array([[0.0, 1.0], [3.0, 2.0], [2.0, 1.0]]))


@lru_cache(maxsize=1)
def instances() -> tuple[Listed, ...]:
    """The stuck one, and random ones with sparse and dense rows."""
    rng, found = np.random.default_rng(0), [stuck()]
    for concentration in (0.3, 0.5, 2.0):
        for _ in range(3):
            found.append(Listed(rng.dirichlet(np.full(3, concentration), (3, 3, 2)), rng.uniform(size=(3, 2))))
    return tuple(found)


def exact_robust_value(listed: Listed) -> Float[np.ndarray, " S"]:
    """The robust value of the rectangular hull: the best deterministic policy against all choices of rows for what it plays."""
    N, S, _, _ = listed.kernels.shape
    best = np.full(S, -np.inf)
    for actions in policies(listed.access.model):
        rows = listed.kernels[:, np.arange(S), actions]  # [N, S, S]
        r = listed.r[np.arange(S), actions]
        worst = np.full(S, np.inf)
        for choice in np.ndindex(*[N] * S):
            P = rows[list(choice), np.arange(S)]
            worst = np.minimum(worst, np.linalg.solve(np.eye(S) - 0.9 * P, r))
        best = np.maximum(best, worst)
    return best


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


def optimal_action_values(listed: Listed, i: int) -> Float[np.ndarray, "S A"]:
    """``Q*`` under one kernel, by trying every deterministic policy."""
    S = listed.r.shape[0]
    values = []
    for actions in policies(listed.access.model):
        P, r = listed.kernels[i][np.arange(S), actions], listed.r[np.arange(S), actions]
        values.append(np.linalg.solve(np.eye(S) - 0.9 * P, r))
    return listed.r + 0.9 * listed.kernels[i] @ np.max(values, axis=0)


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


DEMOS = (
    Demo("windy-walk", "Iwocs", {"ambiguity": "l1:0.1", "variant": "hull"}, steps=12, access="KnownModel", lockstep_steps=3),
    Demo("riverswim", "Iwocs", {"ambiguity": "kl:0.05"}, steps=12, options={"horizon": None, "gamma": 0.9},
         access="KnownModel", lockstep_steps=8),
)  # fmt: skip
