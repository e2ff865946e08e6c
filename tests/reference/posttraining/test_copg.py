"""CoPG in the reference room: worked numbers, who samples what, ties, offline runs, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from polytheory import models
from polytheory.access import Online
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.models.tabular_lm import TabularLM
from polytheory.reference.posttraining import copg as module
from polytheory.reference.posttraining.copg import Copg, TabularSoftmax
from polytheory.run import run

REWARD = "ones-minus-half-length"
MODEL = models.make("token-mdp", reward=REWARD)
START = TabularSoftmax.zeros(MODEL.S, MODEL.A)


def columns(gap, score, **more):
    """One token a completion, log-ratios ``gap`` to a reference at -3."""
    gap = np.asarray(gap, dtype=float)[:, None]
    ref = np.full(gap.shape, -3.0)
    n = len(gap)
    return {
        "mask": np.ones(gap.shape, dtype=bool), "log_probs": ref + gap, "log_probs_ref": ref,
        "score": np.asarray(score, dtype=float), "group": np.zeros(n, dtype=np.int64), **more,
    }  # fmt: skip


def slopes(part, given, **settings):
    terms = part(given, **settings)
    return terms.value, terms.pullback(np.ones_like(terms.value))["log_probs"][:, 0]


def test_worked_pair():
    given = columns([0.5, -1.0], [2.0, 1.0], pairs=np.array([[0, 1]]))
    # gain 1, D = 1.5, beta = 0.4: (1 - 0.6)^2 / 0.8 = 0.2; slope -(1 - 0.6)
    value, slope = slopes(module.copg, given, beta=0.4)
    assert_allclose(value, [0.2], rtol=1e-14)
    assert_allclose(slope, [-0.4, 0.4], rtol=1e-14)
    # l = (1 - 0.3) 1.5 = 1.05
    value, same = slopes(module.copg, given, beta=0.4, form="objective")
    assert_allclose(value, [-1.05], rtol=1e-14)
    assert_array_equal(same, slope)
    value, longer = slopes(module.copg, given, beta=0.4, scale="command_a")
    assert_allclose(value, [0.16], rtol=1e-14)
    assert_allclose(longer, 0.8 * slope, rtol=1e-14)


def test_ties_pull_back_to_the_reference():
    given = columns([0.5, -1.0], [1.0, 1.0], pairs=np.array([[0, 1]]))
    _, slope = slopes(module.copg, given, beta=0.4)
    assert_allclose(slope, [0.6, -0.6], rtol=1e-14)
    _, detached = slopes(module.copg_detached, given, beta=0.4)
    assert_allclose(detached, slope, rtol=1e-14)


def test_three_completions():
    given = columns([0.3, -0.2, 0.7], [1.0, 0.0, 2.0])
    given = module.all_pairs(given)
    assert_array_equal(given["pairs"], [[0, 1], [0, 2], [1, 2]])
    r = np.array([1.0, 0.0, 2.0]) - 0.5 * np.array([0.3, -0.2, 0.7])
    by_hand = [-(r[0] - (r[1] + r[2]) / 2), -(r[1] - (r[0] + r[2]) / 2), -(r[2] - (r[0] + r[1]) / 2)]
    assert_allclose(slopes(module.copg, given, beta=0.5)[1] / 2, by_hand, rtol=1e-13)
    assert_allclose(slopes(module.copg_detached, given, beta=0.5)[1], by_hand, rtol=1e-13)


def test_pairs_stay_within_groups_of_any_size_and_order():
    pairs = module.all_pairs({"group": np.array([4, 1, 4, 1, 4])})["pairs"]
    assert sorted(map(tuple, pairs)) == [(0, 2), (0, 4), (1, 3), (2, 4)]


def test_report_at_the_optimum():
    lm = TabularLM(3, 3)
    reward = lm.reward(lambda y: y.count(1) - 0.5 * len(y))
    ref = 0.5 * np.cos(2.0 * np.arange(lm.C)[:, None] + np.arange(lm.V))
    star = lm.logits_of(lm.tilted(ref, reward, 0.3))
    given = {
        "mask": lm.mask, "log_probs": lm.token_log_probs(star), "log_probs_ref": lm.token_log_probs(ref),
        "score": reward, "group": np.zeros(lm.N, dtype=np.int64),
    }  # fmt: skip
    pairs = module.all_pairs(given)
    report = module.margin_report(pairs, beta=0.3)
    gap = np.abs(np.subtract.outer(reward, reward))[np.triu_indices(lm.N, 1)] / 0.3
    assert report["residual_rms"] < 1e-13  # differences of sums of three logs of size 10
    assert_allclose(report["margin_max"], gap.max(), rtol=1e-12)
    assert_allclose(report["margin_rms"], np.sqrt((gap**2).mean()), rtol=1e-12)
    assert_allclose(report["margin_p90"], np.quantile(gap, 0.9), rtol=1e-12)
    assert report["ties"] == (gap == 0).mean() > 0
    assert module.margin_report(pairs, beta=0.6)["residual_rms"] > 0.1


@pytest.mark.parametrize(
    ("sampling", "steps"),
    [
        ("online", [[-1, -1, -1, -1]] * 4),
        ("offline", [[0, 1, 0, 1]] * 4),
        ("mixed", [[-1, 0, -1, 1]] * 4),
        ("ping_pong", [[0, 1, 0, 1]] * 2 + [[-1] * 4] * 2),
    ],
)
def test_sources(sampling, steps):
    learner = Copg(policy=START, group_size=4, sampling=sampling, period=2, behaviours=(START, START))
    assert [learner.sources(t).tolist() for t in range(4)] == steps


def peaked(action):
    """Always the same token, up to exp(-40)."""
    return TabularSoftmax(np.tile(40.0 * (np.arange(MODEL.A) == action), MODEL.S), MODEL.S, MODEL.A)


@pytest.mark.parametrize("sampling", ["offline", "mixed"])
def test_completions_come_from_their_sources_in_order(sampling):
    behaviours = (peaked(0), peaked(1))
    learner = Copg(policy=peaked(2), prompts=2, group_size=4, sampling=sampling, behaviours=behaviours)
    access = Online(MODEL)
    found = learner.sample(learner.init(access, 0), access)
    first = {-1: 2, 0: 0, 1: 1}
    expected = np.tile([first[int(k)] for k in learner.sources(0)], 2)
    assert_array_equal(found["actions"][:, 0], expected)
    assert_array_equal(found["group"], np.repeat([0, 1], 4))


def test_the_policy_that_samples_can_be_frozen_or_lag():
    access = Online(MODEL)
    for refresh, moved in ((None, []), (1, [1, 2, 3, 4]), (3, [3])):
        learner = Copg(policy=START, refresh=refresh, prompts=4)
        state = learner.init(access, 0)
        for t in range(1, 5):
            before = state.theta_old
            state, _ = learner.step(state, access)
            assert (state.theta_old is not before) == (t in moved)


def test_all_forms_make_the_same_run():
    ends = []
    variants: list[dict[str, Any]] = [
        {}, {"form": "objective"}, {"form": "detached"}, {"centre": True}, {"scale": "command_a"}
    ]  # fmt: skip
    for settings in variants:
        size = 0.1 / (2 * 0.3) if "scale" in settings else 0.1
        learner = Copg(policy=START, beta=0.3, group_size=3, prompts=2, step_size=size, updates=2, **settings)
        ends.append(run(learner, Online(MODEL), steps=5, seed=2).state.theta)
    for end in ends[1:]:
        assert_allclose(end, ends[0], rtol=0, atol=1e-13)  # ten updates of numbers of size 1
    assert np.abs(ends[0]).max() > 0.05


def regret(theta):
    lm, beta = TabularLM(3, 3), 0.5
    reward = lm.reward(lambda y: y.count(1) - 0.5 * len(y))
    logits, flat = theta.reshape(MODEL.S, MODEL.A)[:-1], np.zeros((lm.C, lm.V))
    best = beta * np.logaddexp.reduce(lm.log_probs(flat) + reward / beta)
    return best - (lm.probs(logits) @ reward - beta * lm.kl(logits, flat))


@pytest.mark.parametrize("sampling", ["online", "offline", "ping_pong"])
def test_runs_approach_the_optimum_from_any_completions(sampling):
    tables = [0.5 * np.sin((i + 1.0) * np.arange(MODEL.S * MODEL.A)) for i in range(2)]
    behaviours = tuple(TabularSoftmax(x, MODEL.S, MODEL.A) for x in tables)
    settings = {"sampling": sampling, "behaviours": behaviours, "refresh": None, "beta": 0.5, "prompts": 16}
    found = run(Copg(policy=START, step_size=0.8, **settings), Online(MODEL), steps=100, seed=0)
    start = regret(START.theta)
    # scores are exact, so that noise vanishes at the optimum: what is left is the contraction of rare sequences
    assert regret(found.state.theta) < 0.05 * start


@pytest.mark.parametrize(
    "bad",
    [
        {"beta": 0.0},
        {"beta": -1.0},
        {"beta": np.nan},
        {"beta": np.inf},
        {"group_size": 1},
        {"period": 0},
        {"refresh": 0},
    ],
)
def test_settings_out_of_range(bad):
    with pytest.raises(SettingError):
        Copg(policy=START, **bad)


@pytest.mark.parametrize("bad", [{"form": "cube"}, {"scale": "none"}, {"sampling": "of-line"}])
def test_unknown_names(bad):
    with pytest.raises(UnknownNameError):
        Copg(policy=START, **bad)


def test_bad_columns_are_named():
    good = columns([0.5, -1.0], [2.0, 1.0], pairs=np.array([[0, 1]]))
    with pytest.raises(ColumnError, match="row 1 is not finite"):
        module.copg({**good, "score": np.array([1.0, np.nan])})
    with pytest.raises(ColumnError, match="rows 0 to 2"):
        module.copg({**good, "pairs": np.array([[0, 2]])})
    with pytest.raises(ColumnError, match="group 1 has 1"):
        module.all_pairs({"group": np.array([0, 0, 1])})
    with pytest.raises(UnknownNameError):
        module.copg(good, form="detached")
    with pytest.raises(SettingError):
        module.baseline_reinforce({**good, "baseline": np.zeros(2)}, beta=0.0)


def test_the_sampler_is_never_asked_for_densities():
    access = Online(MODEL)
    learner = Copg(policy=START, sampling="offline", prompts=3)
    state = learner.init(access, 0)
    given = learner.scored(learner.sample(state, access), state)
    theta = state.theta + 0.1 * np.arange(state.theta.size) / state.theta.size
    spoilt = {
        **given,
        "log_probs_sampler": given["log_probs_sampler"] * np.nan,
        "log_probs_old": given["log_probs_old"] * np.nan,
    }
    (a, _), (b, _) = learner.prepare(given, {}), learner.prepare(spoilt, {})
    assert_array_equal(learner.gradient(a, theta)[1], learner.gradient(b, theta)[1])
    assert np.abs(learner.gradient(a, theta)[1]).max() > 0
