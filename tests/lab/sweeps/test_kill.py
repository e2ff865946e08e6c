"""A sweep that is killed fifty times loses nothing and does nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import sweep_kills

from polytheory.lab.sweeps import standing

KILLS = 50


def test_fifty_kills_lose_and_repeat_nothing(tmp_path):
    command = [sys.executable, sweep_kills.__file__, str(tmp_path / "killed"), str(KILLS)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, told.stderr
    facts = json.loads(told.stdout)
    assert facts["killed"] == KILLS
    assert (facts["lost"], facts["redone"]) == (0, 0)
    # some children got nowhere, some finished several files before they died: the kills fell all over the work
    assert min(facts["progress"]) == 0
    assert max(facts["progress"]) >= 2
    study = replace(sweep_kills.STUDY, seeds=facts["seeds"])
    end = study.run(tmp_path / "killed", backend="serial", progress=False).check()
    assert end.found == facts["files"]
    assert standing(tmp_path / "killed")[1:] == (2, 2 * study.seeds, 0, [], [])
    # what one unbroken sweep writes: names hold the digest of the content
    replace(study, seeds=20).run(tmp_path / "whole", backend="serial", progress=False).check()
    names = [{path.name for path in Path(tmp_path / x / "cells").glob("*.parquet")} for x in ("killed", "whole")]
    assert names[1] <= names[0]
    assert len(names[0]) == 2 * study.seeds
