"""Benchmark of planning large sparse models: ``python -m benchmarks.planning [--quick] [--limit SECONDS]``.

1. Time to ``max |v - V*| <= 1e-6``, against QuantEcon and mdpsolver (`benchmarks.planners` states the rules). From the
   model in memory to value and policy; compilation excluded by one solve of a small model of the same kind. All planners
   take turns within a repetition; times are medians, ratios are of medians. Goal: at most half the best peer's time from
   10^4 states on. A planner past the limit is stopped, and its time is a lower bound.
2. One Bellman sweep against a plain read of the same bytes by as many threads. Goal: at most twice.
3. Memory that the solver allocates, against the model's CSR arrays. Goal: at most twice.

madupite would be the third peer; it needs PETSc and has no wheel, so it is not part of this.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import platform
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.planners import PLANNERS, THREADS, TOL, Planner, problem
from polytheory.scaled.planning._sparse_sweeps import Sweeps
from polytheory.scaled.planning.sparse import kernels_of, solve_sparse

OURS, PEERS = PLANNERS[0].name, tuple(p.name for p in PLANNERS if not p.name.startswith("polytheory"))
NAMES = ("garnet", "ring", "river", "gridworld")
REPEATED = 3.0  # seconds: a planner that takes longer is not repeated
TRUTH_TOL = 1e-8  # of the certified values that errors are measured against


def csr_bytes(model: Any) -> int:
    """Size of the model's CSR arrays."""
    P = model.P_at()
    return P.data.nbytes + P.indices.nbytes + P.indptr.nbytes


def serve(link: Any, name: str, S: int, gamma: float) -> None:
    """A process that solves one problem with the planner it is told, and answers (seconds, CPU seconds, error)."""
    model, small = problem(name, S, gamma), problem(name, 100, gamma)
    truth = solve_sparse(model, tol=TRUTH_TOL)
    ready: dict[str, Callable[[], np.ndarray]] = {}
    while True:
        planner: Planner = PLANNERS[link.recv()]
        if planner.name not in ready or planner.once:
            planner.prepare(small)()
            ready[planner.name] = planner.prepare(model)
        link.send("prepared")
        wall, cpu = time.perf_counter(), time.process_time()
        v = ready[planner.name]()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        link.send((wall, cpu, float(np.max(np.abs(v - truth.v)))))


class Arena:
    """Runs planners on one problem in a process of its own, which is ended when one exceeds the limit."""

    def __init__(self, name: str, S: int, gamma: float, limit: float):
        self.problem, self.limit, self.process = (name, S, gamma), limit, None

    def run(self, i: int) -> tuple[float, float, float] | None:
        """Seconds, CPU seconds and error of planner i, or None past the limit."""
        if self.process is None:
            self.link, far = mp.Pipe()
            self.process = mp.get_context("spawn").Process(target=serve, args=(far, *self.problem), daemon=True)
            self.process.start()
        self.link.send(i)
        self.link.recv()
        if self.link.poll(self.limit):
            return self.link.recv()
        self.close()
        return None

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.terminate()
            self.process.join()
            self.process = None


def contest(name: str, S: int, gamma: float, repeats: int, limit: float) -> dict[str, Any]:
    """All planners in turn, ``repeats`` times; medians in milliseconds."""
    arena = Arena(name, S, gamma, limit)
    runs: dict[str, list[tuple[float, float, float]]] = {p.name: [] for p in PLANNERS if p.installed}
    late: set[str] = set()
    for repeat in range(repeats):
        for i, planner in enumerate(PLANNERS):
            # what takes long is not repeated: a median of one says so in the table
            slow = runs.get(planner.name) and runs[planner.name][-1][0] > REPEATED
            if not planner.installed or planner.name in late or (repeat and (slow or (planner.once and S > 2000))):
                continue
            answer = arena.run(i)
            if answer is None:
                late.add(planner.name)
            else:
                runs[planner.name].append(answer)
    arena.close()
    row: dict[str, Any] = {"model": name, "S": S, "gamma": gamma, "planners": {}}
    for planner, times in runs.items():
        if planner in late:
            row["planners"][planner] = {"ms": 1e3 * limit, "runs": 0, "beyond_limit": True}
        elif times:
            row["planners"][planner] = {
                "ms": 1e3 * statistics.median(t[0] for t in times),
                "cpu_ms": 1e3 * statistics.median(t[1] for t in times),
                "error": max(t[2] for t in times), "runs": len(times), "beyond_limit": False,
            }  # fmt: skip
    best = min((row["planners"][p]["ms"] for p in PEERS if p in row["planners"]), default=None)
    row["ratio"] = None if best is None else row["planners"][OURS]["ms"] / best
    return row


