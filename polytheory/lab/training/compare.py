"""Several recipes side by side over seeds: cells that are run once, kept as small files, and drawn with intervals."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polytheory.errors import RunError, SettingError, require
from polytheory.lab.records import Curve, Series
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import train

CELL = "cell.json"


@dataclass(frozen=True)
class Cell:
    """One finished training: ``rewards`` [steps] of its completions, mean scores on held-out prompts."""

    recipe: str
    seed: int
    rewards: list[float]
    before: float
    after: float
    greedy: float


def compare(
    names: Sequence[str],
    seeds: int,
    *,
    folder: Path,
    changes: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Cell]:
    """Train every recipe with seeds 0 .. seeds - 1, a process each, and return the cells that finished.

    A finished cell is a file in ``folder``; the same call runs only what is missing, and an unfinished training continues
    from its checkpoint. A training that fails leaves the others alone: ``say`` is told why, and its cell is missing.

    Raises `SettingError`, `UnknownNameError` for a recipe or key before any work; `RunError` when every training failed.
    """
    if seeds < 1 or not names:
        raise SettingError(f"{len(names)} recipes, {seeds} seeds; compare at least one recipe with one seed")
    if len(set(names)) != len(names):
        raise SettingError(f"recipes {', '.join(names)}: one stands there twice")
    given = dict(changes or {})
    for key in ("seed", "output"):
        if key in given:
            raise SettingError(f"{key} is chosen by the comparison; leave it out, or train alone")
    for name in names:
        read(name, given)
    wanted = [(name, seed) for seed in range(seeds) for name in names]
    missing = [(name, seed) for name, seed in wanted if not (_place(folder, name, seed) / CELL).exists()]
    if missing:
        joblib = require("joblib", "lab")
        workers = jobs or min(len(missing), os.cpu_count() or 1)
        run = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
        for text in run(joblib.delayed(_told)(name, seed, given, folder) for name, seed in missing):
            say(text)
    found = [_place(folder, name, seed) / CELL for name, seed in wanted]
    if not any(path.exists() for path in found):
        raise RunError(f"all {len(wanted)} trainings failed; train one alone to see how: polytheory train {names[0]}")
    return [load(path) for path in found if path.exists()]


def _told(name: str, seed: int, changes: Mapping[str, Any], folder: Path) -> str:
    """Train a cell; what became of it."""
    try:
        cell = _cell(name, seed, changes, folder)
    except RunError as error:
        return f"{Path(name).stem}, seed {seed}: failed: {error}"
    return f"{cell.recipe}, seed {cell.seed}: {cell.before:.1%} -> {cell.after:.1%}"


def load(path: Path) -> Cell:
    """A finished cell. Raises `SettingError` for a damaged file."""
    try:
        return Cell(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SettingError(f"{path} is no finished training: {error}; remove it to train again") from error


def figure(cells: Sequence[Cell]) -> Curve:
    """Mean score over steps, with the 95 % interval of the mean over seeds (Student's t)."""
    from scipy.stats import t as student

    series = []
    for i, name in enumerate(dict.fromkeys(cell.recipe for cell in cells)):
        rows = np.array([cell.rewards for cell in cells if cell.recipe == name])
        mean, n = rows.mean(axis=0), len(rows)
        low = high = []
        if n > 1:
            half = student.ppf(0.975, n - 1) * rows.std(axis=0, ddof=1) / np.sqrt(n)
            low, high = (mean - half).tolist(), (mean + half).tolist()
        steps = (1.0 + np.arange(rows.shape[1])).tolist()
        series.append(Series(name, steps, mean.tolist(), low, high, dashed=i >= 4))
    seeds = len({cell.seed for cell in cells})
    caption = f"Mean over {seeds} seeds with its 95 % interval." if seeds > 1 else "One seed: no interval."
    return Curve("Mean score of the sampled completions", "step", "score", series, caption=caption)


def rows(cells: Sequence[Cell]) -> list[tuple[str, str, str, str]]:
    """A table: recipe, held-out score before, after, and greedily, as mean with the range over seeds."""
    found = []
    for name in dict.fromkeys(cell.recipe for cell in cells):
        own = [cell for cell in cells if cell.recipe == name]
        found.append((name, *(_spread([getattr(c, what) for c in own]) for what in ("before", "after", "greedy"))))
    return found


def _spread(x: Sequence[float]) -> str:
    mean = f"{np.mean(x):.1%}"
    return mean if len(x) == 1 else f"{mean} ({min(x):.1%} to {max(x):.1%})"


def _place(folder: Path, name: str, seed: int) -> Path:
    return folder / Path(name).stem / f"seed-{seed}"


def _cell(name: str, seed: int, changes: Mapping[str, Any], folder: Path) -> Cell:
    place = _place(folder, name, seed)
    done = train(read(name, {**changes, "seed": seed}), output=place, progress=False)
    names = done.run.history.names
    rewards = done.run.history.column("true_score" if "true_score" in names else "reward")[:, 0].tolist()
    cell = Cell(Path(name).stem, seed, rewards, done.before.sampled, done.after.sampled, done.after.greedy)
    temp = place / f"{CELL}.tmp"
    temp.write_text(json.dumps(vars(cell), allow_nan=False), encoding="utf-8")
    os.replace(temp, place / CELL)
    return cell
