"""Benchmark of token log-probs at a large vocabulary: ``python -m benchmarks.log_probs [--quick] [--out PAGE]``.

Forward and backward of the mean log-prob of 1024 tokens at a vocabulary of 150 thousand, from hidden states and a head
that is trained too. Each measurement is a process of its own, so that its peak memory is its own; the peak counted is that
above the inputs and the gradients they already hold, so that one new gradient of the head counts for every route. Goal: at
most a quarter of the naive route's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from polytheory.scaled.posttraining.log_probs import token_log_probs

VOCABULARY, TOKENS = 150_000, 1024
GOAL = 4.0
ROUTES = ("naive log_softmax", "gather - logsumexp", "chunked, 128 MiB", "chunked, 32 MiB")

COLUMNS = ("route", "peak MiB", "naive / this", "CPU s", "this / naive", "goal")
CASES = ((64, "float32"), (256, "float32"))
NOTES = (
    "What the chunked route holds is the head's new gradient (37 MiB at hidden 64, 146 MiB at 256 in float32) and a chunk or",
    "two of logits; it makes every logit twice. `gather - logsumexp` needs more than the naive route, not less: the gradients",
    "of its two terms are tables of their own. Other work shared the machine: peaks repeat to a few MiB, times do not.",
)


def routed(route: str, hidden: torch.Tensor, head: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probs by one of the `ROUTES`."""
    if route == ROUTES[0]:
        return torch.log_softmax((hidden @ head.T).float(), -1).gather(1, tokens[:, None])[:, 0]
    if route == ROUTES[1]:
        logits = (hidden @ head.T).float()
        return logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, -1)
    mebibytes = int(route.split()[1])
    return token_log_probs(hidden, head, tokens, entropy=False, budget=mebibytes * 2**20)[0]


def memory(name: str) -> float:
    """A line of /proc/self/status in MiB: VmRSS is what is held now, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure(route: str, width: int, dtype: str) -> dict[str, float]:
    """Peak in MiB above inputs and gradients, and seconds of CPU of one forward and backward. In this process."""
    torch.set_num_threads(1)
    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, width, generator=generator).to(kind).requires_grad_(True)
    head = torch.randn(VOCABULARY, width, generator=generator).div_(width**0.5).to(kind).requires_grad_(True)
    tokens = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
    small = [x[:8].detach().requires_grad_(True) for x in (hidden, head)]
    routed(route, small[0], small[1], tokens[:8] % 8).sum().backward()  # libraries are loaded before the peak is taken
    hidden.grad, head.grad = torch.ones_like(hidden).zero_(), torch.ones_like(head).zero_()  # written, hence resident
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = memory("VmRSS")
    start = time.process_time()
    routed(route, hidden, head, tokens).mean().backward()
    seconds = time.process_time() - start
    peak = memory("VmHWM") - before
    return {"peak": peak, "seconds": seconds, "check": float(hidden.grad.float().norm() + head.grad.float().norm())}


def alone(route: str, width: int, dtype: str) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.log_probs", "--one", route, "--width", str(width), "--dtype", dtype]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rows(width: int, dtype: str, repeats: int) -> list[list[str]]:
    """One row a route: medians of runs of all routes in turn."""
    found = {route: [] for route in ROUTES}
    for _ in range(repeats):
        for route in ROUTES:
            found[route].append(alone(route, width, dtype))
    check = [one["check"] for one in (runs[0] for runs in found.values())]
    if max(check) - min(check) > 0.01 * max(map(abs, check)):
        raise RuntimeError(f"routes disagree about the gradients: {check}")
    peak, seconds = ({r: statistics.median(one[k] for one in x) for r, x in found.items()} for k in ("peak", "seconds"))
    out = []
    for route in ROUTES:
        less, slower = peak[ROUTES[0]] / peak[route], seconds[route] / seconds[ROUTES[0]]
        goal = f"x{GOAL:g}, {'met' if less >= GOAL else 'MISSED'}" if route.startswith("chunked") else ""
        cells = f"{peak[route]:.0f}", f"x{less:.1f}", f"{seconds[route]:.2f}", f"x{slower:.2f}"
        out.append([f"{route}{' (default)' if route == ROUTES[-1] else ''}", *cells, goal])
    return out


def shown(title: str, found: list[list[str]]) -> Table:
    """Rows as a table for the terminal."""
    table = Table(title=title)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "route" else "right")
    for row in found:
        table.add_row(*row)
    return table


def page(tables: dict[str, list[list[str]]]) -> str:
    """The results page."""
    lines = [
        "# Benchmark: log-probs from hidden states",
        "",
        "`python -m benchmarks.log_probs --out docs/benchmarks/log_probs.md` writes this page (`--quick` for a rough look).",
        f"{TOKENS} tokens, vocabulary {VOCABULARY:,}, hidden states and head trained, one forward and backward of the mean",
        "log-prob. Every measurement is a fresh process with one thread; figures are medians of 5 runs of all routes in turn.",
        "The peak is resident memory above what is held before the call (inputs, head, and the gradients both already have);",
        "the new gradient of the head is in it for every route. Times are CPU times.",
        "",
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, torch {torch.__version__}.",
    ]
    for title, found in tables.items():
        lines += ["", f"## {title}", "", f"| {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
        lines += [f"| {' | '.join(row)} |" for row in found]
    return "\n".join([*lines, "", *NOTES, ""])


def main() -> None:
    """Print the tables, write the page when asked; or one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat, one width")
    parser.add_argument("--out", type=Path, help="page to write (Markdown)")
    parser.add_argument("--one", choices=ROUTES, help="one measurement in this process")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.width, given.dtype)))
        return
    console = Console(width=120)
    console.print(f"torch {torch.__version__}")
    tables = {}
    for width, dtype in CASES[:1] if given.quick else CASES:
        title = f"Hidden {width}, {dtype}"
        tables[title] = rows(width, dtype, 1 if given.quick else 5)
        console.print(shown(title, tables[title]))
    if given.out:
        given.out.write_text(page(tables))


if __name__ == "__main__":
    main()
