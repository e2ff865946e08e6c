"""Another model, other data, other rewards, another method: the whole way from the command line to a model that loads."""

from __future__ import annotations

import json

import pytest
import torch
from chat_model import write_chat_model
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from polytheory.cli.main import call
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import train
from polytheory.models.text.tasks import names

SHORT = {"steps": 2, "prompts": 2, "group_size": 2, "completion_length": 6, "held_out": 4, "every": "1 steps"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as a newcomer has it: a model, questions with answers as in GSM8K, a reward."""
    root = tmp_path_factory.mktemp("user")
    write_chat_model(root / "chat-model", "Qwen2")
    rows = [
        {"question": f"How many are {i} and {i % 7}?", "answer": f"{i}+{i % 7}\n#### {i + i % 7}"} for i in range(24)
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "swap_rewards.py").write_text(
        "def digits(completions, answer):\n    return [sum(x.isdigit() for x in c) / (1 + len(c)) for c in completions]\n"
    )
    return root


def run(place, monkeypatch, capsys, *words, **changes):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend("")
    keys = [f"{k}={v}" for k, v in {**SHORT, **changes}.items()]
    code = call(["train", *words, *keys, "--json"])
    out = capsys.readouterr()
    return code, out


GSM = ("data=rows.jsonl", "prompt_column=question", "model=chat-model", "step_size=1e-3")


def test_questions_with_answers_train_a_chat_model(place, monkeypatch, capsys):
    code, out = run(
        place, monkeypatch, capsys, "grpo", *GSM, "reward=math,think-format,swap_rewards:digits", "reward_weights=1,0.1,0.5",
        "system_prompt=Put your answer behind ####.", output="a",
    )  # fmt: skip
    assert code == 0, out.err
    facts = json.loads(out.out)
    assert facts["steps"] == 2
    assert facts["accuracy"] > 0  # digits are likely enough
    text = (place / "a" / "checkpoints" / "history.jsonl").read_text()
    for name in ("math", "think-format", "digits"):
        assert f"rewards/{name}/mean" in text
    model = AutoModelForCausalLM.from_pretrained(place / "a" / "model")
    tokenizer = AutoTokenizer.from_pretrained(place / "a" / "model")
    first = AutoModelForCausalLM.from_pretrained(place / "chat-model")
    moved = max(
        float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), first.parameters(), strict=True)
    )
    assert 1e-4 < moved < 0.1
    assert tokenizer.chat_template
    assert model.generation_config.eos_token_id == [2, 0]


@pytest.mark.parametrize("save", ["both", "adapter", "merged"])
def test_adapters_are_written_as_asked(place, monkeypatch, capsys, save):
    words = (*GSM, "reward=swap_rewards:digits", "chat=true", "lora_rank=2", f"lora_save={save}", "lora_dropout=0.1")
    warm = {"sft_steps": 1, "sft_batch": 4, "demonstrations": "answer", "output": save}
    code, out = run(place, monkeypatch, capsys, "rloo", *words, **warm)
    assert code == 0, out.err
    ids = torch.arange(12)[None]
    base = AutoModelForCausalLM.from_pretrained(place / "chat-model")
    logits = [base(ids).logits]
    if save != "adapter":
        logits.append(AutoModelForCausalLM.from_pretrained(place / save / "model").base_model(ids).last_hidden_state)
        logits[-1] = logits[-1] @ base.get_output_embeddings().weight.T
    if save != "merged":
        where = place / save / "model" / ("adapter" if save == "both" else "")
        logits.append(PeftModel.from_pretrained(base, where)(ids).logits)
    assert (place / save / "model" / "tokenizer.json").exists()
    assert (place / save / "model" / "model.safetensors").exists() == (save != "adapter")
    assert (logits[1] - logits[0]).abs().max() > 1e-5  # it was trained
    # two routes to the same model: roundings of float32
    assert (logits[-1] - logits[1]).abs().max() < 1e-5


def test_a_training_with_adapters_goes_on_where_it_was(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend("")
    keys = {**SHORT, "data": "rows.jsonl", "prompt_column": "question", "model": "chat-model", "lora_rank": 2, "chat": True,
            "reward": "swap_rewards:digits", "step_size": 1e-2, "warm_up": 0, "decay": "constant"}  # fmt: skip

    told: list[str] = []

    def adapters(steps, output):
        model = train(read("grpo", {**keys, "steps": steps}), output=output, say=told.append).model
        return torch.cat([p.detach().ravel() for p in model.parameters() if p.requires_grad])

    whole = adapters(3, None)
    adapters(2, place / "again")
    assert torch.equal(adapters(3, place / "again"), whole)
    assert any("step_size = 0.01 suits a tiny model" in line for line in told)
    assert not any("chat=true" in line for line in told)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("reward=math", "answer_column=solution"), "answer_column = 'solution'"),
        (("reward=swap_rewards:nothing",), "no function nothing"),
        (("reward=math", "prompt_column=prompt"), "prompt_column="),
        (("reward=math", "completion_length=300"), "256 positions"),
        (("reward=math", "lora_rank=2", "lora_targets=query"), "it has down_proj"),
        (("reward=math", "sft_steps=3"), "name one column"),
        (("reward=math", "model=rows.jsonl"), "cannot be loaded"),
    ],
)
def test_bad_input_stops_before_the_first_step(place, monkeypatch, capsys, words, text):
    given = dict(word.split("=", 1) for word in (*GSM, *words))
    code, out = run(place, monkeypatch, capsys, output="bad", **given)
    assert code == 2
    assert text in out.err.strip().splitlines()[-1]
    assert not (place / "bad" / "checkpoints").exists()


def test_a_reward_s_missing_column_is_an_error_and_no_zero(place, monkeypatch, capsys):
    lines = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    (place / "bare.jsonl").write_text("".join(json.dumps({"prompt": row["question"]}) + "\n" for row in lines))
    code, out = run(place, monkeypatch, capsys, "data=bare.jsonl", "model=chat-model", "reward=math", output="bad")
    assert code == 2
    assert "needs the column 'answer'" in out.err


@pytest.mark.parametrize("name", names())
def test_every_task_runs(name):
    changes = {k: v for k, v in SHORT.items() if k != "completion_length"}
    found = train(read("grpo", {**changes, "task": name, "sft_steps": 2, "sft_batch": 8, "rows": 64}))
    assert found.run.steps == 2
    assert 0 <= found.after.sampled <= 1


def test_the_option_is_the_key(tmp_path, capsys):
    assert call(["train", "--task", "sort-skill", "--keys", "--json"]) == 0
    keys = json.loads(capsys.readouterr().out)
    assert (keys["task"], keys["sft_steps"], keys["steps"]) == ("sort-skill", 40, 400)
    assert call(["train", "--task", "sort-skill", "task=sort", "--keys"]) == 2
    assert "given twice" in capsys.readouterr().err
