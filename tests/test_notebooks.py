"""The notebooks run, are made of their scripts, and their exercises are graded as they should be."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from polytheory import models
from polytheory.conformance import grade
from polytheory.conformance.exercises import exercise, names
from polytheory.models.tabular_lm import TabularLM
from polytheory.reference.planning.planning import solve

ROOT = Path(__file__).parent.parent
HERE = ROOT / "docs" / "notebooks"
SCRIPTS = sorted(HERE.glob("[0-9]*.py"))


def loaded(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOLUTIONS = loaded(HERE / "solutions.py")


@pytest.mark.parametrize("path", SCRIPTS, ids=[p.stem for p in SCRIPTS])
def test_a_notebook_runs_and_is_made_of_its_script(path):
    """Every cell, its assertions among them, in a process without the checks of annotations."""
    command = [sys.executable, str(ROOT / "docs" / "make_notebooks.py"), "--check", path.stem]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = float(re.search(r"([\d.]+) s CPU", done.stdout).group(1))
    assert seconds < 60, "a notebook is to run within two minutes, also on a slower machine"


@pytest.mark.parametrize("path", SCRIPTS, ids=[p.stem for p in SCRIPTS])
def test_the_answers_that_stand_there_are_wrong_in_a_known_way(path):
    cells = json.loads(path.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    asked = [c for c in cells if c["cell_type"] == "code" and "print(grade(" in "".join(c["source"])]
    assert len(asked) >= 2
    for cell in asked:
        name = re.search(r'grade\(\w+, "([\w-]+)"\)', "".join(cell["source"])).group(1)
        said = "".join(cell["outputs"][0]["text"])
        assert said.startswith(f"{name}: not yet.")
        assert any(told[1:] in said for told in exercise(name).mistakes), said


def test_every_exercise_is_asked_for_and_solved():
    text = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    assert set(re.findall(r'grade\(\w+, "([\w-]+)"\)', text)) == set(names()) == set(SOLUTIONS.ANSWERS)


@pytest.mark.parametrize("name", names())
def test_the_solution_is_right(name):
    verdict = grade(SOLUTIONS.ANSWERS[name], name)
    assert verdict, verdict.message


def test_the_discount_at_which_two_actions_tie():
    tie = float(SOLUTIONS.GAMMA_TIE)
    for gamma, best in ((tie - 1e-6, 0), (tie + 1e-6, 1)):
        model = models.make("two-state", gamma=gamma)
        q = model.r + gamma * model.P @ solve(model, tol=1e-12).v
        assert q.argmax(axis=1).tolist() == [best, 1]


def test_a_leak_is_a_smaller_discount():
    rng = np.random.default_rng(0)
    P, v = rng.dirichlet(np.ones(3), size=3), rng.normal(size=3)
    np.testing.assert_allclose(0.9 * ((1 - 0.02) * P) @ v, SOLUTIONS.ordinary_discount(0.9, 0.02) * P @ v, rtol=1e-14)


def test_the_deviation_turns_the_direction_unless_rewards_are_zero_and_one():
    lm = TabularLM(vocabulary=3, max_length=3)
    assert SOLUTIONS.cosine(lm, lm.reward(lambda y: y.count(1) % 2)) > 1 - 1e-12
    assert SOLUTIONS.cosine(lm, lm.reward(lambda y: y.count(1))) < 0.999


def test_a_stale_notebook_is_noticed(tmp_path):
    make = loaded(ROOT / "docs" / "make_notebooks.py")
    old, new = (make.notebook(make.cells_of(f"# %% [markdown]\n# text\n\n# %%\nprint({x})\n")) for x in (1, 2))
    assert make.same_source(old, old)
    assert not make.same_source(old, new)
    assert [c["cell_type"] for c in old["cells"]] == ["markdown", "code"]
    assert old["cells"][0]["source"] == ["text"]
