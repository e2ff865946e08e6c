"""The embedded default as one section of the verification report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from polytheory.lab.records import TrainingRecord
from polytheory.lab.training.page import scores
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import train


def embedded(say: Callable[[str], None], changes: Mapping[str, Any] | None = None) -> TrainingRecord:
    """Train the default recipe, with held-out scores every ten steps; nothing is kept on disk. ``say`` is told how it goes."""
    start, recipe = time.perf_counter(), read("grpo", {"evaluate_every": 10, **(changes or {})})

    def tell(state: Any, info: Mapping[str, Any], step: int) -> None:
        if (step + 1) % 10 == 0 or step + 1 == recipe.output.steps:
            say(f"training: step {step + 1}/{recipe.output.steps}, score {float(info['reward']):.3f}")

    done = train(recipe, callbacks=[tell], say=say, progress=False)
    rows = [
        ("at temperature 1", f"{done.before.sampled:.1%}", f"{done.after.sampled:.1%}"),
        ("likeliest tokens", f"{done.before.greedy:.1%}", f"{done.after.greedy:.1%}"),
    ]
    return TrainingRecord(
        f"{recipe.method} on {recipe.problem.task}",
        scores(done),
        [list(row) for row in rows],
        time.perf_counter() - start,
    )
