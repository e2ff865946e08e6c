"""The training figure of the page comes from a command that runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from page_scripts import page_script

ROOT = Path(__file__).parent.parent


def test_the_command_draws_what_the_page_shows(tmp_path, monkeypatch):
    module = page_script("make_parl_training")
    monkeypatch.setattr(sys, "argv", ["make_parl_training", "--small", "--out", str(tmp_path)])
    module.main()
    page = (ROOT / "docs" / "methods" / "parl.md").read_text(encoding="utf-8")
    assert (tmp_path / "parl_training.svg").is_file()
    assert "(../figures/parl_training.svg)" in page
    small, whole = (
        json.loads((folder / "parl_training.json").read_text(encoding="utf-8"))
        for folder in (tmp_path, ROOT / "docs" / "figures")
    )
    assert small.keys() == whole.keys()
    for name, own in whole.items():  # the table's numbers are those of the file
        mean = sum(c["after"] for c in own) / len(own)
        assert f"{mean:.3f}" in page, name
