"""The page on sweeps tells the truth: its study and its program run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from polytheory.cli.main import call
from polytheory.lab import Study, collect

PAGE = (Path(__file__).parents[3] / "docs" / "sweeps.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return found


def test_the_program_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), "docs/sweeps.md", "exec", dont_inherit=True), {})
    assert "algo.bonus_scale" in capsys.readouterr().out
    table = collect("sweeps/lock")
    assert table.select(pl.struct("env.H", "algo.bonus_scale", "seed").n_unique()).item() == 2 * 2 * 5
    columns = re.findall(r"`([a-z_]+)`", PAGE[PAGE.index("## The table") : PAGE.index("| one for each")])
    assert {name for name in columns if name != "abs"} <= set(table.columns)


def test_the_study_runs_in_its_small_form(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("lock.toml").write_text(block("toml"))
    assert len(Study.read("lock.toml").cells()) == (2 + 1) * 3 * 3
    assert call(["sweep", "lock.toml", "--small", "--backend", "serial"]) == 0
    assert "lock: 9 cells; 0 seeds were there, 27 are new" in capsys.readouterr().out
    table = collect("sweeps/lock-small")
    assert set(table["room"]) == {"scaled"}
    assert table.filter(pl.col("step") == 20)["regret"].is_not_null().all()
