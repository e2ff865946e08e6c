"""``verify``: its JSON, its exit codes, what it writes, and that nothing planted passes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from verifications import HALF, NOTHING, SIGN, SMALL, Reader, crashing_claim, false_claim, planted, true_claim

from polytheory.cli.main import call
from polytheory.lab.records import load

KEYS = [
    "method", "claims", "claims_held", "mutants", "mutants_caught", "lockstep_error", "episodes", "transitions",
    "seconds", "passed",
]  # fmt: skip


@pytest.fixture
def verify(tmp_path, capsys):
    """Runs ``verify planning`` in this process; returns the exit code, standard output and the lines of failure."""

    def run(*words: str) -> tuple[int, str, list[str]]:
        code = call(["verify", "planning", "--jobs", "1", "--report", str(tmp_path / "out" / "page.html"), *words])
        out, err = capsys.readouterr()
        return code, out, [line for line in err.splitlines() if line.startswith("polytheory: ")]

    return run


@pytest.fixture
def row(verify):
    """The only row of ``verify planning --json``, beside the exit code and the lines of failure."""

    def run() -> tuple[int, dict, list[str]]:
        code, out, lines = verify("--json")
        (found,) = json.loads(out, parse_constant=pytest.fail)
        assert list(found) == KEYS
        assert found["passed"] == (code == 0) == (not lines)
        return code, found, lines

    return run


def test_all_well(monkeypatch, row, tmp_path):
    planted(monkeypatch, true_claim)
    code, found, _ = row()
    assert code == 0
    assert found["method"] == "planning"
    assert (found["claims"], found["claims_held"], found["mutants"], found["mutants_caught"]) == (1, 1, 1, 1)
    assert 0 <= found["lockstep_error"] <= SMALL.lockstep_tolerance
    assert (found["episodes"], found["transitions"]) == (0, 0)  # a planner samples nothing
    assert found["seconds"] > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"page.html", "page.json"}


def test_the_table_and_where_the_report_lies(monkeypatch, verify, tmp_path):
    planted(monkeypatch, true_claim)
    code, out, _ = verify()
    assert code == 0
    assert out.splitlines()[-1] == f"report: {tmp_path / 'out' / 'page.html'}"
    assert all(word in out for word in ("planning", "1/1", "claims held", "mutants caught", "episodes", "transitions"))


def test_the_report_and_the_saved_results_agree_with_the_run(monkeypatch, row, tmp_path):
    planted(monkeypatch, true_claim)
    _, found, _ = row()
    page = Reader((tmp_path / "out" / "page.html").read_text(encoding="utf-8"))
    assert "true_claim" in page.text
    (record,) = load(tmp_path / "out" / "page.json").methods
    assert record.seconds == pytest.approx(found["seconds"], abs=1e-2)
    assert [d.environment for d in record.demos] == ["gridworld"]
    assert {(c.claim, c.room) for c in record.claims} == {("true_claim", "reference"), ("true_claim", "scaled")}


def test_a_claim_that_does_not_hold(monkeypatch, row, tmp_path):
    planted(monkeypatch, true_claim, false_claim)
    code, found, lines = row()
    assert code == 1
    assert (found["claims"], found["claims_held"]) == (2, 1)
    assert all("false_claim" in line for line in lines)
    assert "false_claim" in (tmp_path / "out" / "page.html").read_text(encoding="utf-8")  # the report is still written


def test_a_claim_that_crashes(monkeypatch, row):
    planted(monkeypatch, crashing_claim)
    code, found, lines = row()
    assert (code, found["claims_held"]) == (1, 0)
    assert any("crashing_claim" in line and "RuntimeError: the planted crash" in line for line in lines)


@pytest.mark.parametrize(("broken", "lines"), [(NOTHING, 2), (HALF, 1)])
def test_a_mutant_that_survives_in_any_room(monkeypatch, row, broken, lines):
    planted(monkeypatch, true_claim, breaks=(SIGN, broken))
    code, found, said = row()
    assert (code, found["mutants"], found["mutants_caught"]) == (1, 2, 1)
    assert len(said) == lines
    assert all("true_claim" in line and broken.name in line for line in said)


def test_rooms_that_differ(monkeypatch, row):
    planted(monkeypatch, true_claim, demos=(replace(SMALL, lockstep_tolerance=-1.0),))
    code, found, lines = row()
    assert code == 1
    assert found["lockstep_error"] is not None
    assert len(lines) == 1
    assert "gridworld" in lines[0]


def test_a_demonstration_that_crashes(monkeypatch, row):
    planted(monkeypatch, true_claim, demos=(SMALL, replace(SMALL, environment="gridwrld", options={})))
    code, _, lines = row()
    assert code == 1
    assert len(lines) == 1
    assert "gridwrld" in lines[0]


@pytest.mark.parametrize(("checks", "demos"), [((), (SMALL,)), ((true_claim,), ())])
def test_nothing_checked_is_not_passed(monkeypatch, row, checks, demos):
    planted(monkeypatch, *checks, demos=demos)
    code, _, lines = row()
    assert code == 1
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["n-pg-ig"], "unknown method 'n-pg-ig'; did you mean 'n-pg-igt'?"),
        (["planning", "--jobs", "0"], "jobs"),
        (["planning", "--report", "page.json"], "page.json"),
        (["planning", "--report", "."], "."),
        (["planning", "--report", "a-file/page.html"], "a-file"),
    ],
)
def test_bad_input_before_any_work(monkeypatch, capsys, tmp_path, words, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("no folder")
    planted(monkeypatch, true_claim, demos=())
    assert call(["verify", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert err.splitlines()[-1].startswith("polytheory: error: ")
    assert not list(tmp_path.rglob("*.html"))


def test_two_processes_say_the_same_as_one(capsys):
    """A claim of the catalog, which fresh processes can load."""
    found = {}
    for jobs in ("1", "2"):
        words = ["check", "planning", "--claim", "backup_contracts", "--jobs", jobs, "--json"]
        code = call(words)
        out, err = capsys.readouterr()
        assert code == 0, err
        found[jobs] = [{**row, "seconds": 0} for row in json.loads(out)]
    assert found["1"] == found["2"]
