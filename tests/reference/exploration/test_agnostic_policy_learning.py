"""Whole runs of the learners find what exact evaluation says is best, and refuse what they cannot use."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.access.defaults import default_access
from polytheory.errors import PolicyError, SettingError
from polytheory.models import make
from polytheory.models.layered import layers_of, tables_of
from polytheory.policies import TabularPolicy
from polytheory.policy_classes import PolicyClass, Sunflower, everything, random_policies, tons
from polytheory.reference.exploration import spanning
from polytheory.reference.exploration.agnostic_policy_learning import (
    Cpi,
    ImportanceSampling,
    Plhr,
    Popler,
    Psdp,
    TrajectoryTree,
    population_cpi_step,
    population_psdp,
    segment_weights,
    trees_needed,
)
from polytheory.reference.planning.planning import return_of
from polytheory.run import run

MODEL = make("layered-two-state")
LAYERS = layers_of(MODEL)
BEST = {"two-ton": 0.28533333333, "everything": 0.45866666667}


def value(policy):
    return return_of(MODEL, policy)


@pytest.mark.parametrize(
    ("learner", "access", "steps", "expected"),
    [
        (TrajectoryTree(tons(*LAYERS, most=2), batch=500), "GenerativeModel", 4, BEST["two-ton"]),
        (ImportanceSampling(tons(*LAYERS, most=2), batch=4000), "Online", 4, BEST["two-ton"]),
        (Popler(tons(*LAYERS, most=2), batch=4000), "Online", 6, BEST["two-ton"]),
        (Psdp(everything(*LAYERS), batch=4000), "MuReset", 3, BEST["everything"]),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str | int | float) else str(x),
)
def test_a_learner_finds_the_best(learner, access, steps, expected):
    end = run(learner, default_access(access, MODEL), steps=steps, seed=1, progress=False)
    assert value(end.policy) == pytest.approx(expected, abs=1e-9)


def test_cpi_climbs_towards_the_optimum():
    end = run(
        Cpi(everything(*LAYERS), batch=1000, alpha=0.2), default_access("MuReset", MODEL), steps=30, progress=False
    )
    assert value(end.policy) > 0.42 > value(TabularPolicy.uniform(MODEL.S, 2))


def test_exact_cpi_makes_the_worked_steps():
    """Values of the iterates, by `return_of`, from the worked example of the page."""
    P, r, _ = tables_of(MODEL)
    probs, seen = np.full((3, 2, 2), 0.5), []
    for _ in range(3):
        seen.append(value(TabularPolicy(np.concatenate([probs.reshape(6, 2), [[1.0, 0.0]]]))))
        probs, _, _ = population_cpi_step(P, r, np.full((3, 2), 0.5), probs, everything(*LAYERS).actions)
    np.testing.assert_allclose(seen, [0.20266667, 0.21594569, 0.22925279], rtol=0, atol=5e-9)


def test_exact_psdp_is_optimal_with_all_policies():
    P, r, _ = tables_of(MODEL)
    taken, _ = population_psdp(P, r, np.full((3, 2), 0.5), everything(*LAYERS).actions, np.zeros_like(r))
    assert taken.tolist() == [[1, 1], [1, 1], [0, 1]]


def test_plhr_decodes_the_blocks_and_picks_a_good_member():
    model = make("block-two-state")
    policies = random_policies(*layers_of(model))
    end = run(Plhr(policies, rollouts=200), default_access("HybridResets", model), steps=10, progress=False)
    assert end.status == "done"
    assert end.state.clusters.tolist() == [2, 2, 2]
    blocks = end.state.label[:-1].reshape(3, 2, 4)
    assert (np.ptp(blocks, axis=2) == 0).all()
    assert (blocks[:, 0, 0] != blocks[:, 1, 0]).all()
    worth = [return_of(model, policies.policy(k)) for k in range(len(policies))]
    assert return_of(model, end.policy) > max(worth) - 0.03


def test_tree_sizes_are_hoeffdings():
    assert trees_needed(0.1, 7, 0.05) == int(np.ceil(200 * np.log(280)))
    with pytest.raises(SettingError, match="eps"):
        trees_needed(0.0, 7, 0.05)


def test_settings_out_of_range_are_refused():
    policies = tons(*LAYERS)
    for bad, told in (
        (lambda: TrajectoryTree(policies, batch=0), "batch"), (lambda: ImportanceSampling(policies, delta=1.0), "delta"),
        (lambda: Popler(policies, threshold=0.0), "threshold"), (lambda: Psdp(policies, batch=0), "batch"),
        (lambda: Cpi(policies, alpha=1.5), "alpha"), (lambda: Plhr(policies, tolerance=0.0), "tolerance"),
        (lambda: Plhr(policies, tests=0), "tests"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=told):
            bad()


def test_a_class_of_other_sizes_and_a_model_without_layers_are_refused():
    with pytest.raises(PolicyError, match="the model has"):
        run(TrajectoryTree(tons(4, 2, 2)), default_access("GenerativeModel", MODEL), steps=1, progress=False)
    flat = make("two-state")
    with pytest.raises(SettingError, match="not layered"):
        run(TrajectoryTree(tons(4, 2, 2)), default_access("GenerativeModel", flat), steps=1, progress=False)


def test_a_core_that_does_not_carry_the_class_is_refused():
    """{all 0} alone is no core of 1-tons, whatever the petals; data from elsewhere show it by a segment of weight 1/0."""
    policies, alone = tons(*LAYERS), np.zeros((1, 3, 2), dtype=np.int64)
    with pytest.raises(PolicyError, match="no sunflower"):
        Popler(policies, Sunflower(alone, np.ones((7, 3, 2), dtype=bool)))
    states, actions, mask = np.array([[0, 2, 4]]), np.array([[1, 0, 0]]), np.ones((1, 3), dtype=bool)
    core = PolicyClass(alone, 2).by_state
    with pytest.raises(PolicyError, match="policy 1 goes where no core policy goes"):
        segment_weights(core, policies.by_state, states, actions, mask, np.full((7, 1), 3))
    with pytest.raises(PolicyError, match="make one for this class"):
        Popler(tons(3, 2, 2, most=2), Sunflower(alone, np.zeros((7, 3, 2), dtype=bool)))


def test_a_class_that_is_too_large_to_search_says_so(monkeypatch):
    monkeypatch.setattr(spanning, "MOST", 200)
    with pytest.raises(SettingError, match="more than 200 assignments; use spanning_bounds"):
        spanning.spanning_capacity(tons(6, 6, 2).actions, 2)
