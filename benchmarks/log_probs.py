"""Benchmark of token log-probs at a large vocabulary: ``python -m benchmarks.log_probs [--quick]``.

Forward and backward of the mean log-prob of 1024 tokens at a vocabulary of 150 thousand, from hidden states and a head
that is trained too. Each measurement is a process of its own, so that its peak memory is its own; the peak counted is that
above inputs, head and their gradients, which every route needs. Goal: at most a quarter of the naive route's.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from rich.console import Console
from rich.table import Table

from polytheory.scaled.posttraining.log_probs import token_log_probs

VOCABULARY, TOKENS = 150_000, 1024
GOAL = 4.0
ROUTES = ("naive log_softmax", "gather - logsumexp", "chunked, 128 MiB", "chunked, 32 MiB")


def routed(route: str, hidden: torch.Tensor, head: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probs by one of the `ROUTES`."""
    if route == ROUTES[0]:
        return torch.log_softmax((hidden @ head.T).float(), -1).gather(1, tokens[:, None])[:, 0]
    if route == ROUTES[1]:
        logits = (hidden @ head.T).float()
        return logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, -1)
    mebibytes = int(route.split()[1])
    return token_log_probs(hidden, head, tokens, entropy=False, budget=mebibytes * 2**20)[0]


def measure(route: str, width: int, dtype: str) -> dict[str, float]:
    """Peak in MiB above inputs and gradients, and seconds of CPU of one forward and backward. In this process."""
    torch.set_num_threads(1)
    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, width, generator=generator).to(kind).requires_grad_(True)
    head = (torch.randn(VOCABULARY, width, generator=generator) / width**0.5).to(kind).requires_grad_(True)
    tokens = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
    small = [x[:8].detach().requires_grad_(True) for x in (hidden, head)]
    routed(route, small[0], small[1], tokens[:8] % 8).sum().backward()  # libraries are loaded before the peak is taken
    hidden.grad, head.grad = torch.ones_like(hidden), torch.ones_like(head)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    routed(route, hidden, head, tokens).mean().backward()
    seconds = time.process_time() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"peak": peak, "seconds": seconds, "check": float(head.grad[:100].sum())}


def alone(route: str, width: int, dtype: str) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.log_probs", "--one", route, "--width", str(width), "--dtype", dtype]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(width: int, dtype: str, repeats: int) -> Table:
    """One table: all routes, interleaved."""
    found = {route: [] for route in ROUTES}
    for _ in range(repeats):
        for route in ROUTES:
            found[route].append(alone(route, width, dtype))
    shown = Table(
        title=f"{TOKENS} tokens, vocabulary {VOCABULARY}, hidden {width}, {dtype}, forward and backward, 1 thread"
    )
    for name in ("route", "peak MiB", "naive / this", "CPU s", "this / naive", "goal"):
        shown.add_column(name, justify="left" if name == "route" else "right")
    middle = {
        route: {key: statistics.median(one[key] for one in runs) for key in ("peak", "seconds")}
        for route, runs in found.items()
    }
    naive = middle[ROUTES[0]]
    for route, own in middle.items():
        less = naive["peak"] / max(own["peak"], 1e-9)
        goal = (f">= x{GOAL:g} " + ("met" if less >= GOAL else "MISSED")) if route.startswith("chunked") else ""
        shown.add_row(
            route, f"{own['peak']:.0f}", f"x{less:.1f}", f"{own['seconds']:.2f}", f"x{own['seconds'] / naive['seconds']:.2f}",
            goal,
        )  # fmt: skip
    return shown


def main() -> None:
    """Print the tables, or one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat, one width")
    parser.add_argument("--one", choices=ROUTES, help="one measurement in this process")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.width, given.dtype)))
        return
    console = Console(width=120)
    console.print(f"torch {torch.__version__}")
    for width, dtype in ((64, "float32"),) if given.quick else ((64, "float32"), (256, "float32"), (256, "bfloat16")):
        console.print(table(width, dtype, 1 if given.quick else 5))


if __name__ == "__main__":
    main()
