"""Numbers of a step against sums written out token by token, and against the exact laws of a table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from language_table import TableModel, TokenWorld

from polytheory.errors import DivergedError
from polytheory.models.tabular_lm import TabularLM
from polytheory.run import run
from polytheory.scaled.language import metrics
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.posttraining.composition import Use
from polytheory.scaled.posttraining.grpo import Grpo

EXACT = {"rel": 1e-12, "abs": 1e-15}  # sums of some dozen float64 numbers
RECIPES = {
    "ppo_clip": Use("ppo_clip", {"eps_low": 0.2, "eps_high": 0.28}),
    "gspo": Use("gspo", {"eps_low": 0.05, "eps_high": 0.1}),
    "cispo": Use("cispo", {"ratio_high": 1.3}),
}


def batch(seed=0, n=8, t=5):
    """Rows of random lengths with log-probs some tenths of a nat apart."""
    rng = np.random.default_rng(seed)
    mask = np.arange(t) < rng.integers(1, t + 1, n)[:, None]
    old = np.where(mask, np.log(rng.uniform(0.1, 0.9, (n, t))), 0.0)
    columns = {
        "mask": mask, "log_probs_old": old, "log_probs_sampler": old,
        "log_probs": np.where(mask, old + 0.4 * rng.normal(size=(n, t)), 0.0),
        "log_probs_ref": np.where(mask, old + 0.4 * rng.normal(size=(n, t)), 0.0), "advantages": rng.normal(size=n),
    }  # fmt: skip
    return {name: torch.as_tensor(x) for name, x in columns.items()}


def clipped_by_hand(columns, part, settings):
    """(low, high) of every term, one token or sequence at a time."""
    found = []
    for row, length in enumerate(columns["mask"].sum(1).tolist()):
        a = float(columns["advantages"][row])
        gaps = [float(columns["log_probs"][row, t] - columns["log_probs_old"][row, t]) for t in range(length)]
        ratios = [math.exp(sum(gaps) / length)] if part == "gspo" else [math.exp(g) for g in gaps]
        for ratio in ratios:
            if part == "cispo":
                found.append((False, ratio > settings["ratio_high"] and a > 0))
            else:
                low, high = 1 - settings["eps_low"], 1 + settings["eps_high"]
                found.append((ratio < low and a < 0, ratio > high and a > 0))
    return np.array(found)


@pytest.mark.parametrize("part", RECIPES)
@pytest.mark.parametrize("passes", [1, 3])
def test_clip_ratios_count_the_terms_that_the_clip_changes(part, passes):
    columns, use = batch(), RECIPES[part]
    tally = metrics.Tally([use])
    for rows in torch.arange(8).tensor_split(passes):
        tally.add({name: x[rows] for name, x in columns.items()}, 1)
    low, high = clipped_by_hand(columns, part, use.settings).T
    assert low.any() or part == "cispo"
    assert high.any()
    means = tally.means()
    if part == "cispo":
        assert means["cispo_clip_ratio"] == pytest.approx(high.mean(), **EXACT)
    else:
        expected = {"low": low.mean(), "high": high.mean(), "region": (low | high).mean()}
        assert {k: means[f"clip_ratio/{k}_mean"] for k in expected} == pytest.approx(expected, **EXACT)


def test_clipped_terms_are_those_without_gradient():
    # another route to the same set: where the surrogate passes no slope
    columns = batch(3)
    now = columns["log_probs"].clone().requires_grad_(True)
    from polytheory.scaled.posttraining.losses import ppo_clip

    (slope,) = torch.autograd.grad(ppo_clip({**columns, "log_probs": now}, eps_low=0.2, eps_high=0.28).sum(), now)
    stopped = (slope == 0) & columns["mask"]
    tally = metrics.Tally([RECIPES["ppo_clip"]])
    tally.add(columns, 0)
    assert 0 < stopped.sum() < columns["mask"].sum()
    expected = float(stopped.sum() / columns["mask"].sum())
    assert tally.means()["clip_ratio/region_mean"] == pytest.approx(expected, rel=1e-6)


def test_divergences_are_means_over_tokens():
    columns, tally = batch(1), metrics.Tally(())
    tally.add(columns, 0)
    tally.add(columns, 1)
    tally.add({**columns, "log_probs": columns["log_probs_old"]}, 2)
    kl = [
        math.exp(r - p) - 1 - (r - p)
        for p, r, m in zip(
            columns["log_probs"].ravel(), columns["log_probs_ref"].ravel(), columns["mask"].ravel(), strict=True
        )
        if m
    ]
    again = [
        math.exp(r - p) - 1 - (r - p)
        for p, r, m in zip(
            columns["log_probs_old"].ravel(), columns["log_probs_ref"].ravel(), columns["mask"].ravel(), strict=True
        )
        if m
    ]
    found = tally.means()
    assert found["kl"] == pytest.approx(np.mean([*kl, *kl, *again]), **EXACT)
    assert found["kl_old"] == 0  # of the last update alone


class Watched(TokenWorld):
    """Keeps what it handed out."""

    def rollouts(self, policy, requests, key):
        self.seen = super().rollouts(policy, requests, key)
        return self.seen

    def state_dict(self):
        return {"meter": self.meter.state_dict()}

    def load_state_dict(self, state):
        self.meter.load_state_dict(state["meter"])


def table(seed=0):
    lm = TabularLM()
    model = TableModel(lm)
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return lm, model


def rows_of(lm, actions, mask):
    """(context, token) of every trained token."""
    return [
        (lm.contexts.index(tuple(row[:t])), row[t])
        for row, m in zip(actions.tolist(), mask.tolist(), strict=True)
        for t in range(sum(m))
    ]


def law(model):
    logits = model.table.numpy()
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def test_entropy_and_divergence_of_a_step_are_those_of_the_table():
    lm, model = table()
    world = Watched(lm)
    settings = {"prompts": 2, "beta": 0.0, "normalisation": "seq_sum"}
    policy = CausalPolicy(model, lm.eos)
    end = run(Finetune(Grpo(policy=policy, updates=2, **settings), Sgd(0.3), micro_batch=8), world, steps=1)
    once = run(Finetune(Grpo(policy=policy, **settings), Sgd(0.3)), Watched(lm), steps=1)
    rows = rows_of(lm, world.seen.actions, world.seen.mask)
    p, q = law(model), law(once.state.model)  # the second update sees the weights after the first
    entropy = np.mean([-(p[c] * np.log(p[c])).sum() for c, _ in rows])
    gaps = np.array([np.log(q[c, v]) - np.log(p[c, v]) for c, v in rows])
    assert float(end.history.last("entropy")[0]) == pytest.approx(entropy, rel=1e-12)
    # the difference exp(d) - 1 - d of terms near 0.1 keeps some 14 digits
    assert float(end.history.last("kl_old")[0]) == pytest.approx(np.mean(np.exp(gaps) - 1 - gaps), rel=1e-11)
    assert "kl" not in end.history.names
    assert "kl_old" not in once.history.names


def test_tokens_are_counted_on_over_steps_and_a_resume(tmp_path):
    lm, model = table()
    learner = Finetune(Grpo(policy=CausalPolicy(model, lm.eos)), Sgd(0.1))
    total, expected, world = 0, [], Watched(lm)

    def count(state, info, step):
        nonlocal total
        total += len(world.seen.mask) + int(world.seen.mask.sum())  # a prompt is one token here
        expected.append(total)

    run(learner, world, steps=2, callbacks=[count], checkpoint=tmp_path)
    world = Watched(lm)
    end = run(learner, world, steps=4, callbacks=[count], checkpoint=tmp_path)
    assert end.history.column("num_tokens")[:, 0].tolist() == expected


def test_rewards_and_lengths_by_hand():
    columns = {
        "score": torch.tensor([0.1, 0.1, 0.1, 1.0, 0.0, 1.0]), "group": torch.tensor([3, 3, 3, 7, 7, 7]),
        "mask": torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]], dtype=torch.bool),
        "finished": torch.tensor([1, 1, 0, 1, 1, 0], dtype=torch.bool), "reward/a": torch.tensor([1.0, 2, 3, 4, 5, 6]),
    }  # fmt: skip
    found = metrics.sampling(columns)
    assert found["frac_reward_zero_std"] == 0.5  # three times 0.1, whose rounded mean differs from 0.1
    assert found["reward"] == pytest.approx(2.3 / 6, rel=1e-6)
    assert found["reward_std"] == pytest.approx(np.std([0.1, 0.1, 0.1, 1, 0, 1], ddof=1), rel=1e-6)
    assert (found["rewards/a/mean"], found["rewards/a/std"]) == pytest.approx((3.5, math.sqrt(3.5)), rel=1e-12)
    lengths = {k: found[f"completions/{k}_length"] for k in ("mean", "min", "max")}
    assert lengths == pytest.approx({"mean": 14 / 6, "min": 1, "max": 3})
    ended = {k: found[f"completions/{k}_terminated_length"] for k in ("mean", "min", "max")}
    assert ended == {"mean": 2.0, "min": 1.0, "max": 3.0}
    assert found["completions/clipped_ratio"] == pytest.approx(2 / 6)


def test_weights_of_a_correction():
    mask = torch.tensor([[True, True], [True, False]])
    weights = torch.tensor([[0.5, 2.0], [1.1, 99.0]])
    found = metrics.weights_of_correction({"mask": mask, "sampler_weights": weights})
    assert list(found.values()) == pytest.approx([0.5, 3.6 / 3, 2.0])
    assert metrics.weights_of_correction({"mask": mask}) == {}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"updates": 2}, r"step 0: the policy is .* nats per token from the policy that sampled \(key kl_old\)"),
        ({"beta": 0.1}, r"step 1: the policy is .* nats per token from the reference \(key kl\)"),
    ],
)
def test_a_step_too_large_ends_the_run_and_says_what_to_try(settings, text):
    lm, model = table(1)
    method = Grpo(policy=CausalPolicy(model, lm.eos), prompts=4, **settings)
    learner = Finetune(method, Sgd(1e3), max_kl=0.3, mismatch_tolerance=None)
    with pytest.raises(DivergedError, match=text):
        run(learner, TokenWorld(lm), steps=8)
