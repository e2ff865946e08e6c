"""NFT's parts: worked numbers, gradients by differences, refusals, packing; refresh and empty steps of the method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from posttraining_batches import batch

from polytheory import models
from polytheory.access import Online
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.proofs_check.posttraining.probe import toy
from polytheory.reference.posttraining.composition import Use, evaluate
from polytheory.reference.posttraining.nft import (
    Nft,
    TabularSoftmax,
    group_verdicts,
    mixed_groups,
    nft,
    pack_verdicts,
    prompt_weight,
    unpack_verdicts,
)

ODD = models.make("token-mdp")


def tokens(verdict, r_hat, ratio):
    """Answers of one token each."""
    gap = np.log(np.asarray(ratio, dtype=float))[:, None]
    n = len(gap)
    return {
        "mask": np.ones((n, 1), dtype=bool), "verdict": np.full(n, float(verdict)), "r_hat": np.full(n, r_hat),
        "log_probs": gap, "log_probs_old": 0 * gap,
    }  # fmt: skip


def slopes(columns, **settings):
    return nft(columns, **settings).pullback(np.ones(columns["mask"].shape))["log_probs"][:, 0]


@pytest.mark.parametrize(
    ("weight", "k", "right", "wrong"),
    [
        ("root_odds", 1, 1.7320508, -0.5773503), ("root_odds", 3, 0.5773503, -1.7320508),
        ("complement", 1, 0.75, -0.25), ("one", 1, 1.0, -1 / 3),
    ],
)  # fmt: skip
def test_weights_of_one_and_three_right_answers_in_four(weight, k, right, wrong):
    score = (np.arange(4) < k).astype(float)
    columns = group_verdicts({"score": score, "group": np.zeros(4, dtype=int)})
    columns |= {"mask": np.ones((4, 1), dtype=bool), "log_probs": -np.ones((4, 1)), "log_probs_old": -np.ones((4, 1))}
    assert_allclose(-slopes(columns, weight=weight), np.where(score > 0, right, wrong), atol=5e-8)


def test_the_bound_in_numbers():
    r, ratio = 0.3797133368, np.array([0.5, 1.0, 1.5, 2.5])
    at_one = slopes(tokens(0, r, ratio), weight="one", eps=1.0) / ratio
    at_tenth = slopes(tokens(0, r, ratio), weight="one", eps=0.1) / ratio
    assert_allclose(at_one, [0.4686990, 0.6121578, 0.6121578, 0.6121578], atol=5e-8)
    assert_allclose(at_tenth, [0.4686990, 0.6121578, 0.8821721, 6.1215783], atol=5e-8)
    for eps, loss, per_ratio in ((1.0, 0.0, 0.3333333), (0.1, 0.1053605, 0.3703704)):
        one = tokens(0, 0.25, [1.3])
        assert_allclose(nft(one, weight="one", eps=eps).value[0, 0], loss, atol=5e-8)
        assert_allclose(slopes(one, weight="one", eps=eps) / 1.3, per_ratio, atol=5e-8)


def test_the_weight_without_root_is_not_grpo():
    probe = toy()
    r = float(probe.lm.probs(probe.old) @ probe.reward)
    exact = probe.lm.gradient(probe.old, probe.reward) / np.sqrt(r * (1 - r))
    columns = {**probe.columns(), "verdict": probe.reward, "r_hat": np.full(probe.lm.N, r)}
    columns |= {"log_probs": columns["log_probs_sampler"], "log_probs_old": columns["log_probs_sampler"]}  # of OLD
    chance = probe.lm.probs(probe.old)[:, None] * probe.lm.mask

    def direction(factor):
        slope = -nft(columns, weight="one").pullback(chance)["log_probs"]
        return factor * np.tensordot(slope, probe.lm.token_scores(probe.old), axes=2)

    root, odds = prompt_weight(r, "root_odds", np.sqrt), prompt_weight(r, "root_odds", lambda x: x)
    assert_allclose(direction(root), exact, rtol=0, atol=1e-12)
    gap = direction(odds) - exact
    assert_allclose(np.linalg.norm(direction(odds)) / np.linalg.norm(exact), 1.27811, atol=5e-6)
    assert_allclose(np.abs(gap).max(), 0.0636, atol=5e-5)


@pytest.mark.parametrize("negatives", ["implicit", "none", "contrast"])
@settings(max_examples=8)
@given(seed=st.integers(0, 999), weight=st.sampled_from(["complement", "root_odds", "one"]), soft=st.booleans())
def test_gradient_by_differences_where_nothing_is_bounded(negatives, seed, weight, soft):
    columns = batch(seed, 2, scale=0.05)
    columns["r_hat"] = columns["r_hat"] / 2  # r R stays below 1 by far, so x is above eps
    if soft:
        columns["verdict"] = np.random.default_rng(seed).random(len(columns["verdict"]))
    uses = [Use("nft", {"weight": weight, "eps": 1e-3, "negatives": negatives})]
    _, gradient = evaluate(columns, uses, normalisation="token_mean")
    direction, h = np.random.default_rng(seed).normal(size=columns["mask"].shape), 1e-5
    ahead, behind = (
        evaluate({**columns, "log_probs": columns["log_probs"] + s * h * direction}, uses, normalisation="token_mean")[
            0
        ]
        for s in (1, -1)
    )
    # third derivatives below 100 times h^2, rounding 1e-16 / h
    assert_allclose((gradient["log_probs"] * direction).sum(), (ahead - behind) / (2 * h), rtol=1e-7, atol=1e-7)


def test_huge_ratios_stay_finite():
    for ratio in ([1e-3, 1.0, 1e3], [1e-9, 1e3, 1e30]):  # the last one beyond the clamp
        for verdict in (0, 1, 0.5):
            for eps in (1.0, 1e-6):
                columns = tokens(verdict, 0.99, ratio)
                assert np.isfinite(nft(columns, eps=eps).value).all()
                assert np.isfinite(slopes(columns, eps=eps)).all()


def test_rates_are_of_the_whole_group_and_survive_the_filter():
    given_ = {"score": np.array([1.0, 0, 1, 1, 0, 0, 0]), "group": np.array([4, 4, 9, 9, 4, 2, 2])}
    marked = group_verdicts(given_)
    assert_allclose(marked["r_hat"], [1 / 3, 1 / 3, 1, 1, 1 / 3, 0, 0])
    assert_allclose(mixed_groups(marked)["r_hat"], [1 / 3] * 3)
    soft = group_verdicts({"score": np.array([0.2, 0.6]), "group": np.zeros(2, dtype=int)}, soft=True)
    assert_allclose(soft["r_hat"], 0.4)


@settings(max_examples=20)
@given(size=st.integers(2, 64), data=st.data())
def test_packing_carries_verdict_and_rate(size, data):
    right = data.draw(st.integers(1, size - 1))
    columns = group_verdicts({"score": (np.arange(size) < right) * 1.0, "group": np.zeros(size, dtype=int)})
    packed = pack_verdicts(columns)["advantages"]
    back = unpack_verdicts({"mask": np.ones((size, 2), dtype=bool), "advantages": packed})
    assert_array_equal(back["verdict"], columns["verdict"])
    assert_allclose(back["r_hat"], right / size, rtol=0, atol=2.0**-52)


BAD = [
    (lambda: group_verdicts({"score": np.array([1.0, -1.0]), "group": np.zeros(2, dtype=int)}), "score -1.0 of row 1"),
    (lambda: group_verdicts({"score": np.array([1.0, 0.5]), "group": np.zeros(2, dtype=int)}), "0 or 1"),
    (lambda: group_verdicts({"score": np.array([np.nan, 0]), "group": np.zeros(2, dtype=int)}, soft=True), "score nan"),
    (lambda: group_verdicts({"score": np.array([1.2, 0]), "group": np.zeros(2, dtype=int)}, soft=True), r"in \[0, 1\]"),
    (lambda: group_verdicts({"score": np.array([1.0]), "group": np.zeros(1, dtype=int)}), "1 completion"),
    (lambda: nft(tokens(1, 1.0, [1.0])), "put mixed_groups before"),
    (lambda: nft(tokens(0, 0.0, [1.0])), r"r_hat = 0.0 of row 0; it must lie in \(0, 1\)"),
    (lambda: nft(tokens(0, np.nan, [1.0])), "r_hat = nan"),
    (lambda: nft(tokens(1.5, 0.5, [1.0])), "score 1.5"),
    (lambda: pack_verdicts(tokens(0.5, 0.5, [1.0])), "no verdict"),
    (lambda: unpack_verdicts({"mask": np.ones((1, 1), dtype=bool), "advantages": np.zeros(1)}), "no packed verdict"),
    (lambda: unpack_verdicts({"mask": np.ones((1, 1), dtype=bool), "advantages": np.ones(1)}), r"0 < \|A\| < 1"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_columns_are_refused_in_one_line(call, message):
    with pytest.raises(ColumnError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"weight": "odds"}, UnknownNameError, "unknown prompt weight 'odds'"),
        ({"negatives": "all"}, UnknownNameError, "unknown use of negatives"),
        ({"eps": 0.0}, SettingError, "eps = 0.0"), ({"eps": 1.5}, SettingError, "eps = 1.5"),
        ({"refresh": 0}, SettingError, "refresh = 0"), ({"group_size": 1}, SettingError, "at least 2"),
        ({"packed": True, "soft": True}, SettingError, "soft verdicts"),
    ],
)  # fmt: skip
def test_settings_are_checked(setting, error, message):
    with pytest.raises(error, match=message):
        Nft(policy=TabularSoftmax.zeros(ODD.S, ODD.A), **setting)


def run(steps, **settings):
    made, access = Nft(policy=TabularSoftmax.zeros(ODD.S, ODD.A), **settings), Online(ODD)
    state, infos = made.init(access, 2), []
    for _ in range(steps):
        state, info = made.step(state, access)
        infos.append(info)
    return state, infos, access


def test_on_policy_loss_is_zero_until_the_old_policy_is_older():
    assert {info["loss"] for info in run(4, step_size=1.0)[1]} == {0.0}
    losses = [info["loss"] for info in run(4, step_size=1.0, refresh=2)[1]]
    assert losses[0] == losses[2] == 0.0
    assert abs(losses[1]) > 1e-6


def test_packing_changes_nothing():
    plain, packed = (run(8, step_size=1.0, updates=3, packed=p)[0].theta for p in (False, True))
    assert_allclose(packed, plain, rtol=1e-12, atol=1e-13)
    assert np.abs(plain).max() > 0.1


def test_refilling_until_enough_groups_are_mixed():
    settings = {"group_size": 2, "prompts": 2, "step_size": 0.1}
    one, many = run(20, **settings), run(20, rounds=6, **settings)
    assert sum(i["rows"] for i in one[1]) < sum(i["rows"] for i in many[1]) <= 20 * 4
    assert many[2].meter.total("episodes") > 20 * 4


def test_it_learns_and_rejection_sampling_has_no_other_data():
    assert np.mean([i["mean_return"] for i in run(60, step_size=2.0, prompts=2)[1][-10:]]) > 0.9
    half = {"negatives": "none", "weight": "one", "step_size": 2.0, "prompts": 2}
    assert np.mean([i["mean_return"] for i in run(60, **half)[1][-10:]]) > 0.9
