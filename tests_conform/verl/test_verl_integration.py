"""Our parts in verl's registries: verl calls them, and they compute what the reference room computes.

The oracle is the reference room (NumPy, gradients in closed form) on the whole mini-batch at once, with advantages as its
own parts give them; verl's side goes through verl's registries, configurations and micro-batches.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mutants import rewritten
from omegaconf import OmegaConf
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig

import polytheory.integrations.verl as ours
from polytheory.errors import ColumnError, PolytheoryError, SettingError, UnknownNameError
from polytheory.integrations.parts import all_parts
from polytheory.integrations.verl import losses as losses_module
from polytheory.parts import Kind
from polytheory.reference.posttraining import corrections, nft
from polytheory.reference.posttraining.advantages import group_advantages, reinforce_advantages, rloo_advantages
from polytheory.reference.posttraining.base import Counts
from polytheory.reference.posttraining.composition import Use, evaluate

NFT, CORRECTIONS = nft.Nft, corrections.truncated_is  # importing registers their parts
ROWS, WIDTH, GROUP = 12, 7, 4
ROUNDING = 1e3 * float(np.finfo(float).eps)  # sums of a hundred products of numbers up to about 10, in float64


@pytest.fixture(scope="module")
def batch():
    """Three prompts of four completions: unequal lengths, a hole in a mask, two groups whose verdicts are mixed."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, WIDTH + 1, ROWS)
    mask = np.arange(WIDTH) < lengths[:, None]
    mask[3, 0] = False
    now = -1.5 + 0.6 * rng.standard_normal((ROWS, WIDTH))
    verdict = np.array([1.0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1])
    return {
        "mask": mask, "log_probs": now, "log_probs_old": now + 0.3 * rng.standard_normal((ROWS, WIDTH)),
        "log_probs_sampler": now + 0.3 * rng.standard_normal((ROWS, WIDTH)), "verdicts": verdict,
        "score": rng.standard_normal(ROWS), "group": np.repeat([0, 1, 2], GROUP),
    }  # fmt: skip


def by_verl(batch, estimator, score, algorithm=None):
    """Advantages [n, t] through verl's registry, called as verl's trainer calls it."""
    rewards = torch.zeros(ROWS, WIDTH, dtype=torch.float64)
    last = WIDTH - 1 - np.argmax(batch["mask"][:, ::-1], axis=1)
    rewards[torch.arange(ROWS), torch.as_tensor(last)] = torch.as_tensor(score)
    algorithm = {"gamma": 1.0, "lam": 1.0, "norm_adv_by_std_in_grpo": True, **(algorithm or {})}
    advantages, returns = core_algos.get_adv_estimator_fn(estimator)(
        token_level_rewards=rewards, response_mask=torch.as_tensor(batch["mask"]).long(), config=OmegaConf.create(algorithm),
        index=np.array([f"prompt {2 - g}" for g in batch["group"]], dtype=object),
    )  # fmt: skip
    assert advantages is returns
    return advantages


ESTIMATORS = {
    "polytheory_grpo": (group_advantages, {"ddof": 0, "eps": 1e-6}),
    "polytheory_group": (group_advantages, {"scale": "batch"}),
    "polytheory_rloo": (rloo_advantages, {}),
    "polytheory_reinforce": (reinforce_advantages, {"baseline": 0.25}),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_advantages_are_those_of_the_reference_room(batch, name):
    part, settings = ESTIMATORS[name]
    expected = part({"score": batch["score"], "group": batch["group"]}, **settings)["advantages"]
    found = by_verl(batch, name, batch["score"], {"polytheory": settings}).numpy()
    np.testing.assert_allclose(found, np.where(batch["mask"], expected[:, None], 0.0), rtol=0, atol=ROUNDING)


def actor(name, settings, average, counts, **others):
    """verl's configuration of an actor with a loss of ours, and the counts of the mini-batch where verl puts them."""
    policy = ours.policy_loss_config(loss_mode=name, polytheory=settings)
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        policy_loss=policy,
        loss_agg_mode=average,
        **others,
    )
    config.global_batch_info.update(
        dp_size=2,
        batch_num_tokens=counts.tokens,
        global_batch_size=counts.sequences,
        loss_scale_factor=config.loss_scale_factor,
    )  # fmt: skip
    return config


