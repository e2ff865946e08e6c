"""Kills a sweep again and again, and says what it lost or did twice; run as a command by a test.

python sweep_kills.py FOLDER KILLS

This process never touches polars itself: its threads do not survive a fork. Each child is killed either at a random function
call, by signal 9, or after a random CPU time, by the kernel's timer, anywhere.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import polars  # noqa: F401  (every child would import it otherwise)

from polytheory.lab.sweeps import Study
from polytheory.lab.sweeps.cells import Job
from polytheory.lab.sweeps.running import validate
from polytheory.lab.sweeps.work import rows

STUDY = Study(
    name="kills",
    methods=[{"name": "optimistic-actor-critic", "algorithm": "Ucbvi"}],
    environments=[{"name": "baited-lock", "options": {"H": [1, 2]}}],
    seeds=20,
    episodes=2,
    room="reference",
)


def serial(study: str, folder: str) -> None:
    """Run a study, kept as JSON, in this process."""
    Study(**json.loads(Path(study).read_text())).run(folder, backend="serial", progress=False)


def child(study: Study, folder: Path, rng: random.Random) -> None:
    """Run the study, and die on the way."""
    if rng.random() < 0.5:
        left = rng.randrange(1, 20_000)

        def count(*event: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
    else:
        signal.setitimer(signal.ITIMER_PROF, rng.uniform(0.001, 0.06))  # its signal's default is death, no code runs
    study.run(folder, backend="serial", progress=False)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Published files, and what changes when one is written again."""
    found = {path.name: path.stat() for path in (folder / "cells").glob("*.parquet")}
    return {name: (x.st_ino, x.st_mtime_ns) for name, x in found.items()}


def main(folder: Path, kills: int) -> None:
    """Print what was found, as JSON."""
    study, killed, ended, lost, redone, progress = STUDY, 0, 0, 0, 0, set()
    validate(study.cells())
    for cell in study.cells():
        rows(Job(cell, 0, 1))  # imports what the children need
    attempt = 0
    while killed < kills:
        attempt += 1
        before = files(folder)
        pid = os.fork()
        if pid == 0:
            try:
                child(study, folder, random.Random(attempt))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        after = files(folder)
        lost += len(before.keys() - after.keys())
        redone += sum(after[name] != before[name] for name in before.keys() & after.keys())
        progress.add(len(after) - len(before))
        if os.WIFSIGNALED(status):
            killed += 1
        elif os.WEXITSTATUS(status):
            sys.exit(1)
        else:
            ended += 1
            study = replace(study, seeds=study.seeds + 20)  # there has to be something left to interrupt
    facts = {"killed": killed, "ended": ended, "lost": lost, "redone": redone, "seeds": study.seeds}
    print(json.dumps({**facts, "files": len(files(folder)), "progress": sorted(progress)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
