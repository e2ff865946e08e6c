"""``conform``: its exit codes, its JSON, and one line for bad input."""

from __future__ import annotations

import json

import pytest

from polytheory.cli.main import call

RIGHT, WRONG, REFUSES = (f"conformance_candidates:{name}" for name in ("grpo", "k3_without_one", "refuses_kl"))


def conform(capsys, *words: str) -> tuple[int, str, str]:
    code = call(["conform", *words, "--examples", "5"])
    return (code, *capsys.readouterr())


def test_a_right_loss(capsys):
    code, out, err = conform(capsys, RIGHT, "--against", "grpo", "--set", "beta=0.2")
    assert code == 0
    assert "beta = 0.2" in out
    assert "value" in out
    assert "failed" not in err


def test_a_wrong_loss(capsys):
    code, out, err = conform(capsys, WRONG, "--against", "kl_k3")
    assert code == 1
    assert "FAIL" in out
    assert "polytheory: failed: conformance_candidates:k3_without_one against kl_k3: value: loss is" in err
    assert "  log_probs_ref = [[" in err


def test_json(capsys):
    code, out, _ = conform(capsys, WRONG, "--against", "kl_k3", "--json")
    (report,) = json.loads(out, parse_constant=pytest.fail)
    assert code == 1
    assert not report["passed"]
    assert report["checks"][0]["check"] == "value"
    assert report["checks"][0]["batch"]["mask"] == [[True]]


def test_refusals_are_bad_input(capsys):
    code, _, err = conform(capsys, REFUSES, "--against", "grpo")
    assert code == 2
    assert "refuses: there is no KL loss" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "conform needs IMPL"),
        ([RIGHT, "--against", "grp"], "did you mean 'grpo'"),
        ([RIGHT, "--against", "grpo", "--set", "bta=1"], "did you mean 'beta'"),
        (["conformance_candidates:no", "--against", "grpo"], "conformance_candidates has no 'no'"),
        ([RIGHT, "--against", "grpo", "--arg", "nonsense=1"], "unknown"),
    ],
)
def test_bad_input_is_one_line(capsys, words, text):
    code, out, err = conform(capsys, *words)
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1


def test_list(capsys):
    assert call(["conform", "--list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["grpo"]["settings"]["eps_low"] == 0.2
    assert rows["gae"]["answer"] == "advantages"
    assert call(["conform", "--list"]) == 0
    assert "shao2024, eq. 3" in capsys.readouterr().out
