"""The figures of the page come from a command that runs, and goes on from its checkpoints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from page_scripts import page_script

ROOT = Path(__file__).parent.parent


def test_the_command_draws_what_the_page_shows(tmp_path, monkeypatch):
    module = page_script("make_iwocs_figures")
    words = [
        "make_iwocs_figures",
        "--small",
        "--seeds",
        "0",
        "--out",
        str(tmp_path / "a"),
        "--runs",
        str(tmp_path / "runs"),
    ]
    monkeypatch.setattr(sys, "argv", words)
    module.main()
    first = json.loads((tmp_path / "a" / "iwocs.json").read_text(encoding="utf-8"))
    brackets = first["brackets"]
    assert (brackets["stuck"]["status"], brackets["hull"]["status"]) == ("stuck", "certified")
    assert brackets["stuck"]["lower"][-1] == pytest.approx(8.181818182, abs=1e-7)
    assert brackets["hull"]["upper"][-1] == pytest.approx(13.824451411, abs=1e-7)
    page = (ROOT / "docs" / "methods" / "iwocs.md").read_text(encoding="utf-8")
    for name in ("iwocs_brackets.svg", "iwocs_cartpole.svg", "iwocs_pendulum.svg"):
        assert (tmp_path / "a" / name).stat().st_size > 1000
        assert f"../figures/{name}" in page
        assert (ROOT / "docs" / "figures" / name).is_file()
    monkeypatch.setattr(sys, "argv", [*words[:5], str(tmp_path / "b"), *words[6:]])
    module.main()  # every run is finished: only read
    again = json.loads((tmp_path / "b" / "iwocs.json").read_text(encoding="utf-8"))
    for system in ("cartpole", "pendulum"):
        for method in module.METHODS:
            assert [r["returns"] for r in again[system][method]] == [r["returns"] for r in first[system][method]]
            assert [r["transitions"] for r in again[system][method]] == [
                r["transitions"] for r in first[system][method]
            ]
