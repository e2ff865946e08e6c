"""Benchmark of the episodic learners: ``python -m benchmarks.exploration [--quick] [--rlberry PYTHON]``.

Episodes per second of CPU time on one thread, on a two-state model (5 stages), RiverSwim (6 states, 10 stages) and a random
linear MDP: the reference by itself, the scaled version with 1, 64 and 1024 replicas (episodes of all replicas together), and
rlberry's UCBVI, where PYTHON of an environment with rlberry and rlberry-scool is given. Times are CPU times, which other work
on the machine disturbs least; each is the best of three, taken in turn. Compare columns of one run.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from polytheory import models
from polytheory.access import Online
from polytheory.models.random_models import random_linear
from polytheory.reference.exploration import optimistic_actor_critic as reference
from polytheory.scaled.exploration import optimistic_actor_critic as scaled

REPLICAS = (1, 64, 1024)
METHODS = ("Nora", "Douhua", "LsviUcb", "Ucbvi")
ROUNDS = 3


def rate(made, access, steps: int, replicas: int = 1) -> float:
    """Episodes per second of CPU time after five to warm up."""
    state = made.init(access, 0)
    for _ in range(5):
        state, _ = made.step(state, access)
    start = time.process_time()
    for _ in range(steps):
        state, _ = made.step(state, access)
    return steps * replicas / (time.process_time() - start)


def rlberry_rate(python: str, model, steps: int) -> float:
    """The same of rlberry's UCBVI, in a process of that interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "model.npz"
        np.savez(stored, P=model.P, r=model.r, mu=model.mu, horizon=model.horizon)
        script = Path(__file__).with_name("exploration_rlberry.py")
        command = [python, str(script), str(stored), str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"OMP_NUM_THREADS": "1"})
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer episodes")
    parser.add_argument("--rlberry", metavar="PYTHON", help="interpreter of an environment with rlberry-scool")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = 40 if options.quick else 200
    linear = random_linear()
    worlds = [
        (models.make("two-state", horizon=5, gamma=1.0), None), (models.make("riverswim", horizon=10), None),
        (linear.to_tabular(), linear.phi),
    ]  # fmt: skip
    table = Table(title="episodes per CPU second, one thread")
    columns = ("reference", *(f"scaled, {n}" for n in REPLICAS), "rlberry", "1024 / reference", "1024 / rlberry")
    for column in ("environment", "method", *columns):
        table.add_column(column, justify="left" if column in ("environment", "method") else "right")
    for model, phi in worlds:
        access = Online(model)
        for name in METHODS:
            if phi is not None and name == "Ucbvi":
                continue
            settings = {"episodes": 1000} | ({} if phi is None else {"phi": phi})
            best = np.zeros(2 + len(REPLICAS))
            for _ in range(ROUNDS):
                found = [rate(getattr(reference, name)(**settings), access.fresh(), steps)]
                for n in REPLICAS:
                    found.append(rate(getattr(scaled, name)(**settings), access.replicate(n), max(5, steps // 5), n))
                peer = options.rlberry and name == "Ucbvi"
                found.append(rlberry_rate(options.rlberry, model, 5 * steps) if peer else 0.0)
                best = np.maximum(best, found)
            numbers = [f"{x:,.0f}" if x else "" for x in best]
            over = f"x{best[-2] / best[-1]:.0f}" if best[-1] else ""
            table.add_row(model.name, name, *numbers, f"x{best[-2] / best[0]:.0f}", over)
    console = Console(width=140)
    console.print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {platform.machine()}")
    console.print(table)


if __name__ == "__main__":
    main()