def loss_by_verl(batch, name, settings, average, advantages, weights=None, **others):
    """Value and gradient [n, t] of verl's mini-batch on two ranks with two micro-batches each, as verl sums and averages."""
    counts = Counts.of(batch)
    now = torch.tensor(batch["log_probs"], requires_grad=True)
    total = torch.zeros((), dtype=torch.float64)
    config = actor(name, settings, average, counts, **others)
    for rows in np.array_split(np.random.default_rng(1).permutation(ROWS), 4):
        value, metrics = core_algos.get_policy_loss_fn(config.policy_loss.get("loss_mode", "vanilla"))(
            old_log_prob=torch.tensor(batch["log_probs_old"][rows]), log_prob=now[rows], advantages=advantages[rows],
            response_mask=torch.tensor(batch["mask"][rows]), loss_agg_mode=config.loss_agg_mode, config=config,
            rollout_is_weights=None if weights is None else torch.tensor(weights[rows]),
        )  # fmt: skip
        assert set(metrics) == {"actor/ppo_kl"}
        total = total + value / 2  # gradients are averaged over the two ranks
    (gradient,) = torch.autograd.grad(total, now)
    return float(total.detach()), gradient.numpy()


AVERAGES = {
    "token-mean": ("token_mean", {}),
    "token-sum": ("token_sum", {}),
    "seq-mean-token-sum": ("seq_sum", {}),
    "seq-mean-token-mean": ("seq_mean", {}),
    "seq-mean-token-sum-norm": ("constant", {"loss_scale_factor": 16}),
}
LOSSES = {
    "polytheory_grpo": ("ppo_clip", {"eps_low": 0.1, "eps_high": 0.28, "dual": 2.0}),
    "polytheory_cispo": ("cispo", {"ratio_high": 1.1}),
    "polytheory_reinforce": ("reinforce", {}),
    "polytheory_gspo": ("gspo", {"eps_low": 0.05, "eps_high": 0.1}),
}
CASES = [(n, a) for n in LOSSES for a in AVERAGES if n != "polytheory_gspo" or a == "seq-mean-token-mean"]


def check_loss(batch, name, average, weights=None):
    """verl's value and gradient are those of the reference room, on the whole mini-batch. Raises `AssertionError`."""
    part, settings = LOSSES[name]
    normalisation, others = AVERAGES[average]
    advantages = rloo_advantages({"score": batch["score"], "group": batch["group"]})["advantages"]
    columns = {**batch, "advantages": advantages}
    if weights is not None:
        columns["sampler_weights"] = weights
        weights = weights if weights.ndim == 2 else weights[:, None] * batch["mask"]
    expected, slopes = evaluate(columns, [Use(part, settings)], normalisation=normalisation, max_length=16)
    signal = by_verl(batch, "polytheory_rloo", batch["score"])
    value, gradient = loss_by_verl(batch, name, settings, average, signal, weights, **others)
    np.testing.assert_allclose(value, expected, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(gradient, np.where(batch["mask"], slopes["log_probs"], 0.0), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("name", "average"), CASES)
def test_losses_are_those_of_the_reference_room_however_the_batch_is_split(batch, name, average):
    check_loss(batch, name, average)


def test_weights_of_the_sampler_multiply_the_advantage(batch):
    tokens, rows = (corrections.truncated_is(batch, cap=1.5, unit=u)["sampler_weights"] for u in ("token", "sequence"))
    check_loss(batch, "polytheory_cispo", "token-mean", tokens)
    check_loss(batch, "polytheory_gspo", "seq-mean-token-mean", rows)
    signal = by_verl(batch, "polytheory_rloo", batch["score"])
    with pytest.raises(ColumnError, match="sampler_weights differ between the tokens of row"):
        loss_by_verl(batch, "polytheory_gspo", {}, "seq-mean-token-mean", signal, tokens)


def check_nft(batch):
    """Verdicts travel in the advantages; groups of one verdict have no loss but count. Raises `AssertionError`."""
    packed = by_verl(batch, "polytheory_nft", batch["verdicts"])
    value, gradient = loss_by_verl(batch, "polytheory_nft", {"eps": 0.5}, "token-mean", packed)
    columns = nft.group_verdicts({**batch, "score": batch["verdicts"], "row": np.arange(ROWS)})
    columns = nft.mixed_groups(columns)
    expected, slopes = evaluate(
        columns, [Use("nft", {"eps": 0.5})], normalisation="token_mean", counts=Counts.of(batch)
    )
    whole = np.zeros((ROWS, WIDTH))
    whole[columns["row"]] = np.where(columns["mask"], slopes["log_probs"], 0.0)
    assert 0 < len(columns["row"]) < ROWS
    np.testing.assert_allclose(value, expected, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(gradient, whole, rtol=0, atol=ROUNDING)


def test_nft_goes_through_packed_advantages(batch):
    check_nft(batch)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ranks * (w * terms)", "-ranks * (w * terms)"),
        ("ranks * (w * terms)", "(w * terms)"),
        ("part.unit, counts,", "part.unit, Counts.of(columns),"),
        ("AVERAGES[loss_agg_mode]", '"seq_mean"'),
        ('"log_probs_old": old_log_prob', '"log_probs_old": log_prob.detach()'),
        ("keep = keep & ((advantages != 0) & mask).any(1)", "keep = keep & ((advantages > 0) & mask).any(1)"),
    ],
)
def test_a_wrong_hook_is_noticed(batch, monkeypatch, old, new):
    make = rewritten(losses_module.policy_loss, old, new)
    for name, part in (("polytheory_grpo", "ppo_clip"), ("polytheory_nft", "nft")):
        monkeypatch.setitem(core_algos.POLICY_LOSS_REGISTRY, name, make(all_parts()[part]))
    with pytest.raises(AssertionError):
        check_both(batch)


