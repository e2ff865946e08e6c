"""Benchmark of samplers: ``make bench-vllm`` or ``python -m benchmarks.samplers [--out PAGE]`` where vLLM is installed.

The embedded task at the size that trains by default (64 prompts x 8 completions, tiny Llama), one thread. Tokens per second of
every sampler on the same prompts, in turn; then steps of GRPO with vLLM in this process, and the share of them that goes into
handing over weights. Goal: below 10 % of the step.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from polytheory.access import Key
from polytheory.access.language import Prompts, WeightedReward
from polytheory.lab.training import data as datas
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import make_algorithm
from polytheory.run import run
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.samplers.base import Sampling
from polytheory.scaled.language.samplers.vllm import Vllm
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.streams import row_ids

GOAL = 0.10
NEW_LINE = "\n"  # a backslash may not stand in an f-string before Python 3.12
NAMES = ("cached", "generate", "vllm")


def world() -> Prompts:
    """The prompts of the default task, and a reward that differs within every group, so that every step moves the weights."""
    known = datas.load(read("grpo").problem, 0)
    reward = WeightedReward("spread", lambda completions: [float(sum(map(ord, text)) % 7) for text in completions])
    return Prompts(known.train, character_tokenizer(), [reward], max_length=known.completion_length)


def speeds(repeats: int) -> dict[str, float]:
    """Tokens per second: medians of batches of all samplers in turn, after one each to warm up."""
    access = world()
    model = tiny_model(len(access.tokenizer)).eval()
    samplers = {name: Sampling(sampler=name).make(access.longest_prompt + 16) for name in NAMES}
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for i in range(repeats + 1):
        key = Key(0, "benchmark", i)
        start = access.next_prompts(key, 64 * i, 64)
        ids, mask = access._padded([access._ids[j] for j in start])
        for name, sampler in samplers.items():
            policy = CausalPolicy(model, access.tokenizer.eos_token_id, sampler=sampler)
            begin = time.perf_counter()
            done = policy.complete(
                ids, mask, torch.as_tensor(row_ids(0, np.arange(512))), key, access.spec.horizon or 1
            )
            found[name].append(int(done.mask.sum()) / (time.perf_counter() - begin))
    for sampler in samplers.values():
        sampler.close()
    return {name: statistics.median(x[1:]) for name, x in found.items()}


class Timed(Vllm):
    """Keeps how long every look at the weights took, and whether they were pushed."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self._looks: list[float] = []

    def refresh(self, model: Any) -> bool:
        """As `Vllm.refresh`."""
        begin = time.perf_counter()
        pushed = super().refresh(model)
        self._looks.append(time.perf_counter() - begin)
        return pushed


def steps(repeats: int) -> tuple[float, float]:
    """Median seconds of a step of GRPO with vLLM, and of handing over weights in it; the first step opens the engine."""
    access, sampler, ends = world(), Timed(longest=32), []
    policy = CausalPolicy(tiny_model(len(access.tokenizer)), access.tokenizer.eos_token_id, sampler=sampler)
    method = make_algorithm(read("grpo", {"steps": repeats + 1}), policy)
    run(method, access, steps=repeats + 1, callbacks=[lambda *_: ends.append(time.perf_counter())], progress=False)
    sampler.close()
    if sampler.pushes != repeats + 1:
        raise RuntimeError(f"{sampler.pushes} pushes in {repeats + 1} steps")
    return statistics.median(np.diff(ends)), statistics.median(sampler._looks[1:])


def page(rates: dict[str, float], step: float, refresh: float) -> str:
    """The results page."""
    share = refresh / step
    verdict = "met" if share < GOAL else "MISSED"
    machine = f"{os.cpu_count()} cores ({platform.machine()}), no GPU"
    rows = [f"| {name} | {rate:,.0f} | x{rate / rates['cached']:.2f} |" for name, rate in rates.items()]
    return f"""# Benchmark: samplers

`make bench-vllm` writes this page. 64 prompts x 8 completions of the embedded task, the tiny Llama of 135 thousand weights,
float32, one thread; medians of batches of all samplers in turn.

{machine}, Python {platform.python_version()}, torch {torch.__version__}; other work shared the machine: read the ratios.

| sampler | tokens per second | over cached |
| --- | ---: | ---: |
{NEW_LINE.join(rows)}

A step of GRPO with vLLM (512 completions, 4 updates): {step:.2f} s, of which comparing and handing over the weights and
emptying the prefix cache {1000 * refresh:.0f} ms: {100 * share:.1f} % (goal: below {100 * GOAL:.0f} %, {verdict}).
"""


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="page to write (Markdown)")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = page(speeds(given.repeats), *steps(given.repeats))
    print(text)
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
