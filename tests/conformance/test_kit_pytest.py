"""The kit in pytest: the decorator, and ``pytest --pyargs polytheory.conformance --impl``."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conformance_candidates import grpo, k3_sign, refuses_kl

from polytheory.conformance import Candidate, parametrize_with_checks
from polytheory.conformance.kit import checks_for
from polytheory.conformance.pytest_plugin import PytestCheck

TRL_LIKE = """
import torch

def rloo(batch):
    scores = batch.score.view(len(batch.group.unique()), -1)
    others = (scores.sum(1, keepdim=True) - scores) / (scores.shape[1] - 1)
    return (scores - others).view(-1)

rloo.against = "rloo"
"""


@parametrize_with_checks([grpo], against="grpo", settings={"beta": 0.1}, examples=3)
def test_a_right_loss(check):
    assert check().status == "pass"


def first(candidate, *against):
    return PytestCheck(checks_for(candidate, *against, examples=5)[0])


def test_in_words_of_pytest():
    with pytest.raises(pytest.fail.Exception, match="value: loss is"):
        first(k3_sign, "grpo")()
    with pytest.raises(pytest.xfail.Exception, match="declared deviation: on purpose"):
        first(Candidate("k3_sign", k3_sign, "grpo", deviations={"value": "on purpose"}))()
    with pytest.raises(pytest.fail.Exception, match=r"declared to deviate .on purpose., but passes"):
        first(Candidate("grpo", grpo, "grpo", deviations={"value": "on purpose"}))()
    with pytest.raises(pytest.fail.Exception, match="refused, nothing can be checked: there is no KL loss"):
        first(refuses_kl, "grpo")()
    gradient = PytestCheck(checks_for(refuses_kl, "grpo", examples=5)[1])
    with pytest.raises(pytest.xfail.Exception, match="refused: there is no KL loss"):
        gradient()


def run(folder, *words: str) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--pyargs",
        "polytheory.conformance",
        *words,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    return done.returncode, done.stdout + done.stderr


def test_without_a_test_of_ones_own(tmp_path):
    (tmp_path / "users.py").write_text(TRL_LIKE)
    code, text = run(tmp_path, "--impl", "users:rloo")
    assert code == 1, text
    assert "test_conformance[users:rloo-unequal_groups]" in text
    assert "users:rloo against rloo: row_order: column" in text
    assert "4 failed" not in text


def test_without_a_candidate_there_is_one_line(tmp_path):
    code, text = run(tmp_path)
    assert code == 4
    assert [line for line in text.splitlines() if line] == [
        "ERROR: usage: pytest --pyargs polytheory.conformance --impl package.module:function [--against TARGET]"
    ]
