"""The page of a training: curves, completions before and after, the recipe. And the card that goes with the model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polytheory import __version__
from polytheory.errors import PolytheoryError
from polytheory.history import History
from polytheory.lab.records import Curve, Level, Series
from polytheory.lab.report import curves
from polytheory.lab.report.html import Safe, el
from polytheory.lab.report.style import CSS
from polytheory.lab.training.compare import Cell, figure, rows
from polytheory.lab.training.train import Trained

SHARES = {"frac_reward_zero_std": "groups without signal", "completions/clipped_ratio": "completions cut off"}
CLIPS = {
    "clip_ratio/low_mean": "below the clip", "clip_ratio/high_mean": "above the clip", "cispo_clip_ratio": "weights capped"
}  # fmt: skip
DIVERGENCES = {"kl": "to the reference", "kl_old": "to the policy that sampled"}
MISMATCH = {"mismatch/max": "largest", "sampling/sampling_logp_difference/mean": "mean"}
PROBE = {"probe/cosine": "one batch", "probe/cosine_mean": "mean of 16 batches"}


def figures(trained: Trained) -> list[Curve]:
    """What there is to see of a run, as data; a figure whose numbers nobody logged is left out."""
    history = trained.run.history
    rewards = {
        name: name.split("/")[1] for name in history.names if name.startswith("rewards/") and name.endswith("/mean")
    }
    wanted = [
        scores(trained),
        _curve(history, "Each reward", "mean score", rewards) if len(rewards) > 1 else None,
        _curve(
            history, "Reward model and teacher", "share of pairs", {"upper/agreement": "ordered alike, before learning"}
        ),
        _curve(history, "What is lost", "share", SHARES),
        _curve(history, "Entropy of the policy", "nats per token", {"entropy": "while sampling"}),
        _curve(history, "Gradient norm before clipping", "norm", {"grad_norm": trained.recipe.method}),
        _curve(history, "Terms that the clip changes", "share", CLIPS),
        _curve(history, "Divergence", "nats per token", DIVERGENCES),
        _curve(history, "Sampler and trainer apart", "nats on a token", MISMATCH, log_y=True),
        _curve(history, "Sampled gradient against the exact one, on the probe", "cosine", PROBE),
        trained.warm_start
        and _curve(trained.warm_start, "Warm start", "negative log-likelihood per token", {"loss": "supervised steps"}),
    ]
    return [curve for curve in wanted if curve]


def scores(trained: Trained) -> Curve:
    """The score of what was sampled, and of held-out prompts where they were asked on the way."""
    history = trained.run.history
    true = "true_score" if "true_score" in history.names else "reward"  # with a reward model the reward is what it says
    series = [_series(history, true, "training prompts")]
    for name, label, ends in (
        ("eval_reward", "held-out prompts", (trained.before.sampled, trained.after.sampled)),
        ("eval_reward_greedy", "held-out, likeliest tokens", (trained.before.greedy, trained.after.greedy)),
    ):
        if name in history.names:
            found = _series(history, name, label)
            series.append(Series(label, [0.0, *found.x, float(trained.run.steps)], [ends[0], *found.y, ends[1]]))
    levels = [] if len(series) > 1 else [Level("held-out, greedily, after training", trained.after.greedy)]
    return Curve("Mean score of completions", "step", "score", series, levels)


def _curve(history: History, title: str, y_label: str, lines: dict[str, str], *, log_y: bool = False) -> Curve | None:
    found = [_series(history, name, label) for name, label in lines.items() if name in history.names]
    return Curve(title, "step", y_label, found, log_y=log_y) if found else None


def write_page(trained: Trained, folder: Path) -> Path:
    """Write ``report.html`` into the folder, atomically. Raises `PolytheoryError` when the disk refuses."""
    return _write(folder / "report.html", page(trained))


def write_card(trained: Trained, folder: Path) -> Path:
    """Write the model card, ``README.md``. Raises `PolytheoryError` when the disk refuses."""
    return _write(folder / "README.md", card(trained))


def page(trained: Trained) -> str:
    """A self-contained HTML document."""
    recipe = trained.recipe
    name = f"{recipe.method} on {recipe.problem.task or recipe.problem.data}"
    summary = [(label, f"{before:.1%}", f"{after:.1%}") for label, before, after in _accuracies(trained)]
    completions = [
        (prompt, old, f"{was:g}", new, f"{now:g}")
        for (prompt, old, was), (_, new, now) in zip(trained.before.samples, trained.after.samples, strict=True)
    ]
    body = el(
        "body", el("header", el("h1", f"Training: {name}"), _table(("held-out prompts", "before", "after"), summary)),
        el("section", el("h2", "Curves"), el("div", *(curves.figure(curve) for curve in figures(trained)), class_="figures")),
        el("section", el("h2", "Completions"), _table(("prompt", "before", "score", "after", "score"), completions)),
        el("section", el("h2", "Recipe"), _table(("key", "value"), [(k, str(v)) for k, v in recipe.flat().items()])),
        _foot(f", seed {recipe.output.seed}"),
    )  # fmt: skip
    return _document(name, body)


def write_comparison(cells: Sequence[Cell], folder: Path) -> Path:
    """Write ``comparison.html`` into the folder, atomically. Raises `PolytheoryError` when the disk refuses."""
    table = _table(("recipe", "before", "after", "likeliest tokens"), rows(cells))
    body = el("body", el("header", el("h1", "Trainings side by side"), table), curves.figure(figure(cells)), _foot())
    return _write(folder / "comparison.html", _document("comparison", body))


def card(trained: Trained) -> str:
    """The model card as Markdown: what was trained how, what came out, what is checked."""
    recipe = trained.recipe
    import torch
    import transformers

    scores = "\n".join(f"| {label} | {before:.1%} | {after:.1%} |" for label, before, after in _accuracies(trained))
    keys = "\n".join(f"{k} = {v!r}" for k, v in recipe.flat().items())
    return f"""---
