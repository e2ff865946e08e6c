"""Demonstrations are measured against answers that are known without them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from polytheory.lab.demos import REPLICAS, grid_values, policy_tables, solve_demo
from polytheory.models import TabularMDP, make
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.claims import Demo
from polytheory.proofs_check.runner import demos_of

GRID = Demo(
    "gridworld",
    "ValueIteration",
    options={"rows": 2, "columns": 3, "gamma": 0.9},
    access="KnownModel",
    lockstep_steps=3,
)
J_STAR = 90 / 23  # of two-state at gamma = 0.8, by hand: action 1 everywhere


@pytest.fixture(scope="module")
def planned():
    return solve_demo("planning", GRID)


@pytest.fixture(scope="module")
def learnt():
    return solve_demo("n-pg-igt", replace(demos_of("n-pg-igt")[0], steps=30, lockstep_steps=3))


def test_a_planner_finds_the_known_answer(planned):
    known = -(1 - 0.9**3) / 0.1  # three steps to the goal
    assert (planned.S, planned.A, planned.gamma, planned.status) == (6, 4, 0.9, "done")
    assert planned.optimum == pytest.approx(known, abs=1e-9)  # the oracle's tolerance
    assert planned.value == pytest.approx(known, abs=2 * planned.bound + 1e-12)  # what the certificate promises
    assert planned.bound <= 1e-6
    assert planned.settings["tol"] == "1e-06"
    assert (planned.episodes, planned.transitions) == (0, 0)
    assert planned.backups == planned.steps * 6 * 4


def test_the_certified_bound_lies_above_the_true_error(planned):
    bound, error, rate = planned.curve.series
    assert bound.x == sorted(set(bound.x))
    assert bound.y[-1] == planned.bound
    told = [(b, e) for b, e in zip(bound.y, error.y, strict=True) if e is not None]
    assert told
    assert all(e <= b for b, e in told)
    for (k, a), (m, b) in pairwise(zip(rate.x, rate.y, strict=True)):
        assert b / a == pytest.approx(0.9 ** (m - k), rel=1e-12)
    assert rate.dashed


def test_a_learner_is_measured_by_exact_returns(learnt):
    model = make("two-state")
    assert learnt.optimum == pytest.approx(J_STAR, abs=1e-9)
    band, single = learnt.curve.series
    assert learnt.episodes == single.x[-1] == 30 * int(learnt.settings["batch"])  # a batch of episodes a step
    assert single.y[-1] == pytest.approx(learnt.value, abs=1e-12)
    table = np.array(learnt.grid.policy)
    by_sum, d = 0.0, model.mu  # the return as a sum over time, cut where gamma^t is below rounding
    for t in range(200):
        joint = d[:, None] * table
        by_sum += 0.8**t * float((joint * model.r_at()).sum())
        d = np.einsum("sa,say->y", joint, model.P_at())
    assert learnt.value == pytest.approx(by_sum, abs=1e-12)
    for low, middle, high in zip(band.low, band.y, band.high, strict=True):
        assert low <= middle <= high <= J_STAR + 1e-9
    assert band.x == sorted(set(band.x))
    assert str(REPLICAS) in band.label
    assert [(x.label, x.y) for x in learnt.curve.levels] == [("optimum J*", learnt.optimum)]


def test_both_rooms_are_compared(planned, learnt):
    for d in (planned, learnt):
        assert d.lockstep.holds
        assert 0 <= d.lockstep.error <= d.lockstep.tolerance
        assert d.lockstep.fields


def test_grid_values_lie_as_the_states_do():
    model = make("gridworld", rows=2, columns=3, gamma=0.9)
    policy = TabularPolicy.uniform(6, 4)
    grid = grid_values(model, np.arange(6.0), policy)
    assert grid.values == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert (grid.rows, grid.columns) == (2, 3)
    assert grid.ends == [False] * 5 + [True]
    assert grid.starts == [True] + [False] * 5
    assert grid.goals == [False] * 6  # the goal is entered at a cost here


def test_a_large_model_without_grid_has_no_map():
    model = make("chain", S=20)
    assert grid_values(replace(model, grid=None), np.zeros(20), TabularPolicy.uniform(20, model.A)) is None


@pytest.mark.parametrize("horizon", [None, 3])
def test_policies_become_tables(horizon):
    staged = np.random.default_rng(0).dirichlet(np.ones(2), size=(3, 2))
    P = np.full((2, 2, 2), 0.5)
    model = TabularMDP(P, np.zeros((2, 2)), [0.5, 0.5], horizon, 0.9)
    policy = TabularPolicy(staged if horizon else staged[0])
    tables = policy_tables(policy, model, 1)
    np.testing.assert_array_equal(tables, policy.table[None])
