"""What is recorded, when, and whether it is true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polytheory import models
from polytheory.access import Online
from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.sweeps import Study
from polytheory.lab.sweeps.cells import Job
from polytheory.lab.sweeps.measures import Grid, measure_named
from polytheory.lab.sweeps.work import rows
from polytheory.reference.exploration.optimistic_actor_critic import Nora
from polytheory.reference.exploration.regret import greedy_policy, stage_q_values, value
from polytheory.reference.planning.planning import solve

STUDY = Study(
    name="measures",
    methods=[{"name": "optimistic-actor-critic", "settings": {"episodes": "budget"}}],
    environments=[{"name": "baited-lock", "options": {"H": 3}}],
    seeds=2,
    episodes=30,
    measure=["suboptimality", "regret", "value", "return", "switches"],
    room="reference",
    density=4,
)


def measured(study: Study, first: int = 0, count: int | None = None) -> dict:
    (cell,) = study.cells()
    return rows(Job(cell, first, count or study.seeds))


@pytest.mark.parametrize("room", ["reference", "scaled"])
def test_regret_and_suboptimality_by_hand(room):
    """The run made again without the driver, its policies evaluated by another function."""
    found = measured(replace(STUDY, room=room))
    (cell,) = STUDY.cells()
    model = models.make("baited-lock", H=3)
    best = value(model, greedy_policy(stage_q_values(model)))
    every = {name: [] for name in ("suboptimality", "regret", "value", "return", "switches")}
    for seed in range(2):
        access, made = Online(model), Nora(episodes=30)
        state, regret, info = made.init(access, cell.seed, seed), 0.0, {"return": np.nan, "switches": np.nan}
        states = np.arange(model.S)
        for k in range(31):
            pi = np.stack([made.policy(state).probs(None, h, states) for h in range(3)])
            if k in (0, 1, 2, 3, 6, 10, 18, 30):
                for name, x in {
                    "suboptimality": best - value(model, pi),
                    "regret": regret,
                    "value": value(model, pi),
                }.items():
                    every[name].append(x)
                every["return"].append(info["return"])
                every["switches"].append(info["switches"])
            regret += best - value(model, pi)
            state, info = made.step(state, access)
    assert found["step"].tolist() == [0, 1, 2, 3, 6, 10, 18, 30] * 2
    assert found["episodes"].tolist() == found["step"].tolist()
    for name, x in every.items():
        # 30 episodes of returns in [0, 1], each good to a few units in the last place
        np.testing.assert_allclose(found[name], x, rtol=0, atol=1e-13, err_msg=name)


def test_regret_counts_the_episodes_of_a_step():
    """A method of many episodes a step: after the first step the regret is the episodes times the first gap."""
    study = Study(
        "many", [{"name": "n-pg-igt", "settings": {"truncation": 5, "batch": 3, "gamma0": 0.5}}], ["two-state"], seeds=1,
        steps=2, measure=["suboptimality", "regret"],
    )  # fmt: skip
    found = measured(study)
    episodes, gap = found["episodes"], found["suboptimality"]
    assert episodes[1] >= 3
    expected = np.cumsum(np.diff(episodes) * gap[:-1])
    np.testing.assert_allclose(found["regret"][1:], expected, rtol=1e-12)


def test_value_error_of_a_planner_stays_below_its_bound():
    study = Study("vi", ["planning"], ["two-state"], measure=["value_error", "bound"], density=50)
    found = measured(study)
    v = solve(models.make("two-state"), tol=1e-12).v
    assert found["value_error"][0] == pytest.approx(np.abs(v).max(), rel=1e-9)  # values start at zero
    assert (found["value_error"][1:] <= found["bound"][1:] + 1e-9).all()
    assert found["backups"][-1] > 0


@pytest.mark.parametrize("room", ["reference", "scaled"])
def test_a_measure_of_ones_own(room):
    found = measured(replace(STUDY, room=room, measure=["sweep_measures:visits"]))
    first = found["sweep_measures:visits"][found["step"] == 1]
    assert first.tolist() == [3.0, 3.0]  # one episode of three stages


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seed", "measure 'seed': every row says it"),
        ("sweep_measures:vists", "has no attribute 'vists'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
    ],
)
def test_a_measure_that_does_not_exist(name, message):
    with pytest.raises(SettingError, match=message):
        measure_named(name)


def test_a_name_that_the_method_does_not_report_is_told_after_one_step():
    endless = replace(STUDY, measure=["switchs"], episodes=10**9)
    with pytest.raises(UnknownNameError, match="unknown measure 'switchs'; did you mean 'switches'"):
        measured(endless)


def test_the_grid_is_dense_at_first_and_the_same_for_all_budgets():
    grid = Grid(4)
    kept = [step for step in range(1, 2000) if grid.holds(step)]
    assert kept == sorted({round(10 ** (i / 4)) for i in range(14)} - {2371})
    skipping = Grid(4)
    assert [skipping.holds(step) for step in (1, 50, 51, 56, 57)] == [True, True, False, True, False]


def test_seeds_differ_and_blocks_do_not():
    together = measured(STUDY)
    assert not np.array_equal(together["regret"][:8], together["regret"][8:])
    alone = measured(STUDY, first=1, count=1)
    np.testing.assert_array_equal(alone["regret"], together["regret"][8:])