library_name: transformers
tags: [polytheory, {recipe.method}]
---

# {recipe.start.model} trained with {recipe.method}

| held-out prompts | before | after |
| --- | ---: | ---: |
{scores}

{trained.run.steps} steps, {trained.run.meter.total("episodes")} completions, seed {recipe.output.seed}. The curves are in the
report beside this folder. The objective's reference, its claims and their mutants: `polytheory show {recipe.method}`,
`polytheory check {recipe.method} --mutants`.

```
{keys}
```

polytheory {__version__}, torch {torch.__version__}, transformers {transformers.__version__}.
"""


def _document(name: str, body: Safe) -> str:
    head = el(
        "head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"), el("title", f"polytheory: {name}"), el("style", Safe(CSS)),
    )  # fmt: skip
    return "<!DOCTYPE html>\n" + el("html", head, body, lang="en") + "\n"


def _foot(more: str = "") -> Safe:
    return el("footer", el("p", f"polytheory {__version__}{more}"))


def _accuracies(trained: Trained) -> list[tuple[str, float, float]]:
    before, after = trained.before, trained.after
    return [
        (f"mean score at temperature {trained.recipe.start.temperature:g}", before.sampled, after.sampled),
        ("mean score, likeliest tokens", before.greedy, after.greedy),
    ]


def _series(history: History, name: str, label: str) -> Series:
    if name not in history.names:  # a run in which no step moved the weights
        return Series(label, [], [])
    steps, values = history.steps(name), history.column(name)[:, 0]
    return Series(label, (np.asarray(steps) + 1.0).tolist(), [float(v) if np.isfinite(v) else None for v in values])


def _table(columns: tuple[str, ...], entries: Sequence[tuple[Any, ...]]) -> Safe:
    head = el("thead", el("tr", *(el("th", c, scope="col") for c in columns)))
    body = el("tbody", *(el("tr", *(el("td", cell) for cell in row)) for row in entries))
    return el("div", el("table", head, body), class_="scroll", tabindex=0)


def _write(path: Path, text: str) -> Path:
    temp = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temp.write_text(text, encoding="utf-8")
        os.replace(temp, path)
    except OSError as error:
        raise PolytheoryError(f"cannot write {path}: {error.strerror or error}") from error
    return path
