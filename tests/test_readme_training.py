"""Every training command of the README, typed as it stands but for its size, in a folder with a model, rows and a reward."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from chat_model import write_chat_model

from polytheory.cli.main import call
from polytheory.lab.training.recipe import read

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("#")[0].strip() for line in README.splitlines() if re.match(r"polytheory train( |$)", line)]
SMALL = {"steps": 1, "prompts": 2, "group_size": 2, "sft_batch": 4, "held_out": 4, "rows": 64}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the README speaks of: a chat model in a folder, rows as in its example, its reward, a recipe of one's own."""
    root = tmp_path_factory.mktemp("newcomer")
    write_chat_model(root / "path/to/chat-model", "Qwen2")
    (row,) = re.findall(r"`(\{\"question\".*?\})`", README)
    (root / "rows.jsonl").write_text((row + "\n") * 20)
    (reward,) = re.findall(r"`my_rewards.py`:\n\n```python\n(.*?)```", README, flags=re.DOTALL)
    (root / "my_rewards.py").write_text(reward)
    (root / "mine.toml").write_text('method = "nft"\nsteps = 100\n')
    return root


def smaller(command: str) -> list[str]:
    """The command with smaller numbers; what it says about anything else stays."""
    words = shlex.split(command)[1:]
    given = {word.partition("=")[0] for word in words if "=" in word}
    sizes = {**SMALL, "completion_length": 6} if "data" in given else {**SMALL, "sft_steps": 1}
    words = [
        f"completion_length={sizes.pop('completion_length')}" if w.startswith("completion_length=") else w
        for w in words
    ]
    return [*words, *(f"{key}={value}" for key, value in sizes.items() if key not in given)]


def test_the_readme_trains():
    assert len(COMMANDS) >= 10
    assert any("data=" in c for c in COMMANDS)
    assert any("lora_rank" in c for c in COMMANDS)


APART = ("polytheory train gsm8k", "--compare")  # one needs the hub; comparisons have tests of their own


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.endswith(APART[0]) and APART[1] not in c])
def test_the_command_runs(command, place, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend("")
    words = smaller(command)
    code = call(words if "--keys" in words else [*words, f"output={tmp_path / 'run'}"])
    out = capsys.readouterr()
    assert code == 0, out.err
    assert "bug" not in out.err


def test_the_command_that_needs_the_hub_has_a_recipe(capsys):
    assert "polytheory train gsm8k" in COMMANDS
    assert call(["train", "gsm8k", "--keys"]) == 0
    assert "openai/gsm8k" in capsys.readouterr().out


def test_compared_recipes_come_along():
    (command,) = [c for c in COMMANDS if APART[1] in c]
    names = shlex.split(command)[3].split(",")
    assert {read(name).name for name in names} == set(names)
