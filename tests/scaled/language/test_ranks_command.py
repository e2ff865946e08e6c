"""``polytheory train`` in several processes: what is printed, errors of one process, Ctrl-C, a launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from ranks_cases import ends, start

from polytheory.cli.main import call

SMALL = [
    f"{k}={v}" for k, v in {
        "rows": 64, "held_out": 16, "sft_steps": 1, "sft_batch": 8, "prompts": 3, "group_size": 2, "device": "cpu",
    }.items()
]  # fmt: skip
REWARDS = """
import os, signal, time
def first(completions):
    return [float(c[:1] in set("0123456789")) for c in completions]
def broken(completions):
    return [float("nan") if os.environ.get("RANK") == "1" else 0.0 for c in completions]
def crash(completions):
    if os.environ.get("RANK") == "1":
        os._exit(9)
    return [0.0 for c in completions]
calls = []
def pressed(completions):
    calls.append(0)
    if os.environ.get("RANK") == "1" and len(calls) == 4:  # two of the evaluation, one of step 0, this one of step 1
        os.kill(os.getpid(), signal.SIGINT)
    return first(completions)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "ranks_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def train(folder, reward, steps):
    words = [f"reward=ranks_rewards:{reward}", f"steps={steps}", f"output={folder / 'run'}"]
    return ends(start(["-m", "polytheory.cli.main", "train", "rloo", *SMALL, *words], 2))


def test_an_error_of_one_process_ends_all_with_one_line(folder):
    found = train(folder, "broken", 2)
    assert [code for code, *_ in found] == [2, 2]
    said = [line for *_, err in found for line in err.splitlines() if "error" in line]
    assert len(said) == 1
    assert "must be a finite number" in said[0]


def test_the_end_of_one_process_ends_the_other(folder):
    began = time.monotonic()
    first, second = train(folder, "crash", 2)
    assert second[0] == 9
    assert first[0] not in (0, None)
    assert "another of the 2 processes has stopped" in first[2].splitlines()[-1]
    assert time.monotonic() - began < 300


def test_ctrl_c_in_one_process_stops_all_after_the_same_step(folder, listens):
    found = train(folder, "pressed", 4)
    assert [code for code, *_ in found] == [130, 130]
    assert found[1][1] == ""
    assert all("interrupted" in line for line in found[1][2].splitlines())
    assert (folder / "run" / "checkpoints" / "latest").read_text() == "step-000000000002"


def test_a_launcher_of_others_with_sharded_weights(folder, capsys):
    accelerate = [
        sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--use_fsdp", "--fsdp_version", "2",
    ]  # fmt: skip
    words = ["train", "rloo", *SMALL, "reward=ranks_rewards:first", "steps=2", f"output={folder / 'run'}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*accelerate, "-m", "polytheory.cli.main", *words, "--json"], env=env, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout)  # printed once
    assert facts["episodes"] == 2 * 6
    assert call([*words, "--json"]) == 0  # one process finds the run finished, and reads what the two wrote
    alone = json.loads(capsys.readouterr().out)
    assert {k: alone[k] for k in ("accuracy", "greedy", "steps")} == {
        k: facts[k] for k in ("accuracy", "greedy", "steps")
    }


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version = 1"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "FSDP2"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "dtype"),
    ],
)
def test_plugins_that_are_not_followed_are_one_line(env, text, monkeypatch, capsys):
    for key, value in {**env, "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    assert call(["train", "steps=1"]) == 2
    assert text in capsys.readouterr().err.splitlines()[-1]
