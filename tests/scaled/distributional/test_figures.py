"""The figures' command runs in its small form, and its laws are those of the page."""

from __future__ import annotations

import json

import pytest
from page_scripts import page_script


def test_small_form(tmp_path):
    module = page_script("make_distributional_figures")
    module.main(["--small", "--out", str(tmp_path)])
    values = [
        [law["value"] for law in laws.values()]
        for _, _, laws in json.loads((tmp_path / "distributional_laws.json").read_text())
    ]
    assert values[0] == pytest.approx([27 / 8, 19 / 4, 5], abs=1e-12)
    assert values[2][1:] == pytest.approx([27 / 32, 57 / 64], abs=1e-12)
    assert (tmp_path / "distributional_agent.svg").stat().st_size > 1000
