"""Figures of docs/methods/iwocs.md: `python docs/make_iwocs_figures.py [--systems cartpole pendulum] [--seeds 0] [--small]`.

The brackets of the exact search on the windy walk and on the instance where it is stuck; and the deep search against plain
training and domain randomisation with the same number of episodes and updates: mean return over a grid of worlds. Every run
keeps a checkpoint, so that the command typed again goes on where it was killed. ``--small`` is a smoke test.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytheory.access import Key, KnownModel
from polytheory.access.worlds import Worlds
from polytheory.errors import require
from polytheory.models.ambiguity import Scenarios
from polytheory.models.physics import physics
from polytheory.models.windy_walk import wind_kernels, windy_walk
from polytheory.proofs_check.robust.iwocs_instances import stuck
from polytheory.reference.robust.iwocs import Iwocs
from polytheory.run import run
from polytheory.scaled.robust.deep_adversary import grid_points
from polytheory.scaled.robust.deep_iwocs import DeepIwocs, DeepTraining, in_box

METHODS = ("plain", "randomised", "search")
TITLES = {
    "plain": "plain training",
    "randomised": "domain randomisation",
    "search": "worst-case search",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "cartpole": {
        "gamma": 0.98, "truncation": 200, "training": {"iterations": 12},
    },
    "pendulum": {
        "gamma": 0.98, "truncation": 200, "training": {"iterations": 14, "batch": 128},
    },
}  # fmt: skip
WORLDS = 3


def brackets() -> dict[str, Any]:
    """Largest guaranteed value and smallest action value after each candidate of the exact search."""
    listed, walk = stuck(), KnownModel(windy_walk())
    runs = {
        "windy walk": run(Iwocs(Scenarios(wind_kernels()), worst="static", tol=1e-8), walk, progress=False),
        "stuck": run(Iwocs(Scenarios(listed.kernels), tol=1e-8), listed.access, progress=False),
        "hull": run(Iwocs(Scenarios(listed.kernels), variant="hull", tol=1e-8), listed.access, progress=False),
    }
    found = {}
    for name, done in runs.items():
        column = {x: done.history.column(x)[:, 0] for x in ("lower", "upper", "iterations")}
        last = [np.flatnonzero(column["iterations"] == i)[0] for i in range(1, done.state.iterations + 1)]
        found[name] = {x: [float(column[x][i]) for i in last] for x in ("lower", "upper")}
        found[name]["status"] = done.state.status
    return found


def algorithm_of(method: str, settings: dict[str, Any], small: bool) -> tuple[Any, int | None]:
    """The algorithm and its budget of steps: all learn for the same number of iterations at most."""
    training = {**settings["training"], **({"iterations": 1, "updates": 5, "batch": 16, "hidden": 8} if small else {})}
    if method == "search":
        few = {"generations": 1, "population": 4, "episodes": 2, "fresh": 4} if small else {}
        return DeepIwocs(training=training, worlds=WORLDS, **few), None
    training["iterations"] *= WORLDS
    return DeepTraining("nominal" if method == "plain" else "box", training), training["iterations"]


def trained(system: str, method: str, seed: int, small: bool, folder: Path) -> dict[str, Any]:
    """One run, and its mean undiscounted return in every world of a grid (20 starts each, the same for all)."""
    settings = SETTINGS[system]
    access = Worlds(physics(system), gamma=settings["gamma"], truncation=20 if small else settings["truncation"])
    algorithm, steps = algorithm_of(method, settings, small)
    done = run(
        algorithm, access, steps=steps, seed=seed, checkpoint=folder / f"{system}-{method}-{seed}", progress=True
    )
    transitions = done.meter.total("transitions")  # of learning and searching, not of the grid below
    resolution = 3 if small else 9
    points = in_box(access, grid_points(resolution, len(access.nominal)))
    returns = access.returns(done.policy, points, Key(1000, "figure", 0), 2 if small else 20, gamma=1.0).mean(-1)
    facts: dict[str, Any] = {"returns": np.round(returns, 2).tolist()}
    facts |= {
        "transitions": transitions,
        "worst": float(returns.min()),
        "mean": float(returns.mean()),
    }
    if method == "search":
        state = done.state
        facts |= {"worlds": state.worlds.tolist(), "status": state.status, "lower": state.lower, "upper": state.upper,
                  "best": state.best, "error": state.error}  # fmt: skip
    return facts


def draw_brackets(found: dict[str, Any], path: Path) -> None:
    """Three small panels: lower and upper by candidate."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.6), layout="constrained")
    titles = {
        "windy walk": "windy walk",
        "stuck": "three states, paper",
        "hull": "three states, hull",
    }
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        x = np.arange(1, len(found[name]["lower"]) + 1)
        ax.plot(x, found[name]["upper"], "v-", color="#c04a00", label="upper")
        ax.plot(x, found[name]["lower"], "^-", color="#0072b2", label="lower")
        ax.axhline(found["hull" if name != "windy walk" else name]["lower"][-1], color="#555555", lw=0.8, ls=":")
        ax.set(title=f"{title}: {found[name]['status']}", xlabel="candidate", xticks=x)
        ax.title.set_fontsize(9)
    axes[0].set_ylabel("value of the start")
    axes[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def draw_worlds(system: str, runs: dict[str, Any], path: Path) -> None:
    """One heat map a method: mean return over seeds; crosses are the worlds the search trained in (first seed)."""
    plt, box = pyplot(), physics(system)
    found = {m: np.mean([r["returns"] for r in runs[m]], axis=0) for m in runs}
    n = round(len(found["plain"]) ** 0.5)
    low, high = min(x.min() for x in found.values()), max(x.max() for x in found.values())
    figure, axes = plt.subplots(1, len(runs), figsize=(1 + 2.4 * len(runs), 2.9), layout="constrained", sharey=True)
    pad = [(b - a) / (2 * max(n - 1, 1)) for a, b in zip(box.low, box.high, strict=True)]
    extent = (box.low[1] - pad[1], box.high[1] + pad[1], box.low[0] - pad[0], box.high[0] + pad[0])
    for ax, method in zip(axes, runs, strict=True):
        x = found[method]
        image = ax.imshow(
            x.reshape(n, n), origin="lower", extent=extent, aspect="auto", vmin=low, vmax=high, cmap="viridis"
        )
        ax.set(xlabel=box.uncertain[1])
        ax.set_title(f"{TITLES[method]}\nworst {x.min():.0f}, mean {x.mean():.0f}", fontsize=9)
        ax.plot(*box.nominal[::-1], "o", mfc="none", mec="white")
        if method == "search":
            worlds = np.array(runs[method][0]["worlds"])
            ax.plot(worlds[1:, 1], worlds[1:, 0], "x", color="white", ms=8, mew=2, clip_on=False)
    axes[0].set_ylabel(box.uncertain[0])
    figure.colorbar(image, ax=axes, label="mean return")
    figure.savefig(path, metadata={"Date": None})


def pyplot() -> Any:
    """matplotlib, set so that a figure is the same text each time."""
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none"})
    return require("matplotlib.pyplot", "lab")


def main() -> None:
    """Write ``iwocs_brackets.svg``, ``iwocs_SYSTEM.svg`` and their numbers ``iwocs.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    parser.add_argument("--runs", type=Path, default=Path("runs/iwocs-figures"), help="Folder of the checkpoints.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, Any] = {"brackets": brackets()}
    draw_brackets(numbers["brackets"], options.out / "iwocs_brackets.svg")
    for system in options.systems:
        numbers[system] = {method: [] for method in METHODS}
        for seed in options.seeds:
            for method in METHODS:
                facts = trained(
                    system, method, seed, options.small, options.runs / ("small" if options.small else "full")
                )
                numbers[system][method].append(facts)
                print(
                    f"{system}, {method}, seed {seed}: worst {facts['worst']:.1f}, mean {facts['mean']:.1f}", flush=True
                )
        draw_worlds(system, numbers[system], options.out / f"iwocs_{system}.svg")
    (options.out / "iwocs.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
