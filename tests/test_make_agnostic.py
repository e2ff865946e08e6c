"""The figures of the page come from a command that runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_command_draws_every_figure_that_the_page_shows(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("make_agnostic", ROOT / "docs" / "make_agnostic.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["make_agnostic", "--quick", "--out", str(tmp_path)])
    module.main()
    page = (ROOT / "docs" / "methods" / "agnostic-policy-learning.md").read_text(encoding="utf-8")
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert len(drawn) == len(module.PANELS) == 5
    assert all(f"({name})" in page and (ROOT / "docs" / "methods" / name).is_file() for name in drawn)
    assert "loss                 0.019 0.0361 0.06859" in capsys.readouterr().out
