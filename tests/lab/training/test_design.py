"""Reward design from the command line: the recipe, its ablation, a typed-again command, and one line for bad settings."""

from __future__ import annotations

import json

import pytest
import torch
from numpy.testing import assert_allclose
from transformers import AutoModelForSequenceClassification

from polytheory.cli.main import call
from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.training.models import save_reward_model
from polytheory.lab.training.page import page
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import make_algorithm, train
from polytheory.scaled.language.design import DesignFinetune
from polytheory.scaled.language.policy import CausalPolicy

SMALL = {
    "steps": 4, "sft_steps": 3, "sft_batch": 8, "rows": 64, "held_out": 16, "prompts": 2, "group_size": 4,
    "every": "1 steps", "reward_start": 2, "upper_prompts": 3,
}  # fmt: skip


def words(**changes):
    return [f"{k}={v}" for k, v in {**SMALL, **changes}.items()]


def test_the_command_trains_reports_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(["train", "parl", *words(steps=2, decay="constant", output="a")]) == 0
    shown = capsys.readouterr().err
    assert "true score" in shown
    assert "agreement" in shown
    rows = [json.loads(line)["values"] for line in (tmp_path / "a/checkpoints/history.jsonl").read_text().splitlines()]
    names = {"true_score", "reward", "labels", "kl", "upper/loss", "upper/grad_norm", "rewards/in-place/mean"}
    assert names <= rows[0].keys()
    assert "upper/loss" not in rows[1]  # every second step
    assert call(["train", "parl", *words(steps=4, decay="constant", output="a"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["recipe"], facts["steps"]) == ("parl", 4)
    last = json.loads((tmp_path / "a/checkpoints/history.jsonl").read_text().splitlines()[-1])["values"]
    assert (
        last["labels"] == (2 + 2) * 3 * 6
    )  # two before the start, two on the way, six choices of each of three prompts


def test_a_killed_training_ends_in_the_same_weights(tmp_path):
    recipe = read("parl", {**SMALL, "decay": "constant"})
    whole = train(recipe)
    train(read("parl", {**SMALL, "decay": "constant", "steps": 3}), output=tmp_path)
    again = train(recipe, output=tmp_path)
    for a, b in (
        (whole.model, again.model),
        (whole.run.state.reward_model, again.run.state.reward_model),
    ):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    html = page(again)
    assert "Reward model and teacher" in html
    assert "true_score" in again.run.history.names


@pytest.mark.parametrize("lora", [{}, {"lora_rank": 2}])
def test_the_reward_model_is_one_that_transformers_reads(tmp_path, lora):
    done = train(read("parl", {**SMALL, "reward_step_size": 1e-2, **lora}))
    save_reward_model(done, tmp_path)
    reward = done.run.state.reward_model
    prompts = done.tokenizer(["Q201375=", "Q998877="], return_tensors="pt").input_ids
    answers = done.tokenizer(["012357", "012345"], return_tensors="pt").input_ids
    columns = {
        "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts, dtype=torch.bool), "actions": answers,
        "mask": torch.ones_like(answers, dtype=torch.bool),
    }  # fmt: skip
    own = reward(columns).detach()
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        found = again(input_ids=torch.cat([prompts, answers], 1)).logits[:, 0]
    assert float(own.abs().max()) > 1e-4
    assert_allclose(found, own, atol=1e-5)  # float32, another order of sums


def test_a_run_without_a_reward_model_writes_none(tmp_path):
    plain = {k: x for k, x in SMALL.items() if not k.startswith(("upper", "reward"))}
    save_reward_model(train(read("rloo", plain)), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_both_levels_keep_float32_masters_of_bfloat16():
    done = train(read("parl", {**SMALL, "dtype": "bfloat16", "follow": "adamw", "mismatch_tolerance": "none"}))
    state = done.run.state
    assert next(state.reward_model.trunk.parameters()).dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in state.reward_optimizer.params)
    assert done.run.history.last("upper/grad_norm") > 0


def test_the_ablation_is_one_key():
    policy = CausalPolicy(None, 0)
    full, plain = (make_algorithm(read("parl", {"response": x}), policy) for x in (True, False))
    assert isinstance(full, DesignFinetune)
    assert isinstance(plain, DesignFinetune)
    assert (full.design.response, plain.design.response) == (True, False)
    assert full.beta == 0.2
    assert not isinstance(make_algorithm(read("rloo"), policy), DesignFinetune)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"beta": 0.0}, "beta = 0.0; without a KL term"),
        ({"beta": -1.0}, "beta = -1.0"),
        ({"upper_group": 1}, "upper_group = 1"),
        ({"teacher": ""}, "without a teacher"),
        ({"kl": "k3"}, "kl = 'k3'"),
        ({"upper_every": 0, "reward_start": 0}, "nothing would teach"),
        ({"method": "parl"}, "polytheory train parl"),
    ],
)
def test_bad_settings_are_one_line_before_any_work(changes, text, capsys):
    assert call(["train", "parl", *(f"{k}={v}" for k, v in changes.items())]) == 2
    told = capsys.readouterr().err.strip()
    assert text in told
    assert len(told.splitlines()) == 1


def test_a_teacher_is_named_and_data_needs_a_reward(tmp_path):
    with pytest.raises(UnknownNameError, match="utility"):
        read("parl", {"teacher": "utilty"})
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Q12=", "answer": "12"}\n' * 4)
    with pytest.raises(SettingError, match="without reward"):
        train(read("parl", {"data": str(rows), "reward": "", "completion_length": 4}))
