"""``report``: the page again, from what was saved."""

from __future__ import annotations

import json

import pytest
from verifications import demo_record, verification

from polytheory.cli.main import call
from polytheory.lab.records import dump
from polytheory.lab.report import page


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "verify.json"
    path.write_text(dump(verification()), encoding="utf-8")
    return path


def test_the_page_of_saved_results(saved, capsys):
    assert call(["report", "--from", str(saved)]) == 0
    out = capsys.readouterr().out
    target = saved.with_suffix(".html")
    assert out.splitlines()[-1] == f"report: {target}"
    assert target.read_text(encoding="utf-8") == page(verification())


def test_another_place(saved, tmp_path, capsys):
    target = tmp_path / "new" / "other.html"
    assert call(["report", "--from", str(saved), "--out", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == page(verification())
    assert not saved.with_suffix(".html").exists()
    capsys.readouterr()


def test_json_is_the_row_of_verify(saved, capsys):
    assert call(["report", "--from", str(saved), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (row["method"], row["claims"], row["passed"]) == ("planning", 1, True)


def test_a_failed_verification_is_reported_all_the_same(tmp_path, capsys):
    path = tmp_path / "bad.json"
    path.write_text(dump(verification(demos=[demo_record(lockstep=None)])), encoding="utf-8")
    assert call(["report", "--from", str(path)]) == 0  # it reports; it does not check
    assert "FAILED" in path.with_suffix(".html").read_text(encoding="utf-8")
    capsys.readouterr()


@pytest.mark.parametrize(
    "text", [None, "not json", "[]", '{"format": 99}', '{"format": 1, "methods": [{"method": 3}]}']
)
def test_results_that_cannot_be_read(tmp_path, capsys, text):
    path = tmp_path / "verify.json"
    if text is not None:
        path.write_text(text)
    assert call(["report", "--from", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(path) in err
    assert "polytheory verify" in err
    assert err.count("\n") == 1
    assert not path.with_suffix(".html").exists()
