"""Figures of the exploration pages: `python docs/make_exploration_figures.py [--depths 4 6 8] [--limit 300] [--out FOLDER]`.

Episodes until DeepSea of a given depth is solved (the treasure found in half of the last 20 episodes), deep NORA against the
same network with an epsilon-greedy actor-critic and no bonus; one seed. Writes the picture and its numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from polytheory import models
from polytheory.access import Online
from polytheory.errors import require
from polytheory.scaled.exploration.deep import DeepNora, one_hot_cells, random_torso

KINDS = {
    "optimistic (bonus of the last layer, rare switching, resets)": {"eta": 20.0, "radius": 0.2},
    "epsilon-greedy (same network, no bonus)": {"eta": 20.0, "radius": 0.0, "epsilon": 0.1, "reset": False},
}
WINDOW = 20


def episodes_to_solve(depth: int, limit: int, settings: dict, seed: int = 0) -> int | None:
    """Episodes played when the treasure was found in half of the last `WINDOW`; None where that did not happen."""
    access = Online(models.make("deep-sea", depth=depth)).replicate(1)
    torso = random_torso(depth * depth, 8 * depth)
    learner = DeepNora(torso, depth, (0.0, 1.0), one_hot_cells(depth), **settings)
    state, found = learner.init(access, seed), []
    while len(found) < limit:
        state, info = learner.step(state, access)
        found.append(info["return"] > 0.5)
        if len(found) >= WINDOW and np.mean(found[-WINDOW:]) >= 0.5:
            return len(found)
    return None


def draw(rows: dict, depths: list[int], limit: int, path: Path) -> None:
    """The picture; depths that were not solved are open marks at the limit."""
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none"})
    plt = require("matplotlib.pyplot", "lab")
    figure, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    for (name, solved), colour in zip(rows.items(), ("#0072b2", "#c04a00"), strict=True):
        done = [(d, x) for d, x in zip(depths, solved, strict=True) if x is not None]
        axes.plot(*(zip(*done, strict=True) if done else ([], [])), marker="o", color=colour, label=name)
        missed = [d for d, x in zip(depths, solved, strict=True) if x is None]
        axes.plot(missed, [limit] * len(missed), "o", mfc="none", color=colour)
    axes.set(xlabel="depth of DeepSea", ylabel="episodes until solved", yscale="log")
    axes.set_title(f"open: not solved in {limit} episodes", fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run both learners at every depth, then write ``deep_sea.json`` and ``deep_sea.svg``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 6, 8, 10, 12])
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, list[int | None]] = {name: [] for name in KINDS}
    for depth in options.depths:
        for name, settings in KINDS.items():
            rows[name].append(episodes_to_solve(depth, options.limit, settings))
            print(f"depth {depth}, {name}: {rows[name][-1]}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    numbers = {"depths": options.depths, "limit": options.limit, "episodes": rows}
    (options.out / "deep_sea.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    draw(rows, options.depths, options.limit, options.out / "deep_sea.svg")


if __name__ == "__main__":
    main()
