"""``sweep``: from a TOML file to a folder of results, and the exit codes on the way."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sweep_measures

from polytheory.cli.main import call
from polytheory.lab import collect
from polytheory.lab.sweeps import standing

TOML = """
name = "tiny"
seeds = 4
episodes = 3
room = "reference"
measure = ["regret"]
method = [{ name = "optimistic-actor-critic", algorithm = "Ucbvi" }]
environment = [{ name = "baited-lock", options = { H = [1, 2] } }]

[small]
seeds = 1
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(TOML)
    return path


def facts_of(capsys, words: str, code: int = 0) -> dict:
    assert call([*shlex.split(words), "--json"]) == code
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_a_study_is_run_once(capsys, study):
    words = f"sweep {study} --backend serial"
    first = facts_of(capsys, words)
    assert first.items() >= {
        "study": "tiny", "folder": "sweeps/tiny", "cells": 2, "jobs": 8, "found": 0, "stale": 0, "failed": []
    }.items()  # fmt: skip
    assert facts_of(capsys, words).items() >= {"jobs": 0, "found": 8}.items()
    assert collect("sweeps/tiny")["study"].unique().to_list() == ["tiny"]


def test_the_small_form_has_a_folder_of_its_own(capsys, study):
    assert (
        facts_of(capsys, f"sweep {study} --backend serial --small").items()
        >= {
            "folder": "sweeps/tiny-small",
            "jobs": 2,
        }.items()
    )


def test_lines_for_people(capsys, study):
    assert call(["sweep", str(study), "--backend", "serial", "--out", "out"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("tiny: 2 cells; 0 seeds were there, 8 are new (")
    assert "in Python: polytheory.lab.collect('out')" in out
    assert "tiny: job 8/8" in err
    assert "ended: all done" in err


def test_shards_of_a_job_array(capsys, study):
    jobs = [facts_of(capsys, f"sweep {study} --backend serial --out out --shard {i}/3")["jobs"] for i in (1, 2, 3)]
    assert jobs == [3, 3, 2]
    assert facts_of(capsys, f"sweep {study} --backend serial --out out")["jobs"] == 0


def test_failures_name_the_command_that_runs_them_again(capsys, study):
    study.write_text(TOML.replace('"regret"', '"sweep_measures:fails_at_three"'))
    assert call(["sweep", str(study), "--backend", "serial", "--out", "a folder"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "failed: " in line and "again" in line]
    assert len(lines) == 2
    head, _, command = lines[1].partition("; again: ")
    head, _, log = head.partition("; traceback: ")
    assert head == (
        "polytheory: failed: Ucbvi on baited-lock (H=2, 3 episodes), seed 3: FloatingPointError: seed three is cursed"
    )
    assert "raise FloatingPointError" in Path(log).read_text()
    words = shlex.split(command)
    assert words[:4] == ["polytheory", "sweep", str(study), "--out"]
    again = facts_of(capsys, f"{shlex.join(words[1:])} --backend serial", code=1)
    assert again["jobs"] == 1  # its other seeds are done, the other cell is not asked for
    assert again["failed"] == [
        {
            "cell": words[-1], "seed": 3, "seeds": 1, "why": "FloatingPointError: seed three is cursed",
            "traceback": log,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sweep none.toml", "cannot read none.toml"),
        ("sweep tiny.toml --shard 3", "--shard 3; write I/N"),
        ("sweep tiny.toml --shard 4/3", "shard = (4, 3); (i, n) with 1 <= i <= n"),
        ("sweep tiny.toml --backend rya", "unknown backend 'rya'; did you mean 'ray'?"),
        ("sweep tiny.toml --jobs 0", "jobs = 0; at least 1"),
        ("sweep tiny.toml --out .", "holds something that is no study"),
        ("sweep tiny.toml --cell zz", "unknown cell 'zz'"),
    ],
)
def test_bad_input_is_one_line(capsys, study, words, expected):
    assert call(words.split()) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_local_ray_writes_the_same_files_and_outlives_its_workers(study, tmp_path, capsys, monkeypatch):
    """The command by itself: Ray's processes end with it. One worker dies once for seed 2, and any that takes seed 3."""
    study.write_text(
        TOML.replace('["regret"]', '["sweep_measures:exits_once_at_two", "sweep_measures:exits_at_three"]')
    )
    flag = tmp_path / "flag"
    env = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    words = [sys.executable, "-m", "polytheory.cli.main", "sweep", str(study)]
    told = subprocess.run(
        [*words, "--backend", "ray", "--jobs", "2", "--out", "ray"],
        env={**env, "PYTHONPATH": os.pathsep.join(sys.path), "SWEEP_FLAG": str(flag)},
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert told.returncode == 1, told.stderr
    assert flag.exists()
    failed = [line for line in told.stderr.splitlines() if "polytheory: failed: " in line]
    assert len(failed) == 2
    assert all("seed 3: its process died twice: " in line for line in failed)
    assert "job 8/8" in told.stderr
    monkeypatch.setenv("SWEEP_FLAG", str(flag))
    monkeypatch.setattr(sweep_measures, "exits_at_three", sweep_measures.zeros)
    facts_of(capsys, f"sweep {study} --backend serial --out serial")
    cells = {x: {path.name: path.read_bytes() for path in Path(x, "cells").iterdir()} for x in ("ray", "serial")}
    assert {name: x for name, x in cells["serial"].items() if "-000003-" not in name} == cells["ray"]
    assert len(cells["ray"]) == 6
    assert facts_of(capsys, f"sweep {study} --backend serial --out ray").items() >= {"jobs": 2, "found": 6}.items()


# a shell that runs the tests in the background hands down an ignored SIGINT
LISTENING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from polytheory.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_command(study, tmp_path, blow):
    """Ctrl-C reaches all processes of a terminal; a kill reaches the command alone. Either way nobody stays behind."""
    study.write_text(TOML.replace("seeds = 4", "seeds = 2000"))  # far more than it will get to
    sweep = subprocess.Popen(
        [sys.executable, "-c", LISTENING, "sweep", str(study), "--out", "out", "--jobs", "2"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while sweep.poll() is None and not list((tmp_path / "out" / "cells").glob("*.parquet")):
        time.sleep(0.05)
    (os.killpg if blow == signal.SIGINT else os.kill)(sweep.pid, blow)
    _, err = sweep.communicate(timeout=120)  # returns when the last process that could write to the pipes is gone
    if blow == signal.SIGINT:
        assert sweep.returncode == 130
        assert "interrupted: what was finished is kept, the same command goes on" in err
    else:
        assert sweep.returncode == -blow
    at = standing(tmp_path / "out")
    assert 0 < at.missing < 4000
    assert at.damaged == []
