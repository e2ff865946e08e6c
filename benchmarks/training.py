"""Benchmark of a training step against TRL: ``python -m benchmarks.training [--quick] [--out PAGE]``.

GRPO on the transformer of the embedded task, 133 thousand parameters: a step samples completions and makes four updates. TRL
is the yardstick, with its GRPOTrainer set to the same work (see `benchmarks.training_subjects`); run this where it is
installed. Goals: the step's time and the peak of its memory at most those of TRL; HARPG's step at most 3 times one of
REINFORCE with central differences and 4.5 times with the exact Hessian-vector product. Exits with 1 when one is missed.

``--device cuda --size 0.5b`` takes a Qwen2 of half a billion random parameters in bfloat16: tokens per second and the peak of
the GPU's memory.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.log_probs import memory
from benchmarks.training_subjects import GROUP, MINI, SIZES, SUBJECTS, SWEEPS, Clock, Work, harpg

STEPS = 5  # of a measurement, the first one not counted
GOALS = {"difference": 3.0, "exact": 4.5}
COLUMNS = ("what", "ours", "TRL", "ours / TRL", "goal")
PAGE = """# Benchmark: a training step against TRL

`python -m benchmarks.training --out docs/benchmarks/training.md` writes this page (`--quick` for a rough look); it runs
where TRL is installed: `make bench-training`. Model: {model}, {work.dtype}, random weights;
the sorting task. A step of GRPO is completions of at most {work.length} tokens, then {updates} updates ({sweeps} sweeps over
{mini} mini-batches), clip 0.2/0.28, mean over tokens, AdamW, no KL term and no gradient checkpointing, in both libraries.
Learning alone is the same step with completions from a list, equal for both. Medians of 5 fresh processes of both
libraries in turn, each of 4 steps after one that is not counted; times are CPU times of one thread. The peak is resident
memory above what is held when the trainer stands, after a small step that has loaded the libraries.
"""
NOTES = (
    "Other work may have shared the machine: read the ratios, not the seconds.",
    "",
    "Where the work differs: TRL computes the entropies of every update, here it is those of a step's first one; TRL's AdamW",
    "is the fused one, ours is not. HARPG's step samples and differentiates two batches of this size, REINFORCE's one.",
    "",
    "Not measured: anything on a GPU. `python -m benchmarks.training --device cuda --size 0.5b` is written for one (a Qwen2 of",
    "half a billion random parameters in bfloat16, tokens per second, peak of the GPU's memory); it has only been run in",
    "miniature on a CPU (`--size 0.5b-shape`). Not measured either: several processes, and vLLM as sampler.",
)
SAMPLERS = {
    "own": "whole step, each library's own sampler", "generate": "whole step, transformers' sampler for both",
    "replay": "learning alone, the same completions",
}  # fmt: skip


def measure(name: str, works: Sequence[Work]) -> list[dict[str, float]]:
    """Seconds of a step, those of sampling in it, tokens per second and peak MiB of every work in turn. In this process.

    The peak is above what is held when the trainer stands; only that of the first work is of use without a GPU, since memory
    given back by one is taken again by the next.
    """
    torch.set_num_threads(1)
    cuda, found = works[0].device == "cuda", []
    SUBJECTS[name](replace(works[0], prompts=2), 1, Clock(works[0].device), lambda: None)  # libraries are loaded
    before = 0.0

    def begin() -> None:
        nonlocal before
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
            before = memory("VmRSS")

    for work in works:
        clock = Clock(work.device)
        tokens = SUBJECTS[name](work, STEPS, clock, begin)
        peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else memory("VmHWM") - before
        seconds = statistics.median(clock.laps[1:])
        sampling = statistics.median(clock.inside[1:])
        found.append({"seconds": seconds, "sampling": sampling, "tokens": tokens / STEPS / seconds, "peak": peak})
    return found


def alone(name: str, works: Sequence[Work]) -> Any:
    """`measure`, or HARPG's seconds, in a fresh process."""
    text = json.dumps([asdict(work) for work in works])
    command = [sys.executable, "-m", "benchmarks.training", "--one", name, "--works", text]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def against_trl(works: Sequence[Work], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Medians over fresh processes of both libraries in turn, one entry a work; "generate" follows "own"."""
    runs: dict[str, list[Any]] = {name: [] for name in SUBJECTS}
    for _ in range(repeats):
        runs["ours"].append(alone("ours", works))
        # TRL's own sampler is that of transformers: measured once, in both rows
        found = iter(alone("trl", [work for work in works if work.sampler != "generate"]))
        row: list[Any] = []
        for work in works:
            row.append(row[-1] if work.sampler == "generate" else next(found))
        runs["trl"].append(row)
    return {
        name: [{k: statistics.median(run[i][k] for run in x) for k in x[0][i]} for i in range(len(works))]
        for name, x in runs.items()
    }


def rows_of(works: Sequence[Work], found: dict[str, list[dict[str, float]]]) -> tuple[list[list[str]], bool]:
    """Rows of the table, and whether all goals are met."""
    out, met = [], True

    def add(what: str, mine: float, theirs: float, form: str, *, goal: bool) -> None:
        nonlocal met
        fine = mine <= theirs
        met = met and (fine or not goal)
        verdict = f"1, {'met' if fine else 'MISSED'}" if goal else ""
        out.append([what, form.format(mine), form.format(theirs), f"{mine / theirs:.2f}", verdict])

    seen = set()
    for i, work in enumerate(works):
        mine, theirs = found["ours"][i], found["trl"][i]
        batch = f"{work.prompts} x {GROUP}"
        if work.sampler == "own" and (work.device == "cuda" or i == 0):
            add(f"{batch}: peak memory, MiB", mine["peak"], theirs["peak"], "{:.0f}", goal=True)
        add(f"{batch}: {SAMPLERS[work.sampler]}, s", mine["seconds"], theirs["seconds"], "{:.3f}", goal=True)
        if work.sampler != "replay":
            add(f"{batch}: of it sampling, s", mine["sampling"], theirs["sampling"], "{:.3f}", goal=False)
        if work.device == "cuda" and batch not in seen:
            seen.add(batch)
            out.append([f"{batch}: tokens per second", f"{mine['tokens']:.0f}", f"{theirs['tokens']:.0f}", "", ""])
    return out, met


def harpg_rows(work: Work, repeats: int) -> tuple[list[list[str]], bool]:
    """HARPG's steps over those of REINFORCE on the same number of completions a batch."""
    runs = [alone("harpg", [work]) for _ in range(repeats)]
    seconds = {name: statistics.median(statistics.median(run[name]) for run in runs) for name in runs[0]}
    out, met = [], True
    for name, goal in GOALS.items():
        ratio = seconds[name] / seconds["reinforce"]
        met = met and ratio <= goal
        verdict = f"{goal:g}, {'met' if ratio <= goal else 'MISSED'}"
        out.append([name, f"{seconds[name]:.3f}", f"{seconds['reinforce']:.3f}", f"{ratio:.2f}", verdict])
    return out, met


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    head = [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]
    return head + [f"| {' | '.join(row)} |" for row in rows]


def page(tables: dict[str, tuple[Sequence[str], list[list[str]]]], work: Work) -> str:
    """The results page."""
    model = "the transformer of the embedded task" if work.size == "tiny" else f"a Qwen2 of the size {work.size}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {versions}."
    lines = [PAGE.format(model=model, work=work, sweeps=SWEEPS, mini=MINI, updates=SWEEPS * MINI), machine]
    for title, (columns, rows) in tables.items():
        lines += ["", f"## {title}", "", *markdown(columns, rows)]
    return "\n".join([*lines, "", *NOTES, ""])


def main() -> None:
    """Print the tables, write the page when asked; or one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat")
    parser.add_argument("--out", type=Path, help="page to write (Markdown)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=tuple(SIZES), default="tiny")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights; bfloat16 with a GPU")
    parser.add_argument("--prompts", type=int, nargs="+", help="of a step; 64 and 8, with a GPU 16")
    parser.add_argument("--length", type=int, help="longest completion in tokens; 7, with a GPU 256")
    parser.add_argument("--one", choices=(*SUBJECTS, "harpg"), help="one measurement in this process")
    parser.add_argument("--works", type=json.loads, help="of --one")
    given = parser.parse_args()
    if given.one:
        works = [Work(**x) for x in given.works]
        torch.set_num_threads(1)
        print(json.dumps(harpg(works[0], STEPS) if given.one == "harpg" else measure(given.one, works)))
        return
    large, repeats = given.device == "cuda", 1 if given.quick else 5
    work = Work(
        given.size, length=given.length or (256 if large else 7), device=given.device,
        dtype=given.dtype or ("bfloat16" if large else "float32"),
    )  # fmt: skip
    prompts = given.prompts or ([16] if large else [64, 8])
    works = [replace(work, prompts=m, sampler=sampler) for m in prompts for sampler in SAMPLERS]
    console = Console(width=120)
    console.print(f"torch {torch.__version__}")
    rows, met = rows_of(works, against_trl(works, repeats))
    tables: dict[str, Any] = {"GRPO": (COLUMNS, rows)}
    if work.dtype == "float32" and given.size == "tiny":
        more, fine = harpg_rows(replace(work, prompts=prompts[0]), repeats)
        met = met and fine
        columns = ("Hessian-vector product", "HARPG, s", "REINFORCE, s", "ratio", "goal")
        tables[f"HARPG, {prompts[0]} x {GROUP} completions a batch"] = (columns, more)
    for title, (columns, rows) in tables.items():
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if given.out:
        given.out.write_text(page(tables, work))
    if not met:
        sys.exit("a goal was missed")


if __name__ == "__main__":
    main()
