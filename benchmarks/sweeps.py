"""Benchmark of the sweeps: ``python -m benchmarks.sweeps [--quick] [--json FILE]``.

What a sweep costs beside its runs, at cells of about one second, in CPU time (which other work on the machine disturbs least):
the plain loop over `polytheory.run.run` against the same seeds as a study, on this process and per further cell on worker
processes. And how long 200 seeds of an exploration study take in lock-step. Exit code 1 when a goal is missed.
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
from polytheory.lab.sweeps import Study
from polytheory.lab.sweeps.running import run_study
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


def plain(seeds: int, episodes: int) -> None:
    """The runs of the study, one after another, and nothing else."""
    (cell,) = replace(PROBE, episodes=episodes).cells()
    model = make("riverswim", horizon=10)
    for seed in range(seeds):
        run(Ucbvi(), Online(model), episodes=episodes, seed=cell.seed, replica=seed, history=False, progress=False)


def swept(study: Study, backend: str = "serial") -> None:
    """The study in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run_study(study, Path(folder) / "out", backend=backend, jobs=2, progress=False).check()


def overhead(seeds: int, episodes: int, rounds: int) -> dict[str, float]:
    """CPU seconds of a plain run, and what a seed of a study costs above it, as a fraction."""
    study = replace(PROBE, episodes=episodes, measure=())
    measured = replace(study, measure=("suboptimality",))
    swept(replace(measured, seeds=1, episodes=1))  # imports
    found: dict[str, list[float]] = {"plain": [], "serial": [], "serial, suboptimality": [], "loky": []}
    for _ in range(rounds):
        found["plain"].append(spent(lambda: plain(seeds, episodes)) / seeds)
        found["serial"].append(spent(lambda: swept(replace(study, seeds=seeds))) / seeds)
        found["serial, suboptimality"].append(spent(lambda: swept(replace(measured, seeds=seeds))) / seeds)
        # workers load their libraries once: what counts is a further cell
        few, many = (spent(lambda n=n: swept(replace(study, seeds=n), "loky")) for n in (seeds, 2 * seeds))
        found["loky"].append((many - few) / seeds)
    middle = {name: statistics.median(x) for name, x in found.items()}
    return {"plain": middle["plain"]} | {name: x / middle["plain"] - 1 for name, x in middle.items() if name != "plain"}


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
    facts = overhead(2 if given.quick else 4, 100 if given.quick else 300, 1 if given.quick else 3)
    seconds = exploration(200, 50 if given.quick else 1000)
    table = Table("what", "measured", "goal", title="CPU time")
    table.add_row("a plain run, the cell", f"{facts['plain']:.2f} s", "")
    for name in ("serial", "serial, suboptimality", "loky"):
        table.add_row(f"above it, {name}", f"{facts[name]:+.1%}", f"below {OVERHEAD:.0%}")
    table.add_row("200 seeds of Nora with exact regret", f"{seconds:.0f} s", f"about {MINUTE:.0f} s")
    Console(width=100).print(table)
    if given.json:
        given.json.write_text(json.dumps({**facts, "exploration": seconds}, indent=1), encoding="utf-8")
    raise SystemExit(1 if max(facts["serial"], facts["loky"]) > OVERHEAD or seconds > 2 * MINUTE else 0)


if __name__ == "__main__":
    main()
