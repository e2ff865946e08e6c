"""The example on the page runs, passes, and fails as shown when it is broken as told."""

from __future__ import annotations

import re
from pathlib import Path

from polytheory.conformance import checks_for, conform
from polytheory.conformance.checks import CHECKS
from polytheory.conformance.kit import explain

PAGE = (Path(__file__).parents[2] / "docs/conformance-kit.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(# my_loss.py\n.*?)```", PAGE, re.S)


def test_the_example_passes(tmp_path):
    path = tmp_path / "my_loss.py"
    path.write_text(EXAMPLE)
    assert conform(f"{path}:grpo", "grpo", settings={"beta": 0.1}, examples=4)[0].passed


def test_the_broken_example_fails_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert EXAMPLE.count("now - ref") == 1
    (tmp_path / "my_loss.py").write_text(EXAMPLE.replace("now - ref", "ref - now"))
    value = checks_for("my_loss.py:grpo", "grpo")[0]
    finding = value.run()
    assert finding.status == "fail"
    shown = explain(value.case, finding)
    assert f"```\n{shown}\n```" in PAGE


def test_every_check_is_on_the_page():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(CHECKS)
