"""Fine-tuning: the tabular composition's own steps, whatever the split, and exact resumption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from language_table import TableModel, TokenWorld

from polytheory.access import Key, Online
from polytheory.access.language import Demonstrations, Prompts, WeightedReward
from polytheory.errors import ColumnError, SettingError
from polytheory.models.registry import make
from polytheory.models.tabular_lm import TabularLM
from polytheory.models.text.tasks import task
from polytheory.run import run
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import AdamW, NPgIgt, Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.sft import Sft
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.scaled.posttraining import updates
from polytheory.scaled.posttraining.copg import Copg
from polytheory.scaled.posttraining.grpo import Grpo
from polytheory.scaled.posttraining.nft import Nft
from polytheory.scaled.posttraining.riskpo import RiskPo
from polytheory.scaled.posttraining.softmax import TabularSoftmax

CASES = {
    "grpo": (Grpo, {"prompts": 2, "beta": 0.1}),
    "token mean": (
        Grpo,
        {"prompts": 2, "updates": 3, "eps_low": 0.05, "eps_high": 0.05, "normalisation": "token_mean"},
    ),
    "gspo": (Grpo, {"surrogate": "gspo", "updates": 2, "beta": 0.0}),
    "rloo": (Grpo, {"advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "beta": 0.0}),
    "dynamic": (Grpo, {"dynamic": True, "rounds": 3, "group_size": 4, "normalisation": "constant"}),
    "nft": (Nft, {"group_size": 8, "updates": 2}),
    "riskpo": (RiskPo, {"prompts": 4, "group_size": 4, "bundle_size": 2}),
    "copg": (Copg, {"prompts": 2, "group_size": 3, "beta": 0.3}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_table_learns_as_the_tabular_composition_does(case):
    """Two routes to the same steps: autograd through a module against the composition that is in lock-step with NumPy."""
    model, lm = make("token-mdp"), TabularLM()
    cls, settings = CASES[case]
    tabular = cls(policy=TabularSoftmax.zeros(model.S, model.A), step_size=1.0, **settings)
    end = run(tabular, Online(model).replicate(1), steps=6, seed=4)
    deep = Finetune(cls(policy=CausalPolicy(TableModel(lm), lm.eos), **settings), Sgd(1.0))
    got = run(deep, TokenWorld(lm), steps=6, seed=4)
    expected = end.state.theta[0].view(model.S, model.A)
    moved = float((expected - expected.mean(1, keepdim=True)).abs().max())
    assert moved > 0.1
    # six steps of float64 sums over at most 64 rows of 3 tokens: 1e-12 is a thousand roundings
    np.testing.assert_allclose(got.state.model.table[: lm.C], expected[: lm.C], atol=1e-12)


def test_n_pg_igt_on_a_table_is_the_update_of_the_composition():
    model, lm = make("token-mdp", reward="ones-minus-half-length"), TabularLM()
    settings = {**CASES["rloo"][1], "group_size": 4}
    update = updates.NPgIgt(gamma0=0.5)
    tabular = Grpo(policy=TabularSoftmax.zeros(model.S, model.A), update=update, **settings)
    end = run(tabular, Online(model).replicate(1), steps=6, seed=4)
    deep = Finetune(Grpo(policy=CausalPolicy(TableModel(lm), lm.eos), **settings), NPgIgt(gamma0=0.5))
    world = TokenWorld(lm)
    world.inner = Online(model).replicate(1)
    got = run(deep, world, steps=6, seed=4)
    np.testing.assert_allclose(
        got.state.model.table[: lm.C], end.state.theta[0].view(model.S, model.A)[: lm.C], atol=1e-11
    )
    assert got.history.column("learning_rate")[:, 0] == pytest.approx([0.5 * 2 / (t + 2) for t in range(6)])
    with pytest.raises(SettingError, match="every completion once"):
        Finetune(Grpo(policy=CausalPolicy(TableModel(lm), lm.eos), updates=2), NPgIgt())


@pytest.fixture(scope="module")
def words():
    tokenizer = character_tokenizer()
    it = task("copy")
    rows = it.rows(64)
    reward = [WeightedReward("digits", lambda completions, answer: [float(len(c) == 3) for c in completions])]
    policy = CausalPolicy(tiny_model(len(tokenizer), hidden=32, heads=1, feed_forward=32, layers=1), 1)
    return Prompts(rows, tokenizer, reward, max_length=5), policy, tokenizer, it, rows


def fresh(words):
    access, *_ = words
    return Prompts(access.rows, access.tokenizer, access.rewards, max_length=5)


def grpo(policy, **settings):
    return Grpo(policy=policy, prompts=4, group_size=4, **settings)


@pytest.mark.parametrize("normalisation", ["seq_mean", "token_mean", "constant"])
def test_micro_batches_do_not_change_the_update(words, normalisation):
    ends = []
    for micro in (1024, 4, 9):
        method = grpo(words[1], normalisation=normalisation)
        end = run(Finetune(method, Sgd(0.5), micro_batch=micro), fresh(words), steps=2)
        ends.append(torch.cat([p.detach().ravel() for p in end.state.model.parameters()]))
    start = torch.cat([p.detach().ravel() for p in words[1].model.parameters()])
    assert (ends[0] - start).abs().max() > 1e-3
    for other in ends[1:]:  # float32 sums in another order: 16 rows, some 1e-6 of the change
        assert (other - ends[0]).abs().max() < 1e-5 * (ends[0] - start).abs().max() + 1e-7


def test_resumed_equals_uninterrupted_bit_for_bit(words, tmp_path):
    method = Finetune(grpo(words[1], beta=0.1), AdamW(1e-3, warm_up=2, total=8), mini_batches=2)
    whole = run(method, fresh(words), steps=4, seed=1)
    run(method, fresh(words), steps=2, seed=1, checkpoint=tmp_path / "run")
    again = run(method, fresh(words), steps=4, seed=1, checkpoint=tmp_path / "run")
    for a, b in zip(whole.state.model.parameters(), again.state.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole.history.last("loss") == again.history.last("loss")
    assert again.state.updates == whole.state.updates == 8
    assert again.meter.total("episodes") == 64


def test_the_policy_that_was_passed_is_not_trained(words):
    before = [p.clone() for p in words[1].model.parameters()]
    run(Finetune(grpo(words[1]), AdamW(1e-2)), fresh(words), steps=1)
    assert all(torch.equal(a, b) for a, b in zip(before, words[1].model.parameters(), strict=True))


def test_a_warm_start_learns_to_imitate(words):
    _access, policy, tokenizer, _it, rows = words
    data = Demonstrations({**rows, "completion": ["77"] * 64}, tokenizer)
    end = run(Sft(policy, AdamW(1e-2), batch=16), data, steps=40)
    # the completion is always the same: its likelihood can go to one, whatever the prompt
    assert end.history.last("loss") < 0.1
    columns = data.next_rows(Key(0, "sft", 0), 0, 4)
    assert end.policy.log_probs(columns).sum(1).exp().min() > 0.7


def test_epochs_show_every_prompt_once(words):
    access = words[0]
    key = Key(5, "x", 0)
    seen = np.concatenate([access.next_prompts(key, i * 16, 16) for i in range(8)])
    assert sorted(seen[:64]) == list(range(64)) == sorted(seen[64:])
    assert list(seen[:64]) != list(seen[64:])
    assert list(access.next_prompts(key, 60, 8)) == list(seen[60:68])


def test_bad_input_is_one_line(words):
    access, policy, tokenizer, _it, rows = words
    with pytest.raises(ColumnError, match="'prompt'"):
        Prompts({"question": ["a"]}, tokenizer, access.rewards, max_length=3)
    with pytest.raises(ColumnError, match="needs the column 'target'"):
        Prompts(rows, tokenizer, [WeightedReward("r", lambda c, target: c)], max_length=3)
    with pytest.raises(ColumnError, match="'completion'"):
        Demonstrations(rows, tokenizer)
    with pytest.raises(SettingError, match="allowed are 2"):
        Prompts(rows, tokenizer, access.rewards, max_length=3, max_prompt_length=2)
    with pytest.raises(SettingError, match="CausalPolicy"):
        Finetune(Grpo(policy=TabularSoftmax.zeros(2, 2)))
    with pytest.raises(SettingError, match="copg samples from other policies"):
        Finetune(Copg(policy=policy, sampling="mixed"))
    with pytest.raises(SettingError, match="refresh = 2"):
        Finetune(Nft(policy=policy, refresh=2))
    with pytest.raises(SettingError, match="mini_batches"):
        Finetune(grpo(policy), mini_batches=0)


@pytest.mark.parametrize(
    ("reward", "text"),
    [
        (lambda completions: [1.0], "returned 1 scores for 16"),
        (lambda completions: [float("nan")] * len(completions), "must be a finite number"),
        (lambda completions: [None] * len(completions), "must be a finite number"),
    ],
)
def test_a_reward_that_lies_stops_the_run(words, reward, text):
    _access, policy, tokenizer, _it, rows = words
    world = Prompts(rows, tokenizer, [WeightedReward("r", reward)], max_length=3)
    with pytest.raises(ColumnError, match=text):
        run(Finetune(grpo(policy), Sgd(0.1)), world, steps=1)


def test_the_tabular_micro_batch_size_is_refused():
    lm = TabularLM()
    policy = CausalPolicy(TableModel(lm), lm.eos)
    with pytest.raises(SettingError, match="fine-tuning takes micro_batch"):
        Finetune(Grpo(policy=policy, micro_batch_size=2))
