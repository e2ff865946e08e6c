"""The README tells the truth: its table is the catalog's, and its examples run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from page_scripts import page_script

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [x for x in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "import" in x]


def test_the_table_of_methods_is_the_catalogs():
    tables = page_script("make_tables")
    assert tables.with_table(README) == README, "run: python docs/make_tables.py"


def test_there_is_an_example_for_each_of_the_groups():
    assert len(BLOCKS) == 6
    for block in BLOCKS:
        assert len([line for line in block.splitlines() if line.strip()]) <= 14


@pytest.mark.parametrize("i", range(len(BLOCKS)))
def test_example_runs(i, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    theirs = types.ModuleType("my_package")
    theirs.my_value_iteration = _value_iteration
    monkeypatch.setitem(sys.modules, "my_package", theirs)
    scope: dict = {}
    exec(compile(BLOCKS[i], f"README example {i}", "exec", dont_inherit=True), scope)
    tests = [f for name, f in scope.items() if name.startswith("test_")]
    for test in tests:
        test()
    assert tests or capsys.readouterr().out


def test_an_example_that_checks_someone_elses_code_can_fail(monkeypatch):
    theirs = types.ModuleType("my_package")
    theirs.my_value_iteration = lambda P, r, gamma, tol: _value_iteration(P, r, gamma, tol) + 0.01
    monkeypatch.setitem(sys.modules, "my_package", theirs)
    (block,) = [b for b in BLOCKS if "my_package" in b]
    scope: dict = {}
    exec(compile(block, "README example", "exec", dont_inherit=True), scope)
    (test,) = [f for name, f in scope.items() if name.startswith("test_")]
    with pytest.raises(AssertionError):
        test()


def test_importing_the_package_is_fast_and_light():
    code = (
        "import sys, time; t = time.perf_counter(); import polytheory; s = time.perf_counter() - t;"
        "heavy = {'torch', 'cvxpy', 'transformers', 'scipy', 'hypothesis'} & set(sys.modules); print(s, heavy);"
        "sys.exit(s > 0.3 or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _value_iteration(P, r, gamma, tol):
    import numpy as np
    import scipy.sparse as sp

    P = P.toarray() if sp.issparse(P) else np.asarray(P)
    P = P.reshape(-1, P.shape[-1])
    S = P.shape[1]
    r = (P.reshape(r.shape) * r).sum(-1) if r.ndim == 3 else r
    v = np.zeros(S)
    while True:
        new = (r + gamma * (P @ v).reshape(S, -1)).max(-1)
        if abs(new - v).max() * gamma <= tol * (1 - gamma):
            return new
        v = new
