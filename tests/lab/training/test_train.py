"""Training from a recipe: files, evaluation, kills, and the messages for bad input."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from polytheory.cli.main import call
from polytheory.errors import ColumnError, SettingError
from polytheory.lab.training import data as datas
from polytheory.lab.training.models import save_model
from polytheory.lab.training.page import page, write_card
from polytheory.lab.training.recipe import Problem, read
from polytheory.lab.training.show import Live
from polytheory.lab.training.train import train

SMALL = {
    "steps": 4, "sft_steps": 3, "sft_batch": 8, "rows": 64, "held_out": 16, "prompts": 2, "group_size": 4, "every": 1,
}  # fmt: skip
SMALL["every"] = "1 steps"


@pytest.fixture(scope="module")
def trained():
    return train(read("grpo", SMALL))


def weights(model):
    return torch.cat([p.detach().ravel() for p in model.parameters()])


def test_a_trained_model_is_one_that_transformers_reads(trained, tmp_path):
    save_model(trained, tmp_path)
    card = write_card(trained, tmp_path).read_text()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(weights(again), weights(trained.model))
    assert AutoTokenizer.from_pretrained(tmp_path)("Q12=").input_ids == trained.tokenizer("Q12=").input_ids
    assert "eps_high = 0.28" in card
    assert f"{trained.after.sampled:.1%}" in card


def test_the_page_shows_curves_samples_and_recipe(trained):
    html = page(trained)
    shown = re.findall(r"<figure><h4>(.*?)</h4>", html)
    assert shown == [
        "Mean score of completions", "What is lost", "Entropy of the policy", "Gradient norm before clipping",
        "Terms that the clip changes", "Divergence", "Sampler and trainer apart", "Warm start",
    ]  # fmt: skip
    for prompt, completion, _ in trained.after.samples:
        assert prompt in html
        assert completion in html
    assert "eps_high" in html


def test_every_step_is_reported_by_trl_s_names(trained):
    for name in (
        "reward", "reward_std", "rewards/right/mean", "frac_reward_zero_std", "completions/mean_length",
        "completions/clipped_ratio", "num_tokens", "mismatch/kl", "mismatch/max", "effective_sample_size", "rows",
    ):  # fmt: skip
        assert len(trained.run.history.column(name)) == 4
    assert trained.run.meter.total("episodes") == 4 * 2 * 4


def test_two_trainings_are_equal_bit_for_bit_and_seeds_differ(trained):
    assert torch.equal(weights(train(read("grpo", SMALL)).model), weights(trained.model))
    assert not torch.equal(weights(train(read("grpo", {**SMALL, "seed": 1})).model), weights(trained.model))


def _child(folder):
    torch.set_num_threads(1)
    train(read("grpo", SMALL), output=folder)
    (Path(folder) / "finished").touch()


def test_a_training_that_is_killed_at_random_moments_ends_in_the_same_weights(trained, tmp_path):
    fork, draw = multiprocessing.get_context("fork"), random.Random(0)
    kills = 0
    for attempt in range(40):
        child = fork.Process(target=_child, args=(str(tmp_path),))
        child.start()
        wait = 0.05 + 0.9 * draw.random() * (1 + attempt / 10)  # longer and longer, so that it ends
        deadline = time.monotonic() + wait
        while child.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        kills += child.is_alive()
        child.kill()
        child.join()
        if (tmp_path / "finished").exists():
            break
    assert (tmp_path / "finished").exists()
    assert kills > 0
    assert torch.equal(weights(train(read("grpo", SMALL), output=tmp_path).model), weights(trained.model))


def test_the_command_trains_and_says_so_in_json(tmp_path, capsys):
    words = ["train", "rloo", *(f"{k}={v}" for k, v in SMALL.items()), f"output={tmp_path / 'a'}", "--json"]
    assert call(words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["steps"] == 4
    assert 0 <= facts["accuracy"] <= 1
    assert (tmp_path / "a" / "report.html").exists()
    assert (tmp_path / "a" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["grpo", "epsilon=1"], "eps"),
        (["grpo", "rloo"], "two recipes"),
        (["task=sorting"], "sort"),
        (["data=nothing.jsonl", "task=", "reward=os:getcwd", "completion_length=3"], "nothing.jsonl"),
        (["data=x.jsonl", "task="], "reward"),
        (["reward=nowhere:f"], "cannot import nowhere"),
        (["reward=os.path:nothing"], "no function nothing"),
        (["reward=length"], "module:function"),
        (["model=/nowhere/model"], "cannot be loaded"),
        (["decay=linear"], "cosine"),
        (["steps=0"], "at least one step"),
        (["group_size=1"], "group_size = 1"),
        (["reward=math:sqrt,math:sqrt", "reward_weights=1"], "reward_weights"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, text, capsys, tmp_path):
    assert call(["train", *words, f"output={tmp_path}"]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert text in err[-1]


def test_rows_of_a_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Q{i}=", "answer": str(i)}) + "\n" for i in range(10)))
    found = datas.load(
        Problem(
            "", str(path), held_out=3, reward=("polytheory.models.text.verifiers:exact_match",), completion_length=2
        ),
        0,
    )
    assert len(found.held_out["prompt"]) == 3
    assert sorted(found.held_out["prompt"] + found.train["prompt"]) == [f"Q{i}=" for i in range(10)]
    assert [f"Q{x}=" for x in found.held_out["answer"]] == found.held_out["prompt"]
    assert found.held_out["answer"] != ["7", "8", "9"]  # spread, not the tail of a file that may be sorted
    assert len(found.train["prompt"]) == 7
    assert list(found.rewards[0](["0", "x"], {"answer": ["0", "1"], "prompt": ["", ""]})) == [1.0, 0.0]
    path.write_text('{"prompt": "a"}\n{"question": "b"}\n')
    with pytest.raises(ColumnError, match="row 1"):
        datas.read_rows(str(path))
    path.write_text('{"prompt": "a"}\nnonsense\n')
    with pytest.raises(SettingError, match="line 2"):
        datas.read_rows(str(path))
    with pytest.raises(SettingError, match=r"\.jsonl or \.parquet"):
        datas.read_rows("rows.csv")


def test_long_completions_are_shown_in_one_line_by_their_ends(trained, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    long = replace(trained.after, samples=[("a\nb", "so\n" + 100 * "x" + "\n42", 1.0)])
    Live(trained.recipe).samples(replace(trained, before=long, after=long))
    out = "".join(capsys.readouterr().out.split())
    assert "ab" in out
    assert "42" in out
    assert 60 < out.count("x") / 2 < 80


def test_a_piped_table_has_about_a_dozen_lines(capsys):
    live = Live(read("grpo", {"steps": 60}))
    with live:
        for step in range(60):
            live.step(None, {"reward": 0.5, "loss": 0.1}, step)
    lines = capsys.readouterr().err.splitlines()
    assert 12 <= len(lines) <= 15
    assert lines[0].split()[:2] == ["step", "reward"]
