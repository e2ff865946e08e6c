"""Benchmark of robust sweeps: ``python -m benchmarks.robust [--limit STATES] [--json FILE]``.

One robust sweep (L1, KL) as a ratio to one nominal sweep of the same sparse Garnet model (10 actions, 10 successors),
one thread, CPU time, medians of 9 that take turns. Nominal is plain SciPy (``r + gamma P v``, then max) and, beside it,
our own compiled sweep. Values move between sweeps, as they do in an iteration, so that kept multipliers are not exact.
Goals: L1 at most 10, KL at most 20 times SciPy's sweep. And one cvxpy solve per (s, a) of a small model, extrapolated to
a sweep.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.planners import problem
from polytheory.errors import require
from polytheory.models.ambiguity import KL, L1
from polytheory.proofs_check.robust.instances import Row, conic_minimum, l1_program
from polytheory.scaled.planning._sparse_sweeps import Sweeps
from polytheory.scaled.planning.sparse import kernels_of
from polytheory.scaled.robust.sparse import RobustSweeps

SIZES = (100, 1_000, 10_000, 100_000)
BALLS = {"L1 0.2": L1(0.2), "L1 1.0": L1(1.0), "KL 0.1": KL(0.1), "KL 1.0": KL(1.0)}
GOALS = {"L1": 10.0, "KL": 20.0}
ROUNDS, DRIFT = 9, 0.01


def measure(S: int) -> dict[str, Any]:
    """Medians of one size: seconds of the nominal sweeps, and ratios of the robust ones."""
    model = problem("garnet", S, 0.99)
    P, r = model.P_at(), model.r_at()
    rng = np.random.default_rng(0)
    v, out, actions = rng.normal(size=S), np.empty(S), np.zeros(S, dtype=np.int32)
    plain = Sweeps(model, kernels_of("numba"), 1)
    robust = {name: RobustSweeps(model, ball) for name, ball in BALLS.items()}
    runs: dict[str, Callable[[], Any]] = {
        "scipy": lambda: (r + 0.99 * (P @ v).reshape(r.shape)).max(1),
        "compiled": lambda: plain.backup(v, out, actions),
        **{name: (lambda s=s: s.backup(v, out, actions)) for name, s in robust.items()},
    }
    repeat = max(1, 20_000 // S)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(ROUNDS + 1):
        v += DRIFT * rng.normal(size=S)
        for name, f in runs.items():
            start = time.process_time()
            for _ in range(repeat):
                f()
            if i:  # the first round compiles
                seconds[name].append((time.process_time() - start) / repeat)
    middle = {name: statistics.median(x) for name, x in seconds.items()}
    return {"S": S, "scipy": middle["scipy"], "compiled": middle["compiled"], **{
        name: {"over scipy": middle[name] / middle["scipy"], "over compiled": middle[name] / middle["compiled"]} for name
        in BALLS
    }}  # fmt: skip


def solver_sweep(S: int = 1_000, rows: int = 20) -> dict[str, float]:
    """Seconds of a sweep with one solver call per (s, a), extrapolated from some rows of 10 successors."""
    require("cvxpy", "certify")
    rng = np.random.default_rng(0)
    cases = [Row(rng.normal(size=10), rng.dirichlet(np.ones(10)), 0.2) for _ in range(rows)]
    found = {}
    for name, f in (("HiGHS, L1", l1_program), ("cvxpy, KL", lambda row: conic_minimum(row, "kl"))):
        f(cases[0])
        start = time.process_time()
        for row in cases:
            f(row)
        found[name] = (time.process_time() - start) / rows * S * 10
    return found


def main() -> None:
    """Print the table; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=SIZES[-1], help="largest number of states")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args()
    found = [measure(S) for S in SIZES if given.limit >= S]
    table = Table(
        "S", "SciPy sweep", "compiled sweep", *BALLS, title="robust sweep over nominal sweep: SciPy's (compiled)"
    )
    for row in found:
        cells = [f"{row[name]['over scipy']:.1f} ({row[name]['over compiled']:.1f})" for name in BALLS]
        table.add_row(f"{row['S']:,}", f"{row['scipy'] * 1e3:.3f} ms", f"{row['compiled'] * 1e3:.3f} ms", *cells)
    console = Console(width=140)
    console.print(table)
    solvers = solver_sweep()
    for name, seconds in solvers.items():
        console.print(f"{name}: {seconds:.1f} s for a sweep of 1,000 states, one program per (s, a)")
    missed = [f"{name} at {row['S']:,}" for row in found for name in BALLS if row[name]["over scipy"] > GOALS[name[:2]]]
    console.print(f"missed: {', '.join(missed)}" if missed else "all goals met")
    if given.json:
        given.json.write_text(json.dumps({"sweeps": found, "solvers": solvers}, indent=1), encoding="utf-8")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
