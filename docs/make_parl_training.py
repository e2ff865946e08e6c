"""The training figure of the PARL page: `python docs/make_parl_training.py [--small] [--out FOLDER]`.

The tiny model of `polytheory train parl`, from the same warm start: labels used against the true score of its completions, for
the full hypergradient, without the policy's response, with reward models that were fixed before the policy moved, with the
scores told as utilities, and, without a reward model, under the scores themselves.

Writes `parl_training.svg` and its numbers, `parl_training.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from polytheory.errors import require
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import train

KINDS: dict[str, dict[str, Any]] = {
    "choices, full": {},
    "choices, no response": {"response": False},
    "choices, fixed at 960": {"upper_every": 0, "reward_start": 10},
    "choices, fixed at 3840": {"upper_every": 0, "reward_start": 40},
    "utility": {"teacher": "utility", "reward_start": 0, "upper_every": 1},
}
SCORES = {
    "prompts": 16,
    "kl": "in_score",
    "beta": 0.04,
    "step_size": 5e-4,
    "reward": ["in-place"],
}  # of the recipe rloo
SMALL = {"steps": 2, "sft_steps": 2, "rows": 64, "held_out": 8, "prompts": 2, "upper_prompts": 2, "reward_start": 1}
COLOURS = ["#0072b2", "#c04a00", "#7fc8a9", "#009e73", "#8a5fbf"]
WINDOW = 5  # steps that a point of a curve averages


def cell(recipe: str, changes: dict[str, Any], folder: Path, warm: Path) -> dict[str, Any]:
    """One training from the seed's warm start; the first one makes it."""
    if warm.exists():
        shutil.copytree(warm, folder / "warm-start")
    done = train(read(recipe, changes), output=folder, progress=False)
    if not warm.exists():
        shutil.copytree(folder / "warm-start", warm)
    history = done.run.history
    learned = "labels" in history.names
    asks = learned and read(recipe, changes).design.upper_every > 0
    likelihood = asks and changes.get("teacher") != "utility"

    def last(name: str) -> float:
        return float(history.column(name)[-WINDOW:].mean())

    return {
        "before": done.before.sampled, "after": done.after.sampled, "agreement": last("upper/agreement") if asks else None,
        "loss": last("upper/loss") if likelihood else None, "kl": last("kl"),
        "labels": int(history.last("labels")[0]) if learned else 0,
        "x": history.column("labels")[:, 0].tolist() if learned else [],
        "y": np.round(history.column("true_score" if learned else "reward")[:, 0], 4).tolist(),
    }  # fmt: skip


def smooth(y: np.ndarray) -> np.ndarray:
    """Means of the last `WINDOW` steps, of fewer at the start."""
    return np.array([y[max(0, i + 1 - WINDOW) : i + 1].mean() for i in range(len(y))])


def draw(path: Path, cells: dict[str, list[dict[str, Any]]]) -> None:
    """A curve for each that goes on asking, a point with two standard errors for each that was fixed."""
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none"})
    plt = require("matplotlib.pyplot", "lab")
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for (name, own), colour in zip(cells.items(), COLOURS, strict=False):
        x, curves = own[0]["x"], np.array([smooth(np.array(c["y"])) for c in own])
        if x[0] == x[-1]:
            ends = np.array([c["after"] for c in own])
            error = 2 * ends.std(ddof=1) / len(ends) ** 0.5 if len(ends) > 1 else 0.0
            axes.errorbar([x[0]], [ends.mean()], yerr=[error], color=colour, marker="o", capsize=4, label=name)
            continue
        axes.plot(x, curves.T, color=colour, alpha=0.3, linewidth=0.7)
        axes.plot(x, curves.mean(axis=0), color=colour, linewidth=2, label=name)
    level = np.mean([c["after"] for c in cells["the scores themselves"]])
    axes.axhline(level, color="#777777", linestyle="--", linewidth=1, label="the scores themselves")
    axes.set(xlabel="labels used", ylabel="true score of completions")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.92))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Run everything, write picture and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two steps of everything, to see that it runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", type=Path, help="keep what is finished here, and do not train it again")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kinds = {name: ("parl", changes) for name, changes in KINDS.items()}
    kinds["the scores themselves"] = ("rloo", SCORES)
    cells: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    start = time.process_time()
    for seed in options.seeds[:1] if options.small else options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            for i, (name, (recipe, changes)) in enumerate(kinds.items()):
                given = {"seed": seed, "held_out": 200, **changes}
                if options.small:
                    own = set(SMALL) if recipe == "parl" else set(SMALL) - {"upper_prompts", "reward_start"}
                    own -= {"reward_start"} if changes.get("teacher") == "utility" else set()
                    given |= {key: SMALL[key] for key in own}
                kept = (options.cells or Path(folder)) / f"cell-{seed}-{i}.json"
                if not kept.exists():
                    found = cell(recipe, given, Path(folder) / str(i), Path(folder) / "warm-start")
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
                cells[name].append(json.loads(kept.read_text(encoding="utf-8")))
                told = {k: x for k, x in cells[name][-1].items() if k not in ("x", "y")}
                print(f"seed {seed}, {name}: {told}, {time.process_time() - start:.0f} s", flush=True)
    draw(options.out / "parl_training.svg", cells)
    (options.out / "parl_training.json").write_text(json.dumps(cells, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
