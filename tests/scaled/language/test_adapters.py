"""Adapters: the base stays, the reference is the base, what is merged is what was trained, and resumption is exact."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from polytheory.access import Key
from polytheory.access.language import Demonstrations, Prompts, WeightedReward
from polytheory.checkpoints import TENSORS
from polytheory.errors import CheckpointError, SettingError, UnknownNameError
from polytheory.models.text.tasks import task
from polytheory.run import run
from polytheory.scaled.language.adapters import Lora, add_adapters, dropping, merged, trainable_copy, without_dropout
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import AdamW
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.sft import Sft
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.scaled.posttraining.grpo import Grpo

LORA = Lora(lora_rank=4, lora_alpha=16.0)
# logits of two layers in float32: W x + s B A x against (W + s B A) x, some hundred roundings of numbers of size 1
ROUNDING = 1e-5


def base(seed=3):
    return tiny_model(26, hidden=32, heads=1, feed_forward=32, seed=seed).eval()


def gpt2():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=26, n_embd=32, n_layer=2, n_head=2, n_positions=32)).eval()


def world():
    reward = [WeightedReward("digits", lambda completions: [float(len(c) == 3) for c in completions])]
    return Prompts(task("copy").rows(32), character_tokenizer(), reward, max_length=5)


def finetune(model, **settings):
    return Finetune(Grpo(policy=CausalPolicy(model, 1), prompts=4, group_size=4, **settings), AdamW(1e-2))


def weights(model):
    return torch.cat([p.detach().ravel() for p in model.parameters() if p.requires_grad])


@pytest.fixture
def columns():
    ids = torch.arange(40).reshape(4, 10) % 26
    yes = torch.ones(4, 5, dtype=torch.bool)
    return {"prompt_ids": ids[:, :5], "prompt_mask": yes, "actions": ids[:, 5:], "mask": yes}


def test_only_adapters_have_gradients_and_move():
    own = base()
    before = copy.deepcopy(own.state_dict())
    model = add_adapters(own, LORA, 0)
    end = run(finetune(model), world(), steps=2)
    trained = end.state.model
    assert {name.rpartition(".default")[0][-6:] for name, p in trained.named_parameters() if p.requires_grad} == {
        "lora_A",
        "lora_B",
    }
    assert (weights(trained) - weights(model)).abs().max() > 1e-3
    for name, p in trained.named_parameters():
        if not p.requires_grad:
            assert p.grad is None
            assert torch.equal(p, before[name.replace(".base_layer", "")])
            assert p is dict(model.named_parameters())[name]  # one tensor serves both


@pytest.mark.parametrize("make", [base, gpt2])
def test_a_fresh_adapter_is_the_base_and_the_reference_stays_it(make, columns):
    plain = make()
    expected = CausalPolicy(plain, 1).log_probs(columns).detach()
    model = add_adapters(copy.deepcopy(plain), LORA, 0)
    method = finetune(model, beta=0.1)
    end = run(method, world(), steps=2)
    scored = method.scored(columns | {"group": torch.arange(4)}, end.state)
    assert torch.equal(scored["log_probs_ref"], expected)
    assert (CausalPolicy(end.state.model, 1).log_probs(columns) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("make", [base, gpt2])
def test_merged_and_saved_models_are_the_trained_one(make, columns, tmp_path):
    plain = make()
    plain.save_pretrained(tmp_path / "base")
    trained = run(finetune(add_adapters(plain, LORA, 0)), world(), steps=2).state.model
    expected = CausalPolicy(trained, 1).log_probs(columns).detach()
    one = merged(trained)
    assert set(one.state_dict()) == set(make().state_dict())
    one.save_pretrained(tmp_path / "merged")
    trained.save_pretrained(tmp_path / "adapter")
    found = {
        "merged": one,
        "read": AutoModelForCausalLM.from_pretrained(tmp_path / "merged"),
        "peft": PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
        ).base_model.model,
    }
    for name, model in found.items():
        gap = (CausalPolicy(model, 1).log_probs(columns) - expected).abs().max()
        assert gap < ROUNDING, name
    assert (CausalPolicy(make(), 1).log_probs(columns) - expected).abs().max() > 100 * ROUNDING
    assert torch.equal(CausalPolicy(trained, 1).log_probs(columns), expected)  # merging left it alone


def test_checkpoints_hold_adapters_only_and_resume_byte_for_byte(tmp_path):
    method = finetune(add_adapters(base(), LORA, 0), beta=0.1)
    whole = run(method, world(), steps=4, seed=1)
    run(method, world(), steps=2, seed=1, checkpoint=tmp_path / "run")
    again = run(method, world(), steps=4, seed=1, checkpoint=tmp_path / "run")
    assert torch.equal(weights(whole.state.model), weights(again.state.model))
    saved = load_file(tmp_path / "run" / (tmp_path / "run" / "latest").read_text() / TENSORS)
    trained = weights(again.state.model).numel()
    # weights and two moments, a counter a tensor, and a few samples of every frozen tensor
    assert 3 * trained <= sum(x.numel() for x in saved.values()) < 3.3 * trained
    assert trained < 0.5 * sum(p.numel() for p in base().parameters())


def test_adapters_of_another_base_are_refused(tmp_path):
    run(finetune(add_adapters(base(), LORA, 0)), world(), steps=1, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="other weights"):
        run(finetune(add_adapters(base(4), LORA, 0)), world(), steps=2, checkpoint=tmp_path)


def test_dropout_of_a_warm_start_hangs_on_seed_and_step_alone(tmp_path):
    rows = task("copy").rows(32)
    data = Demonstrations({**rows, "completion": rows["answer"]}, character_tokenizer())

    def start(dropout=True, rate=0.5):
        model = add_adapters(base(), Lora(4, 16.0, rate), 0)
        return Sft(CausalPolicy(model, 1), AdamW(1e-2), batch=8, dropout=dropout)

    whole = run(start(), data, steps=4)
    torch.rand(7)
    run(start(), data, steps=2, checkpoint=tmp_path)
    again = run(start(), data, steps=4, checkpoint=tmp_path)
    assert torch.equal(weights(whole.state.model), weights(again.state.model))
    assert not torch.equal(weights(run(start(False), data, steps=4).state.model), weights(whole.state.model))
    assert not whole.state.model.training


def test_dropped_entries_differ_from_step_to_step(columns):
    model = add_adapters(base(), Lora(4, 16.0, 0.5), 0)
    for p in model.parameters():
        if p.requires_grad:
            p.data.fill_(0.1)

    def drawn(step):
        with dropping(model, Key(0, "x", step)):
            return CausalPolicy(model, 1).log_probs(columns).detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("make", [base, gpt2])
def test_no_dropout_is_left_for_reinforcement_learning(make, columns):
    model = without_dropout(add_adapters(make(), Lora(4, 16.0, 0.5), 0))
    for p in model.parameters():
        if p.requires_grad:
            p.data.fill_(0.1)
    policy = CausalPolicy(model, 1)
    model.train()
    assert torch.equal(policy.log_probs(columns), policy.log_probs(columns))


def test_a_copy_of_a_whole_model_shares_nothing():
    model = base()
    twin = trainable_copy(model)
    assert not any(a is b for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert merged(model) is model


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"lora_rank": -1}, SettingError, "lora_rank = -1"),
        ({"lora_rank": 4, "lora_alpha": 0.0}, SettingError, "lora_alpha"),
        ({"lora_rank": 4, "lora_dropout": 1.0}, SettingError, "lora_dropout"),
        ({"lora_rank": 4, "lora_save": "adaptor"}, UnknownNameError, "adapter"),
        ({"lora_dropout": 0.1}, SettingError, "without lora_rank"),
        ({"lora_rank": 4, "lora_targets": ("query",)}, SettingError, "it has down_proj, gate_proj"),
        ({"lora_rank": 4, "lora_targets": ("lm_head",)}, SettingError, "inner layers"),
    ],
)
def test_bad_input_is_one_line(given, error, text):
    with pytest.raises(error, match=text) as found:
        add_adapters(base(), Lora(**given), 0)
    assert "\n" not in str(found.value)
