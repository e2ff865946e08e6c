"""Vector stocks on product grids: the exact solver's numbers, both rooms, policies that are followed, and what is refused."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest

from polytheory.access import Key, KnownModel, Online, Requests
from polytheory.catalog import find
from polytheory.errors import ObjectiveError, SettingError, ShapeError
from polytheory.lab.build import algorithm_class, make_algorithm, policy_values
from polytheory.models import make
from polytheory.models.objectives import CVaR, Exponential, Homeostasis, Limits, SquaredTarget, objective
from polytheory.models.return_law import return_law
from polytheory.models.stock import VectorMDP, stock_problem
from polytheory.models.tabular import TabularMDP
from polytheory.reference.distributional.distributional_dp import DistributionalValueIteration, plan
from polytheory.run import run
from polytheory.streams import row_ids


def two_paid(gamma=1.0, horizon: int | None = 3):
    """The wager, and a second quantity that it pays beside."""
    model = make("wager", gamma=gamma, horizon=horizon)
    beside = np.array([[[0, 1], [2, 0]], [[1, 1], [0, 3]]])
    return model, np.stack([np.asarray(model.r), beside], -1)


@pytest.mark.parametrize("judge", [Homeostasis((6, 3)), Homeostasis((2, 2)), Limits((2,), (3,))])
def test_lattices_give_the_exact_solver_s_numbers(judge):
    model, rewards = two_paid()
    exact, grid = plan(model, judge, rewards=rewards, exact=True), plan(model, judge, rewards=rewards)
    # a few dozen roundings of numbers up to 12
    assert [grid.claimed, grid.value] == pytest.approx([float(exact.value)] * 2, abs=1e-12)
    assert grid.bound < 1e-11
    assert grid.law.mean.shape == (2,)


@pytest.mark.parametrize("count", [11, 41])
@pytest.mark.parametrize("judge", [Homeostasis((4, 2)), Limits((2,), (3,))])
def test_coarse_grids_stay_within_their_bound(judge, count):
    model, rewards = two_paid(gamma=0.5)
    best = float(plan(model, judge, rewards=rewards, exact=True).value)
    grid = plan(model, judge, rewards=rewards, stocks=count)
    assert 0 < abs(grid.claimed - best) <= grid.bound
    assert grid.value <= best + 1e-12


def test_two_quantities_in_balance_by_hand():
    # two actions feed either of two quantities by 1; after 6 steps (4, 2) is the set point
    model = TabularMDP(np.ones((1, 2, 1)), np.zeros((1, 2)), np.ones(1), horizon=6)
    rewards = np.array([[[[1, 0]], [[0, 1]]]], dtype=float)
    found = plan(model, Homeostasis((4, 2)), rewards=rewards)
    assert found.law.as_dict() == {(4.0, 2.0): 1.0}
    assert found.value == found.claimed == 0
    assert plan(model, Limits((5,), (10,)), rewards=rewards).law.as_dict() == {(1.0, 5.0): 1.0}


def test_discounted_vectors_are_within_the_bound():
    model, rewards = two_paid(gamma=0.5, horizon=None)
    judge = Homeostasis((4, 2))
    made = DistributionalValueIteration(judge, representation="utility", rewards=rewards, tol=1e-3)
    grid = run(made, KnownModel(model), progress=False)
    law = return_law(stock_problem(model, rewards=rewards), grid.policy, depth=9)
    # the rewards after nine steps are worth at most (8 + 6) / 2^9 together
    assert judge.of_return(law.atoms, law.probs) <= grid.state.value + grid.state.bound + 14 / 2**9
    assert grid.state.bound < 0.4


def test_one_quantity_agrees_with_laws():
    for text in ("cvar:0.25", "target:6", "threshold:6", "squared-target:8", "mean-cvar:0.5:0.25"):
        whole, number = (plan(make("wager"), text, representation=x) for x in ("categorical", "utility"))
        assert [number.claimed, number.value] == pytest.approx([whole.claimed, whole.value], abs=1e-12)


def test_far_targets_of_a_square_are_not_clipped():
    whole, number = (plan(make("wager"), SquaredTarget(40), representation=x) for x in ("categorical", "utility"))
    assert number.claimed == pytest.approx(whole.value, abs=1e-10)  # a few dozen roundings of numbers up to 40^2


def test_the_policy_moves_its_stock_in_episodes_that_pay_numbers():
    model, rewards = two_paid()
    found = plan(model, Homeostasis((6, 3)), rewards=rewards)
    traj = Online(model).rollouts(found.policy, Requests(row_ids(0, np.arange(400)), 3), Key(0, "vectors", 0))
    after = np.concatenate([traj.states[:, 1:], traj.final_states[:, None]], axis=1)
    got = rewards[traj.states, traj.actions, after].sum(1)
    seen = {tuple(x) for x in got.tolist()}
    assert seen <= set(found.law.as_dict())
    # 400 draws; every outcome of probability 0.05 and more is seen but for a chance of 20 * 0.95^400 < 1e-7
    assert {x for x, p in found.law.as_dict().items() if p >= 0.05} <= seen


def test_a_model_that_pays_vectors_by_its_name():
    model = make("two-needs")
    found = plan(model, "homeostasis:3:3")
    assert found.value == pytest.approx(-41 / 64, abs=1e-12)
    assert plan(model, "limits:3:10", exact=True).value == F(9, 4)
    assert plan(model, "mean", exact=True).value == 6  # and as a model that pays their sum
    assert [str(objective(x)) for x in ("homeostasis:3:3", "limits:3:10")] == ["homeostasis:3:3", "limits:3:10"]
    with pytest.raises(SettingError, match="for every limit"):
        objective("limits:3")
    with pytest.raises(ShapeError, match=r"\[S, A, S, m\]"):
        VectorMDP(model.P, model.r, model.mu, 3, rewards=np.zeros((2, 2, 2)))


@pytest.mark.parametrize("room", ["reference", "scaled"])
@pytest.mark.parametrize("name", ["DistributionalValueIteration", "DistributionalPolicyIteration"])
def test_from_words_to_a_run(room, name):
    model = make("two-needs")
    cls = algorithm_class(find("distributional-dp"), name, room)
    made = make_algorithm(cls, {"objective": "homeostasis:3:3", "representation": "utility"}, model)
    done = run(made, KnownModel(model) if room == "reference" else KnownModel(model).replicate(2), progress=False)
    assert np.ravel(done.state.value) == pytest.approx(-41 / 64, abs=1e-12)
    assert policy_values(done.policy, model, 2, room)[0] == pytest.approx(
        float(np.ravel(mean_of(done.policy, model))[0])
    )


def mean_of(policy, model):
    """The expected sum of what is paid, from the law of the vectors."""
    one = policy.replica(0) if hasattr(policy, "replica") else policy
    return return_law(stock_problem(model, rewards=model.rewards), one).mean.sum()


def test_discounted_vectors_to_a_resolution():
    found = plan(make("two-needs", gamma=0.7, horizon=None), "homeostasis:1:2", tol=1e-2, resolution=1e-2)
    # the size of returns falls to the resolution in log(4/3 10^3) / log(1/0.7) < 22 steps, each of which moves two quantities
    assert found.value <= found.claimed + found.bound + 2 * 22 * 1e-2


@pytest.mark.parametrize(
    ("judge", "change", "error", "says"),
    [
        (Homeostasis((1, 1, 1)), {}, ShapeError, "vectors of 3"),
        (CVaR(0.25), {}, ShapeError, "one number"),
        (Homeostasis((1, 1)), {"representation": "categorical"}, SettingError, "representation='utility'"),
        (Homeostasis((1, 1)), {"stocks": 5000}, SettingError, "5001 x 5001|5000 x 5000|25"),
        (Homeostasis((1, 1)), {"atoms": 7}, SettingError, "atoms = 7"),
        (Homeostasis((1, 1)), {"stock_range": ((0, 1),) * 3}, SettingError, "3 pairs"),
    ],
)
def test_refusals(judge, change, error, says):
    model, rewards = two_paid()
    with pytest.raises(error, match=says):
        plan(model, judge, rewards=rewards, **change)


def test_more_than_three_quantities_and_what_does_not_scale():
    model = TabularMDP(np.ones((1, 2, 1)), np.zeros((1, 2)), np.ones(1), horizon=2)
    with pytest.raises(SettingError, match="at most 3"):
        plan(model, Homeostasis((1, 1, 1, 1)), rewards=np.ones((1, 2, 1, 4)))
    with pytest.raises(ObjectiveError, match="does not scale"):
        plan(make("wager", gamma=0.5), Exponential(1), representation="utility", insist=True)
    with pytest.raises(ObjectiveError, match="no expected utility"):
        plan(make("wager"), "quantile:0.5", representation="utility", insist=True)
