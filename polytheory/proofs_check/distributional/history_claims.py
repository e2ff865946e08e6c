"""Claims against every policy that remembers everything: the optimum, and the failures that the theory predicts."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.access import KnownModel
from polytheory.models.objectives import (
    CVaR,
    DirectCVaR,
    Exponential,
    MeanVariance,
    Quantile,
    Threshold,
    objective,
    rational,
)
from polytheory.models.return_law import return_law
from polytheory.models.risk_problems import toll_road, wager
from polytheory.models.stock import stock_problem
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Level, Margin, Setting, Wrap, claim
from polytheory.proofs_check.distributional import oracles
from polytheory.proofs_check.distributional.instances import (
    ATOMWISE,
    EXPONENTIAL,
    HALF,
    MEAN_JUDGED,
    NO_STOCK,
    TIES_AVERAGED,
    UNDISCOUNTED,
    UNDISCOUNTED_STOCK,
    UTILITIES,
    Case,
    cases,
    exact_grid,
    wagers,
)

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

VI = "DistributionalValueIteration"
ROUNDING = 1e-11  # some hundred float64 operations on numbers up to about 1000 (squares of stocks)
SHARES = {
    Fraction(1, 10): Fraction(4),
    Fraction(1, 4): Fraction(5),
    HALF: Fraction(11, 2),
    Fraction(1): Fraction(129, 16),
}
SHARES_AT_HALF = {Fraction(1, 10): Fraction(91, 32), Fraction(1, 4): Fraction(25, 8), HALF: Fraction(53, 16)}


class _Known:
    """A model as a key of the cache of its laws: by what it holds, not by which object it is."""

    def __init__(self, model: TabularMDP):
        self.model = model
        self.key = (np.asarray(model.P).tobytes(), np.asarray(model.r).tobytes(), model.gamma, model.horizon)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and other.key == self.key


@cache
def _laws(key: _Known, s: int) -> tuple[oracles.Dist, ...]:
    return tuple(oracles.history_laws(key.model, s))


def laws_of(model: TabularMDP, s: int) -> tuple[oracles.Dist, ...]:
    """Laws of all history-dependent policies, remembered."""
    return _laws(_Known(model), s)


def best(model: TabularMDP, f: Any, s: int, stock: Fraction) -> Any:
    """The optimum over all policies that remember everything; randomising does not help an expectation."""
    return max(oracles.expected(law, f, stock) for law in laws_of(model, s))


def best_at(model: TabularMDP, f: Any, s: int, stocks: np.ndarray) -> np.ndarray:
    """`best` at many stocks, in floats."""
    atoms, table = _table(_Known(model), s)
    return (table @ np.array([[float(f(c + x)) for c in stocks.tolist()] for x in atoms])).max(0)


@cache
def _table(key: _Known, s: int) -> tuple[list[float], np.ndarray]:
    """All atoms, and a row of their probabilities for every law."""
    laws = [dict(law) for law in _laws(key, s)]
    atoms = sorted({x for law in laws for x in law})
    return [float(x) for x in atoms], np.array([[float(law.get(x, 0)) for x in atoms] for law in laws])


def _comonotone(greedy_law: Any) -> Any:
    """Equally good laws averaged quantile by quantile."""

    def broken(laws: Any, values: Any) -> Any:
        law, action = greedy_law(laws, values)
        ties = [x for x, v in zip(laws, values, strict=True) if v == max(values)]
        grid = np.array(
            [
                x.atoms[np.searchsorted(x.probs.cumsum().astype(float), (2 * i + 1) / 32)]
                for x in ties
                for i in range(16)
            ]
        )
        atoms = grid.reshape(len(ties), 16).sum(0) * Fraction(1, len(ties))
        return (type(law)(atoms, np.array([Fraction(1, 16)] * 16)), action) if len(ties) > 1 else (law, action)

    return broken


@claim(
    method="distributional-dp",
    source="pires2025, optimality of distributional value iteration",
    level=Level.CERTIFICATE,
    statement="in rational arithmetic the exact solver attains the optimum over all history-dependent policies, with a law "
    "that one of them has",
    rooms=("reference",),
    worked=lambda: [
        (Case(wager(gamma=gamma), *pair), stock)
        for gamma in (1.0, 0.5)
        for pair in UTILITIES
        for stock in (Fraction(-13, 2), Fraction(-4))
    ],
    breaks=[
        NO_STOCK,
        UNDISCOUNTED_STOCK,
        Wrap("ties_averaged_by_quantile", part="greedy_law", by=_comonotone),
        Wrap(
            "greedy_in_the_mean",
            part="judge",
            by=lambda f: (
                lambda objective, of, stock, scale=1: objective.utility(np.asarray(scale * (stock + of.mean))).item()
            ),
        ),
    ],
)
def rational_optimum(instance: tuple[Case, Fraction], room: Room) -> Margin:
    case, stock = instance
    judge = rational(case.judge)
    solution = room.part("value_iteration")(stock_problem(case.model, exact=True), judge)
    law = solution.law(0, stock)
    found = judge.value(stock + law.atoms, law.probs)
    pairs = tuple(zip(law.atoms.tolist(), law.probs.tolist(), strict=True))
    known = set(laws_of(case.model, 0))
    return Margin(-abs(float(found - best(case.model, case.f, 0, stock))) - (oracles.merged(pairs) not in known), 0.0)


@claim(
    method="distributional-dp",
    source="pires2025, optimality of distributional value iteration",
    level=Level.PROPERTY,
    statement="on a grid that holds all stocks and returns, the value of every state and stock is the optimum over all "
    "history-dependent policies",
    worked=wagers,
    generated=cases,
    breaks=[NO_STOCK, UNDISCOUNTED_STOCK, MEAN_JUDGED, TIES_AVERAGED, ATOMWISE, *UNDISCOUNTED],
)
def grid_optimum(case: Case, room: Room) -> Margin:
    model = case.model
    trace = room.run(VI, KnownModel(model), objective=case.judge, **exact_grid(model))
    v, stocks = trace.state["v"][0, 0], trace.state["stocks"][0]
    low, high = stock_problem(model).returns
    inside = np.flatnonzero((stocks >= -high - 1e-9) & (stocks <= -low + 1e-9))
    wanted = [best_at(model, case.f, s, stocks[inside]) for s in range(model.S)]
    return Margin.equal(v[:, inside], np.array(wanted), ROUNDING)


@claim(
    method="distributional-dp",
    source="rockafellar2000, Thm. 1; bauerle2011, sec. 3; pires2025",
    level=Level.CERTIFICATE,
    statement="optimising the initial stock gives the best CVaR of all history-dependent policies, each judged by its tail",
    worked=lambda: [(1.0, tau, x) for tau, x in SHARES.items()] + [(0.5, tau, x) for tau, x in SHARES_AT_HALF.items()],
    breaks=[NO_STOCK, MEAN_JUDGED, *UNDISCOUNTED],
)
def best_cvar(instance: tuple[float, Fraction, Fraction], room: Room) -> Margin:
    gamma, tau, printed = instance
    model = wager(gamma=gamma)
    trace = room.run(VI, KnownModel(model), objective=CVaR(float(tau)), **exact_grid(model))
    enumerated = max(oracles.lower_tail(law, tau) for law in laws_of(model, 0))
    return Margin.equal([trace.state["value"][0], enumerated], [printed, printed], ROUNDING)


@claim(
    method="distributional-dp",
    source="pires2025; the sampled policy starts at the stock that is part of the answer",
    level=Level.PROPERTY,
    statement="the law that the solver reports is the law that its policy has when it is followed outcome by outcome",
    worked=lambda: [
        (wager(), "cvar:0.25"), (wager(), "target:8"), (wager(), "mean"), (wager(), "threshold:2"),
        (toll_road(), "cvar:0.25"), (toll_road(), "threshold:-15"),
    ],
    breaks=[
        TIES_AVERAGED,
        ATOMWISE,
        Wrap("always_the_first_action", part="StockPolicy.probs", by=lambda f: lambda self, m, h, s: f(self, m, h, 0 * s)),
    ],
)  # fmt: skip
def reported_law(instance: tuple[TabularMDP, str], room: Room) -> Margin:
    model, text = instance
    trace = room.run(VI, KnownModel(model), objective=text)
    policy, state = trace.policies[0], trace.state
    law = return_law(model, policy if room.name == "reference" else policy.replica(0))
    node = int(np.argmin(np.abs(state["stocks"][0] - state["initial"][0])))
    support = state["support"][0]
    followed = np.zeros(len(support))
    np.add.at(followed, np.searchsorted(support, law.atoms - 1e-9), law.probs)
    told = model.mu @ state["eta"][0, 0, :, node]
    worth = objective(text).of_return(law.atoms, law.probs)
    return Margin.equal([*told, state["value"][0]], [*followed, worth], ROUNDING)


@claim(
    method="distributional-dp",
    source="pires2025, on functionals that are not indifferent to mixtures",
    level=Level.CERTIFICATE,
    statement="where an objective is not indifferent to mixtures, greedy recursion with a stock falls short of the best "
    "history-dependent policy, by the numbers worked out",
    worked=lambda: [
        (Quantile(0.5), Fraction(8), Fraction(10), lambda law: oracles.quantile(law, HALF)),
        (MeanVariance(0.5), Fraction(2777, 512), Fraction(175, 32), lambda law: oracles.mean_variance(law, HALF)),
        (MeanVariance(1.0), Fraction(1321, 256), Fraction(83, 16), lambda law: oracles.mean_variance(law, Fraction(1))),
        (DirectCVaR(0.25), Fraction(4), Fraction(5), lambda law: oracles.lower_tail(law, Fraction(1, 4))),
    ],
    breaks=[MEAN_JUDGED, ATOMWISE],
)
def mixtures_matter(instance: Any, room: Room) -> Margin:
    judge, greedy, optimum, of_law = instance
    model = wager()
    trace = room.run(VI, KnownModel(model), objective=judge, insist=True)
    node = int(np.argmin(np.abs(trace.state["stocks"][0])))
    found = [trace.state["v"][0, 0, 0, node], max(of_law(law) for law in laws_of(model, 0))]
    return Margin.equal(found, [greedy, optimum], ROUNDING)


@claim(
    method="distributional-dp",
    source="pires2025, on indifference to gamma; the clock is the remedy of putting time into the state",
    level=Level.PROPERTY,
    statement="exponential utility at gamma = 1/2: judged with a clock it reaches its optimum, without one it falls short",
    worked=lambda: [Fraction(x) for x in (0, -1, -2)],
    breaks=[Setting("no_clock", clock=False, insist=True), MEAN_JUDGED, *UNDISCOUNTED],
)
def clock_mends_gamma(stock: Fraction, room: Room) -> Margin:
    model, (judge, f) = wager(gamma=0.5), EXPONENTIAL
    found = []
    for settings in ({"clock": True}, {"insist": True}):
        trace = room.run(VI, KnownModel(model), objective=judge, **settings, **exact_grid(model))
        node = int(np.argmin(np.abs(trace.state["stocks"][0] - float(stock))))
        found.append(trace.state["v"][0, 0, 0, node])
    optimum = float(best(model, f, 0, stock))
    # without a clock the loss is 6 to 10 per cent: at least 1 per cent is asked for
    return Margin.worst([Margin.equal(found[0], optimum, ROUNDING), Margin.at_most(found[1], 1.01 * optimum, 0.0)])


@claim(
    method="distributional-dp",
    source="pires2025; bauerle2011: a stock is all the memory that is needed, and some is",
    level=Level.PROPERTY,
    statement="the optimum with a stock is strictly better than the best policy of stage and state: CVaR 5 against 19/4, and "
    "probability 57/64 against 27/32",
    worked=lambda: [
        (CVaR(0.25), Fraction(5), Fraction(19, 4), lambda law: oracles.lower_tail(law, Fraction(1, 4))),
        (Threshold(6), Fraction(57, 64), Fraction(27, 32), lambda law: oracles.expected(law, lambda x: x >= 6)),
        (Exponential(1), None, None, lambda law: oracles.expected(law, lambda x: EXPONENTIAL[1](x))),
    ],
    breaks=[NO_STOCK, MEAN_JUDGED],
)
def stock_against_markov(instance: Any, room: Room) -> Margin:
    judge, with_stock, without, of_law = instance
    model = wager()
    markov = max(of_law(law) for law in oracles.markov_laws(model, 0))
    trace = room.run(VI, KnownModel(model), objective=judge)
    value = trace.state["value"][0]
    if with_stock is None:  # exponential utility at gamma = 1 needs no stock: the two agree
        return Margin.equal(value, float(markov), ROUNDING)
    known = [Margin.equal(value, float(with_stock), ROUNDING), Margin.at_most(float(markov), value - 1 / 64, ROUNDING)]
    return Margin.worst(known if without is None else [*known, Margin.equal(float(markov), float(without), 0.0)])