def plain_read(size: int, threads: int) -> Callable[[], None]:
    """A function that sums ``size`` bytes of float64, shared by the threads."""
    parts = np.array_split(np.ones(size // 8), threads)

    def read() -> None:
        others = [threading.Thread(target=part.sum) for part in parts[1:]]
        for t in others:
            t.start()
        parts[0].sum()
        for t in others:
            t.join()

    return read


def sweep_row(S: int, threads: int, repeats: int) -> dict[str, Any]:
    """One full sweep with float64 and float32 values, and the plain read of the bytes it must touch."""
    model = problem("garnet", S, 0.99)
    row: dict[str, Any] = {"S": S, "threads": threads}
    P: Any = model.P_at()
    with Sweeps(model, kernels_of("numba"), threads) as sweeps:
        actions = np.zeros(S, dtype=np.int32)
        values = {
            d: (np.random.default_rng(0).random(S).astype(d), np.empty(S, dtype=d)) for d in ("float64", "float32")
        }
        work: dict[str, Callable[[], object]] = {
            "read": plain_read(csr_bytes(model) + model.r_at().nbytes, threads),
            **{d: lambda x=x: sweeps.backup(*x, actions) for d, x in values.items()},
            "scipy": lambda: P @ values["float64"][0],
        }
        for what, ms in interleaved(work, repeats).items():
            row[what] = ms
    return row


def interleaved(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each piece of work, taking turns, after one turn to warm up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, f in work.items():
            start = time.perf_counter()
            f()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(x) for name, x in times.items()}


def memory_row(name: str, S: int) -> dict[str, Any]:
    """Peak of what the solver allocates, as a multiple of the CSR arrays."""
    model = problem(name, S, 0.99)
    solve_sparse(model)
    tracemalloc.start()
    solve_sparse(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"model": name, "S": S, "csr_mb": csr_bytes(model) / 1e6, "peak": peak / csr_bytes(model)}


def free_cores() -> float:
    """How much more two threads of compiled code get done than one: 2.0 on two idle cores."""
    model = problem("garnet", 20_000, 0.99)
    with Sweeps(model, kernels_of("numba"), 1) as sweeps:
        v = np.zeros(2000)
        chain = sweeps.chain(np.zeros(model.S, dtype=np.int32))

        def spin() -> None:
            for _ in range(40):
                sweeps.kernels.row_facts(chain.data, chain.indptr, 0, v.size)
                sweeps.kernels.row_facts(sweeps.arrays[0], sweeps.arrays[2], 0, model.S * model.A)

        def both() -> None:
            other = threading.Thread(target=spin)
            other.start()
            spin()
            other.join()

        ms = interleaved({"one": spin, "two": both}, 5)
    return 2 * ms["one"] / ms["two"]


def contest_table(rows: list[dict[str, Any]]) -> Table:
    """Milliseconds and errors; the last column is our time over the best peer's."""
    table = Table(title=f"Milliseconds to |v - V*| <= {TOL:g} (error found), medians")
    planners = [p.name for p in PLANNERS if p.installed]
    for heading in ("model", "S", "gamma", *planners, "ours / best peer", "goal"):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [cell(row["planners"].get(p)) for p in planners]
        bounded = all(x["beyond_limit"] for p, x in row["planners"].items() if p in PEERS)
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}" + (" *" if bounded else "")
        goal = "" if row["S"] < 5000 or row["ratio"] is None else ("met" if row["ratio"] <= 0.5 else "missed")
        table.add_row(row["model"], f"{row['S']:,}", f"{row['gamma']:g}", *cells, ratio, goal)
    return table


def cell(x: dict[str, Any] | None) -> str:
    """One planner's time and error."""
    if x is None:
        return ""
    if x["beyond_limit"]:
        return f"> {x['ms']:,.0f}"
    return f"{x['ms']:,.1f} ({x['error']:.0e})" + ("" if x["runs"] > 1 else " once")


def simple_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Rows of equal keys."""
    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(
            *(f"{x:,.2f}" if isinstance(x, float) else f"{x:,}" if isinstance(x, int) else x for x in row.values())
        )
    return table


def markdown(table: Table) -> str:
    """A table in Markdown under its title."""
    head = [str(column.header) for column in table.columns]
    rows = [head, ["---:"] * len(head), *zip(*(column.cells for column in table.columns), strict=True)]
    return f"## {table.title}\n\n" + "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


def main(arguments: list[str] | None = None) -> None:
    """Run everything, print the tables, write them to ``--out`` as JSON when asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10^3 and 10^4 states, gamma 0.99, few repetitions")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a planner is stopped")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="file for the numbers (JSON); the tables go beside it as Markdown")
    chosen = parser.parse_args(arguments)
    sizes, gammas = ((1000, 10_000), (0.99,)) if chosen.quick else ((1000, 10_000, 100_000), (0.99, 0.999))
    repeats, limit = (3, min(chosen.limit, 10.0)) if chosen.quick else (chosen.repeats, chosen.limit)
    console = Console(width=max(150, Console().width))
    load, cores = os.getloadavg(), free_cores()
    console.print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores of which {cores:.1f} free (load "
        f"{load[0]:.1f}), Python {platform.python_version()}, NumPy {np.__version__}, {THREADS} threads"
    )
    for planner in PLANNERS:
        console.print(f"{planner.name}: {planner.rule if planner.installed else 'not installed'}")
    rows = []
    for S in sizes:
        for name in NAMES:
            for gamma in gammas:
                rows.append(contest(name, S, gamma, repeats, limit))
                times = {p: cell(x) for p, x in rows[-1]["planners"].items()}
                console.print(f"  {name} S={S:,} gamma={gamma:g}: {times}", style="dim")
    tables = [contest_table(rows)]
    console.print(tables[0], "* below that: every peer was stopped at the limit")
    sweeps = [sweep_row(S, threads, 3 * repeats) for S in sizes for threads in (1, THREADS)]
    for row in sweeps:
        row["float64_over_read"], row["float32_over_read"] = row["float64"] / row["read"], row["float32"] / row["read"]
    tables.append(
        simple_table("One sweep of the Garnet, milliseconds; goal: at most 2 plain reads of its bytes", sweeps)
    )
    memory = [memory_row(name, S) for S in sizes for name in NAMES]
    tables.append(simple_table("Peak memory of the solver over the CSR arrays; goal: at most 2", memory))
    console.print(*tables[1:])
    console.print(f"at the end: {free_cores():.1f} cores free, load {os.getloadavg()[0]:.1f}")
    if chosen.out:
        facts = {"free_cores": cores, "load": load[0], "contest": rows, "sweeps": sweeps, "memory": memory}
        chosen.out.write_text(json.dumps(facts, indent=1))
        chosen.out.with_suffix(".md").write_text("\n".join(map(markdown, tables)))


if __name__ == "__main__":
    main()
