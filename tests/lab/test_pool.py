"""Workers: results as they come, failures named, nothing left behind."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polytheory.errors import SettingError
from polytheory.lab.pool import complete, each

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def children():
    """Worker processes of this one; other tests' may be among them."""
    return set(multiprocessing.active_children())


def test_one_worker_is_this_process():
    assert list(each(pow, [(2, 3), (3, 2)], 1)) == [(0, 8), (1, 9)]
    assert [pid for _, pid in each(os.getpid, [(), ()], 1)] == [os.getpid()] * 2


def test_two_workers_are_other_processes_on_one_thread_each():
    before, others = {name: os.environ.get(name) for name in THREADS}, children()
    jobs = [(name,) for name in THREADS]
    assert sorted(each(os.getenv, jobs, 2)) == [(0, "1"), (1, "1"), (2, "1")]
    assert {name: os.environ.get(name) for name in THREADS} == before
    assert children() <= others


def test_a_worker_that_dies_is_a_result():
    found = dict(each(os._exit, [(3,), (4,)], 2))
    assert sorted(found) == [0, 1]
    assert all(isinstance(error, Exception) for error in found.values())


def test_who_stops_listening_does_not_wait():
    start, others = time.monotonic(), children()
    results = each(time.sleep, [(0.0,), (600.0,), (600.0,)], 2)
    assert next(results) == (0, None)
    results.close()
    for process in children() - others:
        process.join(timeout=30)
    assert children() <= others
    assert time.monotonic() - start < 120


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    """A killed parent cannot stop its workers: they must notice themselves."""
    code = f"""
import os, pathlib, sys, time
from polytheory.lab.pool import complete, each
if __name__ == "__main__":
    for i, pid in each(eval, [("__import__('os').getpid()",), ("__import__('time').sleep(600)",)], 2):
        pathlib.Path({str(tmp_path / "pid")!r} + ".part").write_text(str(pid))
        os.rename({str(tmp_path / "pid")!r} + ".part", {str(tmp_path / "pid")!r})
"""
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)])
    try:
        _until(lambda: (tmp_path / "pid").exists())
        worker = int((tmp_path / "pid").read_text())
        assert _alive(worker)
    finally:
        parent.kill()
        parent.wait()
    _until(lambda: not _alive(worker))


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if sys.platform != "linux":
        return subprocess.run(["kill", "-0", str(pid)], capture_output=True, check=False).returncode == 0
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _until(done) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_results_come_with_the_number_of_their_job():
    jobs = [(k,) for k in range(6)]
    assert sorted(each(math.factorial, jobs, 2)) == [(k, math.factorial(k)) for k in range(6)]


def test_what_a_file_has_is_not_run_again(tmp_path):
    path, jobs = tmp_path / "cells.json", {"8": (2, 3), "9": (3, 2)}
    first = complete(pow, {"8": (2, 3)}, path, {"of": 1}, 1)
    assert first == {"8": 8}
    path.write_text(path.read_text().replace('"8": 8', '"8": -8'))  # seen again, so not computed again
    assert complete(pow, jobs, path, {"of": 1}, 1) == {"8": -8, "9": 9}
    assert json.loads(path.read_text()) == {"about": {"of": 1}, "cells": {"8": -8, "9": 9}}
    assert complete(pow, jobs, path, {"of": 2}, 1) == {"8": 8, "9": 9}  # other settings
    path.write_text(path.read_text().replace('"8": 8', '"8": -8'))
    assert complete(pow, jobs, path, {"of": 2}, 1, fresh=True) == {"8": 8, "9": 9}


def test_a_write_that_fails_leaves_the_results_before_it(tmp_path, monkeypatch):
    path = tmp_path / "found.json"
    complete(pow, {"8": (2, 3)}, path, {}, 1)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SettingError, match="No space left"):
        complete(pow, {"8": (2, 3), "9": (3, 2)}, path, {}, 1)
    assert path.read_bytes() == before
