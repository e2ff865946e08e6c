"""Benchmark of the episodic learners: ``python -m benchmarks.exploration [--quick]``.

Episodes per second of CPU time on one thread, on RiverSwim (6 states, 10 stages) and a random linear MDP: the reference by
itself, and the scaled version with 1, 64 and 1024 replicas (episodes of all replicas together). Times
are CPU times, which other work on the machine disturbs least; compare columns of one run.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time

import torch
from rich.console import Console
from rich.table import Table

from polytheory import models
from polytheory.access import Online
from polytheory.models.random_models import random_linear
from polytheory.reference.exploration import optimistic_actor_critic as reference
from polytheory.scaled.exploration import optimistic_actor_critic as scaled

REPLICAS = (1, 64, 1024)
METHODS = (("Nora", {}), ("Douhua", {}), ("LsviUcb", {}), ("Ucbvi", {}))


def rate(made, access, steps: int, replicas: int = 1) -> float:
    """Episodes per second of CPU time after five to warm up."""
    state = made.init(access, 0)
    for _ in range(5):
        state, _ = made.step(state, access)
    start = time.process_time()
    for _ in range(steps):
        state, _ = made.step(state, access)
    return steps * replicas / (time.process_time() - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer episodes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = 20 if options.quick else 200
    river, linear = models.make("riverswim", horizon=10), random_linear()
    table = Table(title="episodes per CPU second, one thread")
    for column in ("environment", "method", "reference", *(f"scaled, {n}" for n in REPLICAS), "1024 / reference"):
        table.add_column(column, justify="left" if column in ("environment", "method") else "right")
    for model, phi in ((river, None), (linear.to_tabular(), linear.phi)):
        access = Online(model)
        for name, settings in METHODS:
            if phi is not None and name == "Ucbvi":
                continue
            settings = {"episodes": 1000, **settings} | ({} if phi is None else {"phi": phi})
            slow = rate(getattr(reference, name)(**settings), access.fresh(), steps)
            fast = [
                rate(getattr(scaled, name)(**settings), access.replicate(n), max(5, steps // 5), n) for n in REPLICAS
            ]
            numbers = [f"{x:,.0f}" for x in (slow, *fast)]
            table.add_row(model.name, name, *numbers, f"x{fast[-1] / slow:.1f}")
    console = Console(width=120)
    console.print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {platform.machine()}")
    console.print(table)


if __name__ == "__main__":
    main()
