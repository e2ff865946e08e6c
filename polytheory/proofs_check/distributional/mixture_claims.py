"""Claims about mixtures of policies: where the best return law is one policy's, and where it takes two."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.access import KnownModel
from polytheory.models.objectives import CVaR, Objective, PiecewiseLinear, Threshold
from polytheory.models.return_law import return_law
from polytheory.models.risk_problems import long_shot, wager
from polytheory.models.stock import stock_problem
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.distributional import oracles
from polytheory.proofs_check.distributional.history_claims import laws_of
from polytheory.proofs_check.distributional.instances import MEAN_JUDGED, NO_STOCK

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

ROUNDING = 1e-11  # some hundred float64 operations on numbers up to about 100


def parting() -> TabularMDP:
    """Two states, three stages: for the best half of returns two policies are mixed that part at the first action, and come
    to states where both of them may be."""
    p = np.array([[3 / 4, 1 / 4], [3 / 4, 3 / 4]])
    r = np.array([[[0.0, 3.0], [2.0, 0.0]], [[4.0, 3.0], [1.0, 0.0]]])
    return TabularMDP(np.stack([p, 1 - p], -1), r, np.array([1.0, 0.0]), 3)


def upper_tail(law: oracles.Dist, tau: Fraction) -> Fraction:
    """Mean of the best share, from its definition."""
    return -oracles.lower_tail(oracles.merged((-x, p) for x, p in law), tau)


def _equal(weights: dict[int, Any]) -> dict[int, Any]:
    return dict.fromkeys(weights, Fraction(1, len(weights)))


@claim(
    method="distributional-dp",
    source="sion1958 for the saddle point; kuhn1953 for the mixture as a policy with memory",
    level=Level.CERTIFICATE,
    statement="for the mean of the best share a mixture of two policies, each with its stock, has the value of the saddle "
    "point, which no policy and no other mixture exceeds; played as a policy with memory it has the law of the mixture",
    rooms=("reference",),
    worked=lambda: [
        (long_shot(), Fraction(1, 4), Fraction(5), Fraction(50, 7)),
        (parting(), Fraction(1, 2), None, Fraction(511, 72)),
        (wager(), Fraction(1, 4), Fraction(12), Fraction(12)),
    ],
    breaks=[
        Wrap("one_policy_alone", part="even_weights", by=lambda f: lambda *given: {min(f(*given)): 1}),
        Wrap("equal_weights", part="even_weights", by=lambda f: lambda *given: _equal(f(*given))),
        Line(
            "weights_stand_still", module="mixture", old="weights = [m[:, J + j] * p.probs",
            new="weights = [m[:, J + j] + 0 * p.probs",
        ),
    ],
)  # fmt: skip
def best_share_takes_two(instance: Any, room: Room) -> Margin:
    model, tau, single, printed = instance
    found = room.part("plan")(model, f"optimistic-cvar:{float(tau)}", exact=True)
    laws = laws_of(model, 0)
    # upper bound: the line of every policy at the saddle's stock; a mixture's line is the mean of its policies'
    above = max(oracles.expected(law, lambda x: max(x, 0), found.stock) for law in laws) / tau - found.stock
    mixed = tuple(zip(found.law.atoms.tolist(), found.law.probs.tolist(), strict=True))
    known = [found.value, found.claimed, upper_tail(mixed, tau)]
    alone = max(upper_tail(law, tau) for law in laws)
    followed = return_law(stock_problem(model, exact=True), found.policy).as_dict()
    told = found.law.as_dict()
    margins = [
        Margin.equal([float(x - above) for x in known], [0.0] * 3, 0.0),
        Margin.at_most(float(alone), float(above), 0.0),
        Margin.equal([followed.get(float(x), 0.0) for x in told], [float(p) for p in told.values()], ROUNDING),
    ]
    margins.append(Margin.equal(float(above - printed), 0.0, 0.0))
    if single is not None:
        margins.append(Margin.equal(float(alone - single), 0.0, 0.0))
    return Margin.worst(margins)


@claim(
    method="distributional-dp",
    source="a maximum of functions that are linear in the law is convex in it: no mixture exceeds the best of its parts",
    level=Level.PROPERTY,
    statement="for expected utilities and for CVaR, whose initial stock is maximised, no mixture of history-dependent policies "
    "exceeds the single policy that is found, which is the best of them",
    worked=lambda: [
        (CVaR(0.25), lambda law: oracles.lower_tail(law, Fraction(1, 4))),
        (Threshold(6), lambda law: oracles.expected(law, lambda x: x >= 6)),
        (PiecewiseLinear(0.5, 2), lambda law: oracles.expected(law, lambda x: x / 2 if x > 0 else 2 * x)),
    ],
    breaks=[NO_STOCK, MEAN_JUDGED],
)
def mixtures_do_not_help(instance: tuple[Objective, Any], room: Room) -> Margin:
    judge, of_law = instance
    model, rng = wager(), np.random.default_rng(0)
    value = room.run("DistributionalValueIteration", KnownModel(model), objective=judge).state["value"][0]
    laws = sorted(laws_of(model, 0), key=of_law)
    worth = [float(of_law(laws[-1]))]
    for _ in range(100):
        # two of the best few, in every proportion of tenths
        first, second = (laws[-1 - int(i)] for i in rng.integers(0, 8, 2))
        share = Fraction(int(rng.integers(0, 11)), 10)
        pairs = [(x, share * p) for x, p in first] + [(x, (1 - share) * p) for x, p in second]
        worth.append(float(of_law(oracles.merged(pairs))))
    return Margin.equal(max(worth), value, ROUNDING)
