"""``polytheory study`` and ``polytheory fit`` as a user types them."""

from __future__ import annotations

import json
import math

import pytest

from polytheory.cli.main import call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("vi")
    assert call(["study", "value-iteration", "--small", "--backend", "serial", "--out", str(out)]) == 0
    return out


def test_study_draws_and_says(folder, capsys):
    words = ["study", "value-iteration", "--small", "--backend", "serial", "--out", str(folder)]
    assert call([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (exponent,) = found["figures"][0]["exponents"]
    assert exponent["line"] == "sup: true error"
    assert exponent["stated"] == pytest.approx(math.log(0.95), abs=1e-15)
    assert (folder / "figures" / "value-iteration-error.svg").is_file()
    page = (folder / "value-iteration.html").read_text(encoding="utf-8")
    assert "theorem says 0.95^sweeps" in page
    assert "a smoke test, no result" in page


def test_fit_prints_the_result_line(folder, capsys):
    words = [
        "fit",
        str(folder),
        "--y",
        "bound",
        "--law",
        "exponential",
        "--theorem",
        "0.95",
        "--where",
        "algo.stop=sup",
        "--start",
        "20",
    ]
    assert call(words) == 0
    assert "theorem says 0.95^step; measured 0.95^step [0.95, 0.95]" in capsys.readouterr().out
    assert (folder / "figures" / "bound-step.svg").is_file()
    assert call([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exponents"][0]["stop"] == 60


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--y", "regret"], "unknown column of the results 'regret'"),
        (["--y", "bound", "--x", "budget"], "a fit needs 3 or more"),
        (["--y", "bound", "--where", "algo.stop"], "expected column=value"),
        (["--y", "value_error", "--eps", "0.1", "--eps", "0.2"], "the episodes of a record must increase"),
        (["--y", "bound", "--format", "gif"], "a figure is written as"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, words, text, capsys):
    assert call(["fit", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_list_of_studies(capsys):
    assert call(["study", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"value-iteration", "optimistic-actor-critic"} <= {row["study"] for row in rows}
    assert all(row["about"] for row in rows)
    assert call(["study", "nothing-such"]) == 2
