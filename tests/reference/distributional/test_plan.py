"""Plans: the worked numbers in Fractions and on grids, vector rewards, what is refused and how it is said."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest

from polytheory.access import Key, KnownModel, Online, Requests
from polytheory.errors import DiscountError, ObjectiveError, SettingError, UnknownNameError
from polytheory.models import make
from polytheory.models.objectives import CVaR, Homeostasis, Limits, PiecewiseLinear, Target, rational
from polytheory.models.stock import stock_problem
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.distributional.history_claims import best, laws_of
from polytheory.proofs_check.distributional.instances import EXPONENTIAL, UTILITIES
from polytheory.reference.distributional import exact
from polytheory.reference.distributional.distributional_dp import (
    DistributionalPolicyIteration,
    DistributionalValueIteration,
    StockPolicy,
    lower_mean,
    plan,
    return_law,
)
from polytheory.run import run
from polytheory.streams import row_ids

STOCKS = [F(x, 2) for x in (-26, -17, -13, -12, -8, -5, -1, 0, 3)]  # below, among and above minus the returns


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_every_utility_equals_enumeration(gamma):
    model = make("wager", gamma=gamma)
    problem = stock_problem(model, exact=True)
    for judge, f in UTILITIES:
        solution = exact.value_iteration(problem, rational(judge))
        assert all(solution.value(0, c) == best(model, f, 0, c) for c in STOCKS)


def test_exponential_utility_needs_gamma_1_or_a_clock():
    judge, f = EXPONENTIAL
    for gamma, clock, holds in ((1.0, False, True), (0.5, False, False), (0.5, True, True)):
        model = make("wager", gamma=gamma)
        solution = exact.value_iteration(stock_problem(model, exact=True), rational(judge), clock=clock)
        short = [best(model, f, 0, c) - float(solution.value(0, c)) for c in STOCKS]
        scale = [abs(best(model, f, 0, c)) for c in STOCKS]
        # 1e-12: a few dozen roundings of exp; without a clock every one falls short by 6 % and more
        assert all((x <= 1e-12 * y) if holds else (x > 0.05 * y) for x, y in zip(short, scale, strict=True))
    assert solution.value(0, F(0)) == pytest.approx(-0.0323371510, abs=5e-11)


MEANS = {F(1, 4): F(23, 4), F(1): F(129, 16)}


@pytest.mark.parametrize(("tau", "value"), [(F(1, 10), F(4)), (F(1, 4), F(5)), (F(1, 2), F(11, 2)), (F(1), F(129, 16))])
def test_cvar_table(tau, value):
    found = plan(make("wager"), CVaR(float(tau)), exact=True)
    assert (found.value, found.claimed, found.bound) == (value, value, 0.0)
    assert lower_mean(found.law, tau) == value
    assert found.law.mean == MEANS.get(tau, found.law.mean)
    assert plan(make("wager"), CVaR(float(tau))).value == pytest.approx(float(value), abs=1e-12)


def test_actions_depend_on_the_stock():
    solution = exact.value_iteration(stock_problem(make("wager"), exact=True), CVaR(F(1, 4)))
    law = solution.law(0, F(-6))
    assert law.as_dict() == {2: F(1, 64), 4: F(3, 32), 6: F(57, 64)}
    worked = {
        (0, 0, -6): 0,
        (1, 0, -4): 0,
        (1, 1, -4): 1,
        (2, 0, -2): 0,
        (2, 1, -2): 1,
        (2, 0, -3): 1,
        (2, 0, -4): 1,
        (2, 1, -4): 1,
    }
    assert {key: solution.action(*key) for key in worked} == worked


def test_policy_iteration_by_the_numbers():
    problem = stock_problem(make("wager"), exact=True)
    first = lambda h, s, c: int(s == 0 and (3 - h) % 2 == 1)  # noqa: E731
    for judge, stock, values in (
        (PiecewiseLinear(0, 1), -6, [F(-15, 16), F(-21, 32), F(-1, 4)]), (Target(), -6, [F(-87, 32), F(-1, 4)]),
        (PiecewiseLinear(0, 1), -10, [F(-101, 32), F(-43, 16), F(-5, 2)]), (PiecewiseLinear(0, 1), -4, [F(-17, 32), F(0)]),
    ):  # fmt: skip
        seen = exact.policy_iteration(problem, rational(judge), first, F(stock))
        assert [exact.judge(judge, x.law(0, F(stock)), F(stock)) for x in seen][: len(values)] == values
        assert len(seen) <= 4


def test_truncated_recursion_by_the_numbers():
    problem = stock_problem(make("wager", gamma=0.5, horizon=None))
    judge, limit = PiecewiseLinear(0, 1), -0.104161  # the value after ten sweeps, by an independent recursion
    errors = [limit - exact.value_iteration(problem, judge, depth=n).value(0, -4.0) for n in range(4)]
    assert errors == pytest.approx([3.895839, 0.895839, 0.583339, 0.348964], abs=1e-6)  # both have six digits
    assert all(x <= 8 * 0.5**n for n, x in enumerate(errors))


def test_homeostasis_keeps_two_quantities_in_balance():
    # two actions feed either of two quantities by 1; after 4 steps (2, 2) is the set point
    P = np.ones((1, 2, 1))
    model = TabularMDP(P, np.zeros((1, 2)), np.ones(1), horizon=4)
    rewards = np.array([[[[1, 0]], [[0, 1]]]], dtype=float)
    problem = stock_problem(model, exact=True, rewards=rewards)
    found = plan(problem, Homeostasis((2, 2)), exact=True)
    assert found.value == 0
    assert found.law.as_dict() == {(2, 2): 1}
    assert plan(problem, Limits((3,), (10,)), exact=True).law.as_dict() == {(1, 3): 1}


def test_optimistic_cvar_is_a_saddle_point():
    found = plan(make("wager"), "optimistic-cvar:0.25", exact=True)
    laws = laws_of(make("wager"), 0)
    best_tail = max(-min_tail for min_tail in (_upper(law) for law in laws))
    assert found.value == found.claimed == best_tail == 12


def _upper(law):
    flipped = sorted((-x, p) for x, p in law)
    left, total = F(1, 4), F(0)
    for x, p in flipped:
        total += min(p, left) * x
        left -= min(p, left)
    return total * 4


def test_followed_law_of_the_exact_policy():
    model = make("wager")
    found = plan(model, "cvar:0.25", exact=True)
    followed = return_law(stock_problem(model, exact=True), found.policy, resolution=1e-9)
    assert {float(x): float(p) for x, p in found.law.as_dict().items()} == pytest.approx(followed.as_dict(), abs=1e-15)


@pytest.mark.parametrize("text", ["quantile:0.5", "mean-variance:0.5", "direct-cvar:0.25"])
def test_objectives_that_are_not_indifferent_to_mixtures_are_refused(text):
    with pytest.raises(ObjectiveError, match="indifferent to mixtures"):
        plan(make("wager"), text)
    assert plan(make("wager"), text, insist=True).law.probs.sum() == pytest.approx(1)


def test_refusals_say_what_to_do():
    with pytest.raises(ObjectiveError, match="clock=True"):
        plan(make("wager", gamma=0.5), "exponential:1")
    with pytest.raises(ObjectiveError, match="horizon"):
        plan(make("wager", gamma=0.5, horizon=None), "threshold:6")
    with pytest.raises(UnknownNameError, match="cvar"):
        plan(make("wager"), "cvr:0.25")
    with pytest.raises(SettingError, match="TAU"):
        plan(make("wager"), "cvar:a")
    with pytest.raises(SettingError, match=r"\(0, 1\]"):
        plan(make("wager"), "cvar:0")
    with pytest.raises(DiscountError, match="horizon"):
        plan(make("wager", gamma=0.5, horizon=None), "cvar:0.25", exact=True)
    with pytest.raises(SettingError, match="no grid"):
        plan(make("wager"), "cvar:0.25", exact=True, atoms=5)
    with pytest.raises(SettingError, match="clock"):
        plan(make("wager", gamma=0.5, horizon=None), "exponential:1", clock=True)


@pytest.mark.parametrize(
    "settings",
    [{"representation": "histogram"}, {"atoms": 1}, {"stocks": 1}, {"tol": 0.0}, {"stock_range": (2.0, 1.0)}],
)
def test_settings_are_checked(settings):
    with pytest.raises((SettingError, UnknownNameError)):
        DistributionalValueIteration(**settings)


@pytest.mark.parametrize("method", [DistributionalValueIteration, DistributionalPolicyIteration])
def test_discounted_values_are_within_the_bound_and_the_policy_keeps_them(method):
    model = make("wager", gamma=0.5, horizon=None)
    made = method("cvar:0.25", atoms=161, stocks=161, tol=1e-4)
    done = run(made, KnownModel(model), progress=False)
    law = return_law(model, done.policy)
    # the law's own resolution is 1e-5 of 8 in each of 17 steps; CVaR is 4-Lipschitz
    slack = 4 * 8e-5 * 17
    assert abs(CVaR(0.25).of_return(law.atoms, law.probs) - done.state.value) <= done.state.bound + slack
    assert done.state.bound < 0.3


@pytest.mark.parametrize("settings", [{"exact": True}, {}, {"stocks": 21}])
def test_a_long_shot_takes_a_mixture(settings):
    found = plan(make("long-shot"), "optimistic-cvar:0.25", **settings)
    assert found.value == pytest.approx(50 / 7, abs=1e-12)
    assert found.stock == pytest.approx(-30 / 7, abs=1e-12)
    assert sorted(found.policy.weights) == pytest.approx([1 / 7, 6 / 7], abs=1e-12)
    # on the grid the saddle lies between nodes, so that the best node is only an upper bound
    assert found.value <= found.claimed + 1e-12
    followed = return_law(stock_problem(make("long-shot")), found.policy)
    assert followed.as_dict() == pytest.approx({0: 3 / 4, 5: 1 / 7, 10: 3 / 28}, abs=1e-12)


def test_a_mixture_plays_in_episodes():
    model = make("long-shot")
    found = plan(model, "optimistic-cvar:0.25")
    traj = Online(model).rollouts(found.policy, Requests(row_ids(0, np.arange(4000)), 1), Key(0, "mixture", 0))
    # the first action has probability 6/7: 4000 draws are off by 5 standard errors with probability below 1e-6
    assert abs(np.mean(traj.actions == 0) - 6 / 7) < 5 * (6 / 49 / 4000) ** 0.5


def test_no_mixture_is_made_where_one_policy_does():
    assert isinstance(plan(make("wager"), "optimistic-cvar:0.25").policy, StockPolicy)
    assert plan(make("wager"), "cvar:0.25", exact=True).law.as_dict() == {2: F(1, 64), 4: F(3, 32), 6: F(57, 64)}


@pytest.mark.parametrize("representation", ["categorical", "quantile", "utility"])
def test_a_target_between_the_nodes_becomes_a_node(representation):
    # thirteen nodes would be the whole numbers from -12 to 0, on which stocks stay without error, and not start at -5.5
    exact = plan(make("wager"), Target(F(11, 2)), exact=True)
    grid = plan(make("wager"), "target:5.5", representation=representation, stocks=13)
    assert abs(grid.claimed - float(exact.value)) <= grid.bound + 1e-12
    assert grid.stock == -5.5
