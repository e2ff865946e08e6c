"""The figures of the page come from a command that runs, and that does not run twice what it knows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from page_scripts import page_script

ROOT = Path(__file__).parent.parent


def test_the_command_draws_every_figure_that_the_page_shows(tmp_path, monkeypatch, capsys):
    module = page_script("make_exploration_figures")
    monkeypatch.setattr(sys, "argv", ["make_exploration_figures", "--quick", "--out", str(tmp_path)])
    module.main()
    page = (ROOT / "docs" / "methods" / "optimistic-actor-critic.md").read_text(encoding="utf-8")
    drawn = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert drawn == ["deep_sea.svg", "mountain_car.svg", "oac_regret.svg"]
    assert all(f"(../figures/{name})" in page and (ROOT / "docs" / "figures" / name).is_file() for name in drawn)
    cells = json.loads((tmp_path / "deep_sea.json").read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 2 * 2 * 2
    assert cells["optimistic/3/0"]["episodes"] is not None  # depth 3: one dive in eight finds the treasure
    ran = len(capsys.readouterr().out.splitlines())
    module.main()
    # six of the regret, and two kinds with two seeds each on the mountain
    assert (ran, capsys.readouterr().out) == (len(cells) + 6 + 4, "")


def test_the_numbers_of_the_page_are_those_of_the_files():
    page = (ROOT / "docs" / "methods" / "optimistic-actor-critic.md").read_text(encoding="utf-8")
    cells = json.loads((ROOT / "docs" / "figures" / "oac_regret.json").read_text(encoding="utf-8"))["cells"]
    for key, cell in cells.items():
        rate, width = cell["slope"]
        assert f"{rate:.2f} ± {width:.2f}" in page, key


def test_what_the_page_says_of_the_deep_form_is_in_the_files():
    page = (ROOT / "docs" / "methods" / "optimistic-actor-critic.md").read_text(encoding="utf-8")
    figures = ROOT / "docs" / "figures"
    cells = json.loads((figures / "deep_sea.json").read_text(encoding="utf-8"))["cells"]
    for depth in (10, 15, 20, 25, 30):
        own = [cells[f"optimistic/{depth}/{seed}"] for seed in range(3)]
        row = [str(depth), *(str(x[key]) for key in ("episodes", "switches") for x in own)]
        assert "| " + " | ".join(row) + " |" in page
        assert all(cells[f"epsilon-greedy/{depth}/{seed}"]["episodes"] is None for seed in range(3))
    cells = json.loads((figures / "mountain_car.json").read_text(encoding="utf-8"))["cells"]
    for seed in range(3):
        assert f"{sum(cells[f'optimistic/{seed}']['returns'][-25:]) / 25:.1f}" in page  # 25 batches of four
