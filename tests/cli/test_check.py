"""``check``: its JSON, its exit codes, and that what is planted is found and named."""

from __future__ import annotations

import json

import pytest
from verifications import HALF, NOTHING, SIGN, crashing_claim, false_claim, nan_claim, planted, true_claim

from polytheory.cli.main import call
from polytheory.errors import NotStochasticError

KEYS = ["claim", "method", "room", "level", "source", "instances", "margin", "tolerance", "holds", "seconds", "mutants"]


def check(capsys, *words: str) -> tuple[int, str, list[str]]:
    code = call(["check", "planning", "--jobs", "1", *words])
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if line.startswith("polytheory: ")]


def rows(capsys, *words: str):
    code, out, lines = check(capsys, "--json", *words)
    return code, json.loads(out, parse_constant=pytest.fail), lines


def test_json_has_the_promised_shape(monkeypatch, capsys):
    planted(monkeypatch, true_claim)
    code, found, lines = rows(capsys, "--mutants")
    assert (code, lines) == (0, [])
    assert [list(row) for row in found] == [KEYS, KEYS]
    assert [(row["claim"], row["room"]) for row in found] == [("true_claim", "reference"), ("true_claim", "scaled")]
    for row in found:
        assert row["level"] == "PROPERTY"
        assert row["holds"] is True
        assert row["instances"] == 1
        assert -row["tolerance"] <= row["margin"] <= 0
        assert row["seconds"] >= 0
        (mutant,) = row["mutants"]
        assert list(mutant) == ["name", "caught", "how"]
        assert (mutant["name"], mutant["caught"]) == ("sign", True)
        assert "margin" in mutant["how"]


def test_mutants_only_when_asked_for(monkeypatch, capsys):
    planted(monkeypatch, true_claim, breaks=(NOTHING,))
    code, found, _ = rows(capsys)
    assert code == 0
    assert all(row["mutants"] == [] for row in found)


def test_a_claim_that_does_not_hold(monkeypatch, capsys):
    planted(monkeypatch, true_claim, false_claim)
    code, found, lines = rows(capsys)
    assert code == 1
    assert [row["holds"] for row in found] == [True, True, False, False]
    assert len(lines) == 2  # one line for each room
    assert all("false_claim" in line and "does not hold" in line for line in lines)


def test_a_mutant_that_survives(monkeypatch, capsys):
    planted(monkeypatch, true_claim, breaks=(SIGN, NOTHING))
    code, found, lines = rows(capsys, "--mutants")
    assert code == 1
    assert all(row["holds"] for row in found)
    assert [m["caught"] for row in found for m in row["mutants"]] == [True, False] * 2
    assert len(lines) == 2
    assert all("true_claim" in line and "nothing" in line and "survived" in line for line in lines)


def test_a_mutant_that_survives_in_one_room(monkeypatch, capsys):
    planted(monkeypatch, true_claim, breaks=(HALF,))
    code, _, lines = rows(capsys, "--mutants")
    assert code == 1
    assert len(lines) == 1
    assert "scaled" in lines[0]


def test_a_claim_that_crashes(monkeypatch, capsys):
    planted(monkeypatch, crashing_claim)
    code, found, lines = rows(capsys)
    assert code == 1
    assert all(row["holds"] is False and row["margin"] is None and row["tolerance"] is None for row in found)
    assert all("crashing_claim" in line and "RuntimeError: the planted crash" in line for line in lines)
    assert len(lines) == 2


def test_instances_that_cannot_be_made_are_a_crashed_claim(monkeypatch, capsys):
    def fails():
        raise NotStochasticError("no instance")

    planted(monkeypatch, true_claim, worked=fails)
    code, _, lines = rows(capsys)
    assert code == 1
    assert all("true_claim" in line and "no instance" in line for line in lines)
    assert lines


def test_not_a_number_is_null_and_does_not_hold(monkeypatch, capsys):
    planted(monkeypatch, nan_claim)
    code, found, lines = rows(capsys)
    assert code == 1
    assert all(row["margin"] is None and row["holds"] is False for row in found)
    assert all("nan_claim" in line for line in lines)


def test_a_method_without_claims_does_not_pass(monkeypatch, capsys):
    planted(monkeypatch)
    code, found, lines = rows(capsys)
    assert (code, found) == (1, [])
    assert len(lines) == 1
    assert "planning" in lines[0]


def test_one_claim(monkeypatch, capsys):
    planted(monkeypatch, true_claim, false_claim)
    code, found, _ = rows(capsys, "--claim", "true_claim")
    assert code == 0
    assert {row["claim"] for row in found} == {"true_claim"}


@pytest.mark.parametrize("mutants", [(), ("--mutants",)])
def test_as_a_table(monkeypatch, capsys, mutants):
    planted(monkeypatch, true_claim, crashing_claim, false_claim)
    code, out, _ = check(capsys, *mutants)
    assert code == 1
    assert all(name in out for name in ("true_claim", "crashing_claim", "false_claim", "reference", "scaled"))
    assert ("1/1" in out) == bool(mutants)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "plannin"], "unknown method 'plannin'; did you mean 'planning'?"),
        (["check", "planning", "--claim", "true_clam"], "did you mean 'true_claim'?"),
        (["check", "planning", "--jobs", "0"], "jobs"),
        (["check", "planning", "--jobs", "many"], "Invalid value for '--jobs'"),
    ],
)
def test_bad_input(monkeypatch, capsys, words, expected):
    planted(monkeypatch, true_claim)
    assert call(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert err.splitlines()[-1].startswith("polytheory: error: ")
