"""The figures of the page come from a command that runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from page_scripts import page_script

ROOT = Path(__file__).parent.parent


def test_the_command_draws_what_the_page_shows(tmp_path, monkeypatch):
    module = page_script("make_alignment_figures")
    monkeypatch.setattr(sys, "argv", ["make_alignment_figures", "--quick", "--out", str(tmp_path)])
    module.main()
    page = (ROOT / "docs" / "methods" / "parl.md").read_text(encoding="utf-8")
    drawn = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert len(drawn) == 4
    for name in drawn:
        assert f"(../figures/{name})" in page
        assert (ROOT / "docs" / "figures" / name).is_file()
    small = json.loads((tmp_path / "parl.json").read_text(encoding="utf-8"))
    whole = json.loads((ROOT / "docs" / "figures" / "parl.json").read_text(encoding="utf-8"))
    assert small.keys() == whole.keys()
    shown = whole["inexact"]["Hessian where the policy is"]
    assert abs(small["inexact"]["Hessian where the policy is"][2] - shown[3]) < 1e-9  # K = 10 in both


def test_the_tables_of_the_page_are_those_of_the_files():
    page = (ROOT / "docs" / "methods" / "parl.md").read_text(encoding="utf-8")
    whole = json.loads((ROOT / "docs" / "figures" / "parl.json").read_text(encoding="utf-8"))
    rows = {"on-policy, with T1": "full", "on-policy, without T1": "no response", "offline, uniform policy": "offline"}
    exact = whole["sides, exact"]
    for row, kind in rows.items():
        shown = [exact[kind][exact["tau"].index(tau)] for tau in (1.2, 0.4)]
        drawn = [whole[f"sides, tau = {tau}"][kind] for tau in (1.2, 0.4)]
        wanted = [f"{abs(x):.3f}" for pair in zip(shown, drawn, strict=True) for x in pair]
        lines = [
            [x.strip() for x in line.split("|")[2:-1]] for line in page.splitlines() if line.startswith(f"| {row} ")
        ]
        assert wanted in lines
    for tau in (1.2, 0.4):
        value, low, high = whole[f"sides, tau = {tau}"]["full less no response"]
        assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in page
    for row, kind in {"T1 with the Fisher matrix": "full", "T1 with the sampled Hessian": "sampled Hessian",
                      "without T1": "no response"}.items():  # fmt: skip
        assert f"| {row:27} | {whole['grid'][kind]:.3f} " in page
