"""The script of the robust figures runs in small and draws what it wrote."""

from __future__ import annotations

import json
import sys

import pytest
from page_scripts import page_script


@pytest.fixture
def figures(monkeypatch):
    module = page_script("make_robust_figures")
    monkeypatch.setattr(module, "RISES", [0.5, 1.0])
    monkeypatch.setattr(module, "COLLAPSES", [0.0, 1.0])
    monkeypatch.setattr(module, "RADII", (0.0, 0.3))
    monkeypatch.setattr(module, "PUT_RADII", (0.0, 0.2))
    return module


def test_numbers_and_pictures_in_small(figures, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["make", "--episodes", "12", "--replicas", "1", "--out", str(tmp_path)])
    figures.main()
    numbers = json.loads((tmp_path / "robust.json").read_text(encoding="utf-8"))
    for rows in numbers["simulated linear MDP"]["returns"].values():
        assert rows[0] > rows[1] > 0  # a collapse hurts every policy
    assert all(x >= -1e-9 for rows in numbers["simulated linear MDP"]["suboptimality"].values() for x in rows)
    put = numbers["american put"]
    assert all(row[0] <= put["optimal"][0] + 1e-9 for row in put["returns"].values())
    swim = numbers["river swim"]
    for name, robust in swim["robust"].items():
        assert robust[0] > robust[1] >= swim["nominal policy"][name][1] - 1e-5  # both are within 1e-6
    assert {x.name for x in tmp_path.glob("*.svg")} == {
        "dr_rpo_collapse.svg", "dr_rpo_suboptimality.svg", "dr_rpo_put.svg", "robust_dp_radius.svg"
    }  # fmt: skip
