"""The entry point: exit codes, one-line errors, help, and how little it imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import typer

from polytheory import __version__
from polytheory.cli import main as entry
from polytheory.cli.main import COMMANDS, call
from polytheory.errors import SettingError


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_version(capsys):
    assert call(["--version"]) == 0
    assert capsys.readouterr().out == f"polytheory {__version__}\n"


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_names_every_command(capsys, words):
    assert call(words) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(capsys, name):
    assert call([name, "-h"]) == 0
    assert f"polytheory {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lst"], "unknown command 'lst'; did you mean 'list'?"),
        (["--verbos"], "No such option: --verbos"),
        (["list", "--jsn"], "--jsn"),
        (["show"], "Missing argument"),
        (["show", "plannin"], "unknown method 'plannin'; did you mean 'planning'?"),
        (["run", "planning"], "Missing option '--env'"),
        (["run", "planning", "--env", "frozenlake", "--steps", "many"], "Invalid value for '--steps'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys, words, expected):
    assert call(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("polytheory: error: ")
    assert expected in err
    assert err.count("\n") == 1


def app_that(fails: Exception | BaseException):
    def build(words):
        app = typer.Typer()
        app.callback()(lambda: None)

        @app.command("fail")
        def command() -> None:
            raise fails

        return app

    return build


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SettingError("two\nlines"), 2, "error: two lines"),
        (RuntimeError("oh"), 3, "this is a bug of polytheory: RuntimeError: oh (add --debug"),
        (typer.Exit(1), 1, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_error_has_its_code(monkeypatch, capsys, error, code, words):
    monkeypatch.setattr(entry, "build", app_that(error))
    assert call(["fail"]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("error", [SettingError("no"), RuntimeError("oh")])
def test_debug_shows_the_traceback(monkeypatch, error):
    monkeypatch.setattr(entry, "build", app_that(error))
    with pytest.raises(type(error)):
        call(["fail", "--debug"])


def test_output_that_nobody_reads_is_no_crash():
    code = "import sys; from polytheory.cli.main import main; main(['--help'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_help_imports_nothing_heavy_and_is_quick():
    code = """
import sys, json
from polytheory.cli.main import call
call(["--help"])
heavy = "numpy scipy torch gymnasium cvxpy sympy matplotlib hypothesis networkx".split()
print(json.dumps([m for m in heavy if m in sys.modules]))
"""
    assert json.loads(fresh(code).splitlines()[-1]) == []
    times = []
    for _ in range(3):
        before = os.times()
        fresh("from polytheory.cli.main import call; call(['--help'])")
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(times) < 0.5  # CPU seconds of the process: what the command costs, not what its neighbours do


def test_a_command_imports_only_its_own_module():
    code = """
import sys
from polytheory.cli.main import build
build(["list"])
print(sorted(m for m in sys.modules if m.startswith("polytheory.cli.")))
"""
    assert fresh(code).strip() == "['polytheory.cli.list', 'polytheory.cli.main']"
