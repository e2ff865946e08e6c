"""``list`` and ``show`` tell what the catalog and the claims say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polytheory.catalog import find, methods
from polytheory.cli.main import call
from polytheory.proofs_check.claims import claims_of

ROOT = Path(__file__).parents[2]
KEYS = ["method", "family", "title", "paper", "reference", "scaled", "claims", "mutants", "page"]


def output(capsys, *words: str):
    assert call(list(words)) == 0
    return capsys.readouterr().out


def strict_json(text: str):
    return json.loads(text, parse_constant=pytest.fail)


def test_list_has_the_promised_shape(capsys):
    rows = strict_json(output(capsys, "list", "--json"))
    assert [list(row) for row in rows] == [KEYS] * len(methods())
    assert [row["method"] for row in rows] == [entry.name for entry in methods()]
    for row in rows:
        assert all((ROOT / row[name]).is_file() for name in ("reference", "scaled", "page"))
        names = {c.name for c in claims_of(row["method"])}
        assert row["claims"] == len(names) > 0  # once, not per room
        assert row["mutants"] == sum(len(c.breaks) for c in claims_of(row["method"])) >= row["claims"]


def test_list_as_a_table(capsys):
    text = output(capsys, "list")
    for entry in methods():
        assert entry.name in text
        assert entry.title in text


@pytest.mark.parametrize("method", [entry.name for entry in methods()])
def test_show_tells_settings_and_claims(capsys, method):
    facts = strict_json(output(capsys, "show", method, "--json"))
    assert list(facts)[: len(KEYS)] == KEYS
    assert [a["name"] for a in facts["algorithms"]] == list(find(method).algorithms)
    assert all(a["settings"] and a["summary"] for a in facts["algorithms"])
    assert len(facts["statements"]) == facts["claims"]
    text = output(capsys, "show", method)
    for c in facts["statements"]:
        assert c["claim"] in text
    for a in facts["algorithms"]:
        assert all(f"{name} = " in text for name in a["settings"])