def check_both(batch):
    """A loss averaged over tokens, and NFT."""
    check_loss(batch, "polytheory_grpo", "token-mean")
    check_nft(batch)


def test_equal_settings_make_verls_own_loss(batch):
    signal = by_verl(batch, "polytheory_rloo", batch["score"])
    own = loss_by_verl(batch, "polytheory_grpo", {"dual": 3.0}, "token-mean", signal)
    stock = core_algos.get_policy_loss_fn("vanilla")
    now = torch.tensor(batch["log_probs"], requires_grad=True)
    config = actor("vanilla", {}, "token-mean", Counts.of(batch))
    config.global_batch_info["dp_size"] = 1
    value, _ = stock(
        old_log_prob=torch.tensor(batch["log_probs_old"]), log_prob=now, advantages=signal,
        response_mask=torch.tensor(batch["mask"]), loss_agg_mode="token-mean", config=config,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(value, now)
    np.testing.assert_allclose(own[0], float(value), rtol=ROUNDING)
    np.testing.assert_allclose(own[1], gradient.numpy(), rtol=0, atol=ROUNDING)


def test_the_table_is_what_happens(batch):
    rows = ours.table()
    assert {row.part for row in rows} == {*all_parts().names(Kind.ADVANTAGE), *all_parts().names(Kind.LOSS)}
    for row in rows:
        if row.carried:
            run(batch, row)
            continue
        with pytest.raises(
            SettingError, match=re.escape(f"verl cannot carry polytheory_{row.part}: {row.note}")
        ) as found:
            run(batch, row)
        assert "\n" not in str(found.value)


def run(batch, row):
    """Call what a row of the table names through verl's registry."""
    if row.kind == "advantage":
        return by_verl(batch, row.name, batch["verdicts"])
    signal = torch.tensor(np.where(batch["mask"], 0.5, 0.0))
    return loss_by_verl(batch, row.name, {}, "seq-mean-token-mean", signal)


def bad(batch, name="polytheory_grpo", settings=None, average="token-mean", **others):
    return loss_by_verl(
        batch, name, settings or {}, average, by_verl(batch, "polytheory_rloo", batch["score"]), **others
    )


REFUSED = [
    (lambda b: bad(b, settings={"epslow": 0.1}), UnknownNameError, "did you mean 'eps_low'"),
    (lambda b: bad(b, clip_ratio_high=0.28), SettingError, "verl's clip_ratio_high = 0.28 would be ignored"),
    (lambda b: bad(b, name="polytheory_gspo"), SettingError, "set seq-mean-token-mean"),
    (lambda b: bad(b, average="seq-mean-token-sum-norm"), SettingError, "set actor.loss_scale_factor"),
    (lambda b: bad(b, name="vanilla", settings={"eps_low": 0.1}), UnknownNameError, "unknown loss of ours 'vanilla'"),
    (lambda b: by_verl(b, "polytheory_rloo", b["score"], {"gamma": 0.9}), SettingError, "verl's gamma = 0.9"),
    (lambda b: by_verl(b, "polytheory_grpo", b["score"], {"norm_adv_by_std_in_grpo": False}), SettingError, "scale=none"),
    (lambda b: by_verl(b, "polytheory_grpo", b["score"], {"polytheory": {"epsilon": 1}}), UnknownNameError, "'epsilon'"),
    (lambda b: by_verl(b, "polytheory_nft", b["score"]), ColumnError, "is no verdict"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[2])
def test_what_would_be_ignored_or_cannot_be_is_refused_in_one_line(batch, case):
    run, error, text = case
    with pytest.raises(error, match=re.escape(text)) as found:
        run(batch)
    assert isinstance(found.value, PolytheoryError)
    assert "\n" not in str(found.value)


PROCESS = """
import verl
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY
print("registered", "polytheory_gspo" in POLICY_LOSS_REGISTRY, "polytheory_rloo" in ADV_ESTIMATOR_REGISTRY)
"""


@pytest.mark.parametrize("way", [{}, {"VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_USE_EXTERNAL_MODULES": ours.__name__}])
def test_every_process_that_imports_verl_has_our_parts(way):
    found = subprocess.run(
        [sys.executable, "-c", PROCESS],
        env={**os.environ, **way},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "registered True True" in found.stdout, found.stderr[-2000:]
