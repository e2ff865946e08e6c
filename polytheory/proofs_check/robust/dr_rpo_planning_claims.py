"""Claims about exact planning in regularised linear robust MDPs, which every suboptimality is measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polytheory.models.robust_problems import simulated_linear
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.robust.dr_rpo_instances import (
    AFTER_COLLAPSE,
    BY_ETA,
    BY_PRICE,
    BY_RADIUS,
    COLLAPSES,
    EIGHT,
    HOMOGENEOUS,
    ONE_FACTOR,
    PRINTED,
    REGULARISED,
    ROUNDING,
    DataCase,
    data_cases,
    distance,
    expected_sum,
    nominal,
    one_factor,
    within,
)
from polytheory.reference.exploration.regret import value

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

ONLY = ("reference",)
SUMMED = Line("mean_for_best", module="regularised", old="return q.max(-1)", new="return q.mean(-1)", room="reference")
FORGOTTEN = Line("nominal_next_value", module="regularised", old="= worst.value, worst.law",
                 new="= p @ v[h + 1], worst.law", room="reference")  # fmt: skip
HALVED = Line("half_radius", module="regularised", old="ball = ball_of(kind, float(size), support)",
              new="ball = ball_of(kind, float(size) / 2, support)", room="reference")  # fmt: skip
NO_ETA = Line(
    "eta_squared", module="regularised", old="return eta * (top + ", new="return eta * eta * (top + ", room="reference"
)


@claim(
    method="dr-rpo", source="derived; computed with programs of its own", level=Level.PROPERTY, rooms=ONLY,
    statement="values of the simulated linear MDP under six kinds of sets, without and with a reference policy, to all "
    "printed digits",
    worked=lambda: [None],
    breaks=[SUMMED, FORGOTTEN, NO_ETA,
            Line("uniform_forgotten", room="reference", module="regularised", old="x = log_ref + q / eta\n    top",
                 new="x = q / eta\n    top")],
)  # fmt: skip
def tables_of_the_simulated_linear_mdp(_: None, room: Room) -> Margin:
    plan, m = room.part("plan"), nominal()
    margins = [Margin.equal(plan(m, k, x).v[0, 0], right, PRINTED) for (k, x), right in HOMOGENEOUS.items()]
    for (kind, radius), (right, likely) in REGULARISED.items():
        found = plan(m, kind, radius, eta=0.1)
        margins.append(Margin.equal(found.v[0, 0], right, PRINTED))
        margins.append(Margin.equal(found.policy[0, 0, -1], likely, EIGHT))
    for eta, (right, likely) in ONE_FACTOR.items():
        found = plan(m, "tv", one_factor(0.5), eta=eta)
        margins.append(Margin.equal(found.v[0, 0], right, PRINTED))
        margins.append(Margin.equal(found.policy[0, 0, 0], likely, EIGHT))
    margins += [Margin.equal(plan(m, "tv", 0.3, eta=eta).v[0, 0], right, EIGHT) for eta, right in BY_ETA.items()]
    margins += [Margin.equal(plan(m, "tv", x, eta=0.1).v[0, 0], right, EIGHT) for x, right in BY_RADIUS.items()]
    margins += [
        Margin.equal(plan(m, "penalised-kl", x, eta=0.1).v[0, 0], right, EIGHT) for x, right in BY_PRICE.items()
    ]
    return Margin.worst(margins)


@claim(
    method="dr-rpo", source="derived", level=Level.PROPERTY, rooms=ONLY,
    statement="returns after a collapse: nominal planning loses 1 per unit of probability, planning for total variation 0.5 "
    "loses 0.2, and a reference policy lies between",
    worked=lambda: [None],
    breaks=[FORGOTTEN, HALVED],
)  # fmt: skip
def returns_after_collapse(_: None, room: Room) -> Margin:
    margins = []
    for radius, eta, rights in AFTER_COLLAPSE:
        policy = room.part("plan")(nominal(), "tv", one_factor(radius), eta=eta).policy
        for q, right in zip(COLLAPSES, rights, strict=True):
            found = value(simulated_linear(collapse=q).to_tabular(), policy)
            margins.append(Margin.equal(np.asarray(found), np.asarray(right), 6e-7))  # six decimals
    return Margin.worst(margins)


@claim(
    method="dr-rpo", source="derived", level=Level.CERTIFICATE, rooms=ONLY,
    statement="saddle point: against the worst factors no policy does better than the planned one, against the planned policy "
    "no factors of the set do worse, and both sides are worth the planned value",
    worked=data_cases,
    breaks=[SUMMED, NO_ETA, FORGOTTEN],
)  # fmt: skip
def plan_is_a_saddle_point(case: DataCase, room: Room) -> Margin:
    m, rng, (H, S, A) = case.model, np.random.default_rng(0), case.n.shape
    best = room.part("plan")(m, case.kind, case.radius, eta=case.eta)
    own, right = best.policy, float(m.mu @ best.v[0])
    cost = np.zeros((H, m.d))
    if case.kind.startswith("penalised"):
        cost = case.radius * distance(case.kind.removeprefix("penalised-"), best.factors, m.measures)
    margins = [Margin.equal(_worth(case, own, best.factors, cost), right, 1e-8)]
    for _ in range(20):
        other = rng.dirichlet(np.ones(A), (H, S))
        margins.append(Margin.at_most(_worth(case, other, best.factors, cost), right, 1e-8))
        laws, costs = zip(*(within(rng, case.kind, case.radius, m.measures[h]) for h in range(H)), strict=True)
        margins.append(Margin.at_most(right, _worth(case, own, np.array(laws), np.array(costs)), 1e-8))
    return Margin.worst(margins)


def _worth(case: DataCase, policy: np.ndarray, factors: np.ndarray, cost: np.ndarray) -> float:
    """Rewards, less eta KL to the uniform policy, plus what nature pays for its factors, summed forward in time."""
    log_pi = np.log(np.where(policy > 0, policy, 1.0) * policy.shape[-1])
    paid = case.r - case.eta * log_pi + np.einsum("sad,hd->hsa", case.model.phi, cost)
    return expected_sum(case.model, policy, factors, paid)


@claim(
    method="dr-rpo", source="derived", level=Level.PROPERTY, rooms=ONLY,
    statement="relative entropy and chi-square cannot see new states: with only a factor of one successor uncertain they plan "
    "as if nothing was, whatever the radius, and total variation does not",
    worked=lambda: [None],
    breaks=[
        Wrap("always_total_variation", part="worst_case",
             by=lambda f: lambda ball, z, p: f(ball, z, p)._replace(value=f(ball, z, p).value - 0.1 * z.max(-1))),
        FORGOTTEN,
    ],
)  # fmt: skip
def absolutely_continuous_sets_see_no_new_states(_: None, room: Room) -> Margin:
    plan, m = room.part("plan"), nominal()
    free = plan(m, "tv", 0.0)
    margins = [
        Margin.equal(plan(m, kind, one_factor(x)).q, free.q, ROUNDING) for kind in ("kl", "chi2") for x in (0.5, 9.0)
    ]
    prices = one_factor(0.1, np.inf)
    margins += [Margin.equal(plan(m, f"penalised-{kind}", prices).q, free.q, ROUNDING) for kind in ("kl", "chi2")]
    for radius, right in ((0.2, 1.424250125), (0.5, 1.223650225)):
        margins.append(Margin.equal(plan(m, "tv", one_factor(radius)).v[0, 0], right, ROUNDING))
    return Margin.worst(margins)


@claim(
    method="dr-rpo", source="derived", level=Level.PROPERTY, rooms=ONLY,
    statement="the value falls with the radius and with eta and rises with the price; eta costs at most H eta log A; a large "
    "eta gives the reference policy and its robust value",
    worked=data_cases,
    breaks=[
        NO_ETA,
        Line("bonus_of_entropy", room="reference", module="regularised", old="x = log_ref + q / eta\n    top",
             new="x = q / eta\n    top"),
        Line("policy_for_twice_eta", room="reference", module="regularised", old="x = log_ref + q / eta\n    weight",
             new="x = log_ref + q\n    weight"),
    ],
)  # fmt: skip
def values_are_monotone_and_have_limits(case: DataCase, room: Room) -> Margin:
    plan, m, (H, S, A) = room.part("plan"), case.model, case.n.shape

    def start(radius: float, eta: float) -> float:
        return float(m.mu @ plan(m, case.kind, radius, eta=eta).v[0])

    sizes = (0.5 * case.radius, case.radius, 2 * case.radius)
    rising = sorted(sizes, reverse=not case.kind.startswith("penalised"))
    found = [start(x, 0.1) for x in rising]
    etas = [start(case.radius, eta) for eta in (0.0, 0.01, 0.1, 1.0)]
    margins = [Margin.at_most(found[:-1], found[1:], 1e-8), Margin.at_most(etas[1:], etas[:-1], 1e-8)]
    spent = [H * eta * np.log(A) for eta in (0.01, 0.1, 1.0)]
    margins.append(Margin.at_most(etas[0] - np.array(etas[1:]), spent, 1e-8))
    uniform, eta = np.full((H, S, A), 1 / A), 1e6
    tied = plan(m, case.kind, case.radius, eta=eta)
    other = room.part("worst_value")(m, uniform, case.kind, case.radius)
    # pi differs from the reference by (q - mean q) / eta to first order, its value by the variance of q / (2 eta)
    margins.append(Margin.equal(tied.policy, uniform, 2 * H / eta))
    return Margin.worst([*margins, Margin.equal(tied.v[0], other.v[0], H**3 / eta + 1e-8)])


@claim(
    method="dr-rpo", source="liu2024robust, Lemma 5.1", level=Level.PROPERTY, rooms=ONLY,
    statement="total variation shrinks the range of values: max V_h - min V_h <= (1 - (1 - rho)^(H - h + 1)) / rho, attained "
    "by the simulated linear MDP at its last two stages",
    worked=lambda: [0.1, 0.2, 0.5, 0.9],
    breaks=[
        FORGOTTEN,
        HALVED,
    ],
)  # fmt: skip
def total_variation_shrinks_the_range_of_values(rho: float, room: Room) -> Margin:
    spans = np.ptp(room.part("plan")(nominal(), "tv", rho).v[:3], axis=-1)
    limits = (1 - (1 - rho) ** np.array([3, 2, 1])) / rho
    return Margin.worst([Margin.at_most(spans, limits, ROUNDING), Margin.equal(spans[1:], limits[1:], ROUNDING)])
