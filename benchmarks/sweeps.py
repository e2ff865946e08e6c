"""Benchmark of the sweeps: ``python -m benchmarks.sweeps [--quick] [--json FILE]``.

What a sweep costs beside its runs, in CPU time (which other work on the machine disturbs least): a run of about one second
against the same run as a job of a sweep; what a further cell costs above its run, on this process and on workers, where one
second is the measure too; and how long 200 seeds of an exploration study take in lock-step. Exit code 1 when a goal is
missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from joblib.externals.loky import get_reusable_executor
from rich.console import Console
from rich.table import Table

from polytheory.access import Online
from polytheory.lab.sweeps import Job, Study
from polytheory.lab.sweeps.running import run_study
from polytheory.lab.sweeps.work import perform
from polytheory.models import make
from polytheory.reference.exploration.optimistic_actor_critic import Ucbvi
from polytheory.run import run

OVERHEAD, MINUTE = 0.05, 60.0  # goals
ENVIRONMENT = {"name": "riverswim", "options": {"horizon": 10}}
PROBE = Study(
    "probe", [{"name": "optimistic-actor-critic", "algorithm": "Ucbvi"}], [ENVIRONMENT], room="reference", density=8
)


def cpu() -> float:
    """CPU seconds of this process and of the children that have ended."""
    return sum(
        x.ru_utime + x.ru_stime for x in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def spent(work: Callable[[], Any]) -> float:
    """CPU seconds of ``work``, its worker processes included."""
    start = cpu()
    work()
    get_reusable_executor().shutdown(wait=True)
    return cpu() - start


def plain(seed: int, episodes: int) -> None:
    """One run of the study, and nothing else."""
    (cell,) = replace(PROBE, episodes=episodes).cells()
    access = Online(make("riverswim", horizon=10))
    run(Ucbvi(), access, episodes=episodes, seed=cell.seed, replica=seed, history=False, progress=False)


def swept(study: Study, backend: str = "serial") -> None:
    """The study in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run_study(study, Path(folder) / "out", backend=backend, jobs=2, progress=False).check()


def beside(measure: tuple[str, ...], episodes: int, rounds: int) -> tuple[float, float]:
    """CPU seconds of a plain run of one second or so, and what the same run as a job of a sweep costs above it, as a fraction.

    The two are run in turns; the least of each counts, which other work on the machine lengthened least.
    """
    (cell,) = replace(PROBE, episodes=episodes, measure=measure).cells()
    bare, job = [], []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cells").mkdir()
        for _ in range(rounds):
            bare.append(spent(lambda: plain(0, episodes)))
            job.append(spent(lambda: perform(Job(cell, 0, 1), Path(folder))))
    return min(bare), min(job) / min(bare) - 1


def further(backend: str, cells: int, rounds: int) -> float:
    """CPU seconds that a further cell costs above its run: from cells that do next to nothing."""
    tiny = replace(PROBE, episodes=1, measure=())
    found = []
    for _ in range(rounds):
        few, many = (spent(lambda n=n: swept(replace(tiny, seeds=n), backend)) for n in (cells, 3 * cells))
        alone = spent(lambda: [plain(seed, 1) for seed in range(2 * cells)])
        found.append((many - few - alone) / (2 * cells))
    return statistics.median(found)


def exploration(seeds: int, episodes: int) -> float:
    """CPU seconds of a study of Nora with exact regret and suboptimality, in lock-step on this process."""
    study = Study(
        "exploration", ["optimistic-actor-critic"], [ENVIRONMENT], seeds=seeds, episodes=episodes,
        measure=["suboptimality", "regret"], room="scaled",
    )  # fmt: skip
    swept(replace(study, seeds=1, episodes=1))  # imports
    return spent(lambda: swept(study))


def main() -> None:
    """Print the table; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of few cells")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args()
    swept(replace(PROBE, seeds=1, episodes=1))  # imports
    episodes, rounds = (100, 3) if given.quick else (350, 15)
    seconds, bare = beside((), episodes, rounds)
    _, measured = beside(("suboptimality",), episodes, rounds)
    cost = {
        backend: further(backend, 10 if given.quick else 60, 1 if given.quick else 3) for backend in ("serial", "loky")
    }
    study = exploration(200, 50 if given.quick else 1000)
    table = Table("what", "measured", "goal", title="CPU time")
    table.add_row("a plain run, the cell", f"{seconds:.2f} s", "")
    table.add_row("the same as a job of a sweep", f"{bare:+.1%}", f"below {OVERHEAD:.0%}")
    table.add_row("the same with suboptimality on the grid", f"{measured:+.1%}", "")
    for backend, x in cost.items():
        table.add_row(f"a further cell above its run, {backend}", f"{x * 1e3:.1f} ms", f"below {OVERHEAD * 1e3:.0f} ms")
    table.add_row("200 seeds of Nora with exact regret", f"{study:.0f} s", f"about {MINUTE:.0f} s")
    Console(width=100).print(table)
    facts = {"plain": seconds, "job": bare, "job, suboptimality": measured, **cost, "exploration": study}
    if given.json:
        given.json.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    missed = bare > OVERHEAD or max(cost.values()) > OVERHEAD or study > 2 * MINUTE
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
