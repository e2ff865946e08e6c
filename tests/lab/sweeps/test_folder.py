"""The folder of a study: what a full disk, a kill at the wrong moment and other people's files do to it."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from polytheory.errors import SettingError, StorageError
from polytheory.lab.sweeps import Study, collect
from polytheory.lab.sweeps.cells import Job
from polytheory.lab.sweeps.folder import ABANDONED, keep, look, open_folder, plan_of, read_plan
from polytheory.lab.sweeps.running import run_study

STUDY = Study("folder", ["planning"], ["two-state"], room="reference", measure=["bound"])
(CELL,) = STUDY.cells()
JOB = Job(CELL, 0, 1)


@pytest.fixture
def folder(tmp_path):
    open_folder(tmp_path, plan_of("folder", [CELL]))
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cells").iterdir())


def test_a_full_disk_publishes_nothing_and_leaves_nothing(folder, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"cannot write .*No space left on device; make room and run again"):
        keep(folder, JOB, b"rows")
    assert names(folder) == []
    end = run_study(STUDY, folder, backend="serial", progress=False)
    assert [f.why.partition(":")[0] for f in end.failures] == ["StorageError"]


def test_what_is_not_renamed_yet_is_no_result(folder, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *paths: None)  # killed just before
    monkeypatch.setattr(Path, "unlink", lambda *path, **options: None)
    keep(folder, JOB, b"rows")
    assert len(names(folder)) == 1
    assert look(folder).files == {}
    assert look(folder).damaged == []


def test_leftovers_of_a_kill_go_when_they_are_old(folder):
    new, old = (folder / "cells" / f".x.parquet.{name}.tmp" for name in ("new", "old"))
    for path in (new, old):
        path.write_bytes(b"half")
    long_ago = time.time() - 2 * ABANDONED
    os.utime(old, (long_ago, long_ago))
    open_folder(folder, plan_of("folder", [CELL]))  # another shard may be writing the new one
    assert names(folder) == [new.name]


@pytest.mark.parametrize("left", [[], ["cells"], ["cells", ".study.json.ab.tmp"]])
def test_a_kill_while_the_folder_was_made_is_no_stranger(tmp_path, left):
    for name in left:
        (tmp_path / name).mkdir() if name == "cells" else (tmp_path / name).write_text("{")
    open_folder(tmp_path, plan_of("folder", [CELL]))
    assert read_plan(tmp_path)["study"] == "folder"


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="holds something that is no study"):
        open_folder(tmp_path / "file", plan_of("folder", [CELL]))
    with pytest.raises(StorageError, match=r"cannot write to .*Not a directory"):
        open_folder(tmp_path / "file" / "deeper", plan_of("folder", [CELL]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "study.json is damaged; remove it"),
        ("[]", "study.json is damaged"),
        ('{"format": 1, "study": "folder"}', "study.json is damaged"),
        (json.dumps({"format": 99, "study": "folder", "cells": []}), "has format 99; this version reads 1"),
    ],
)
def test_a_plan_that_cannot_be_read(folder, content, message):
    (folder / "study.json").write_text(content)
    with pytest.raises(SettingError, match=message):
        read_plan(folder)


def test_nothing_to_collect(folder, tmp_path_factory):
    with pytest.raises(SettingError, match=r"holds no study \(it has no study.json\)"):
        collect(tmp_path_factory.mktemp("empty"))
    with (
        pytest.warns(UserWarning, match="1 of 1 seeds of 1 cells are missing"),
        pytest.raises(SettingError, match=r"no cell of the study in .* is done"),
    ):
        collect(folder)


def test_other_files_in_the_folder_of_cells_are_left_alone(folder):
    (folder / "cells" / "notes.parquet").write_text("mine")
    run_study(STUDY, folder, backend="serial", progress=False).check()
    assert "notes.parquet" in names(folder)
    assert collect(folder).height > 0
