"""The figures of the page come from a command that runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_command_draws_what_the_page_shows(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_alignment_figures", ROOT / "docs" / "make_alignment_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["make_alignment_figures", "--small", "--out", str(tmp_path)])
    module.main()
    page = (ROOT / "docs" / "methods" / "parl.md").read_text(encoding="utf-8")
    drawn = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert len(drawn) == 3
    for name in drawn:
        assert f"(../figures/{name})" in page
        assert (ROOT / "docs" / "figures" / name).is_file()
    small = json.loads((tmp_path / "parl.json").read_text(encoding="utf-8"))
    whole = json.loads((ROOT / "docs" / "figures" / "parl.json").read_text(encoding="utf-8"))
    assert small.keys() == whole.keys()
    shown = whole["inexact"]["Hessian where the policy is"]
    assert abs(small["inexact"]["Hessian where the policy is"][2] - shown[3]) < 1e-9  # K = 10 in both
