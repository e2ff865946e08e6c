"""Figures of docs/methods/optimistic-actor-critic.md: `python docs/make_exploration_figures.py [--quick] [--jobs 2]`.

`deep_sea`: episodes until DeepSea of a given depth is solved (the treasure found in half of the last 20 episodes), deep NORA
against the same network with an epsilon-greedy actor-critic and no bonus. `mountain_car`: returns of the same two on
MountainCar-v0. `regret`: exact regret of the tables and features over episodes, with log-log slopes, with and without
optimism. Every number goes to a JSON file beside the picture as soon as it is known; what is there already is not run again
(`--fresh` runs it again). `--quick` is a smoke test of all.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from polytheory import models
from polytheory.access import Online
from polytheory.errors import require
from polytheory.lab.pool import complete
from polytheory.models.random_models import random_linear
from polytheory.proofs_check.claims import Room
from polytheory.proofs_check.exploration.learning_claims import curves, slope
from polytheory.proofs_check.exploration.oac_instances import World

WINDOW = 20  # episodes, of which half must find the treasure
UNSEEN = 4.0  # bonus of a cell of DeepSea not seen, for orthogonal features, in units of the treasure
NEW_CELLS = 0.3  # of the depth, before the critic of DeepSea is fitted again
KINDS = {"optimistic": {}, "epsilon-greedy": {"radius": 0.0, "epsilon": 0.1, "reset": False}}
LABELS = {
    "optimistic": "optimistic: bonus of the last layer, rare switching, resets",
    "epsilon-greedy": "epsilon-greedy: same network, no bonus",
}
COLOURS = {"optimistic": "#0072b2", "epsilon-greedy": "#c04a00", "NORA": "#0072b2", "without optimism": "#c04a00"}
BATCH = 4  # episodes a step
Z = 1.96  # intervals of 95 %


# ---- DeepSea -------------------------------------------------------------------------------------------------------


def episodes_to_solve(kind: str, depth: int, seed: int, limit: int) -> dict[str, Any]:
    """Episodes played when the treasure was found in half of the last `WINDOW` (None where that did not happen), the first that
    found it (up to the order in its batch), and switches."""
    from polytheory.scaled.exploration.bonus import bonus_scales
    from polytheory.scaled.exploration.deep import DeepNora
    from polytheory.scaled.exploration.torsos import FourierTorso, one_hot_cells

    access, values = Online(models.make("deep-sea", depth=depth)).replicate(1), (0.0, 1.0)
    # half of the depth^2 cells can be reached: their cosines are linearly independent, with room to spare
    torso = FourierTorso(depth * depth, depth * depth, 3.0, seed=seed)
    settings = bonus_scales(depth, values, unseen=UNSEEN, directions=NEW_CELLS * depth)
    settings |= {"eta": 100.0, "sweeps": depth, **KINDS[kind]}
    learner = DeepNora(torso, depth, values, one_hot_cells(depth), batch=BATCH, **settings)
    state, found = learner.init(access, seed), []
    while len(found) < limit and (len(found) < WINDOW or np.mean(found[-WINDOW:]) < 0.5):
        state, info = learner.step(state, access)
        divers = round(info["return"] * BATCH)  # all other returns sum to 0.01 BATCH at most
        found += [i < divers for i in range(BATCH)]
    solved = len(found) >= WINDOW and bool(np.mean(found[-WINDOW:]) >= 0.5)
    return {
        "episodes": len(found) if solved else None, "first": found.index(True) + 1 if any(found) else None,
        "switches": state.switches,
    }  # fmt: skip


def draw_deep_sea(done: dict[str, Any], limit: int, path: Path) -> None:
    """Medians over seeds, every seed as a dot; what was not solved is an open mark at the limit."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    for kind in KINDS:
        cells = [(*map(int, key.split("/")[1:]), x["episodes"]) for key, x in done.items() if key.startswith(kind)]
        depths = sorted({depth for depth, _, _ in cells})
        own = {d: [limit if n is None else n for depth, _, n in cells if depth == d] for d in depths}
        axes.plot(depths, [statistics.median(own[d]) for d in depths], color=COLOURS[kind], label=LABELS[kind])
        for depth, _, n in cells:
            face = "none" if n is None else COLOURS[kind]
            axes.plot(depth, limit if n is None else n, "o", color=COLOURS[kind], mfc=face, markersize=5)
    axes.set(xlabel="depth of DeepSea", ylabel="episodes until solved", yscale="log")
    axes.set_yticks([20, 50, 100, 200, 500, 1000], labels=["20", "50", "100", "200", "500", "1000"], minor=False)
    axes.set_yticks([], minor=True)
    axes.set_xticks(sorted({int(key.split("/")[1]) for key in done}))
    axes.set_title(f"median and every seed; open: not solved in {limit} episodes", fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


# ---- regret --------------------------------------------------------------------------------------------------------


def _worlds() -> dict[str, World]:
    linear = random_linear(S=10, A=4, d=3, horizon=4, seed=7)
    return {
        "RiverSwim": World(models.make("riverswim", S=4, horizon=8)),
        "combination lock, 8 digits": World(models.make("baited-lock", H=8), settings={"value_bound": 1.2, "lam": 0.3}),
        "random linear MDP": World(linear.to_tabular(), linear.phi),
    }


REGRET_KINDS = {"NORA": {"bonus_scale": 2.0}, "without optimism": {"bonus_scale": 0.0}}


def regret(kind: str, world: str, episodes: int, runs: int) -> dict[str, Any]:
    """Mean exact regret at some episodes, and the log-log slope between T / 4 and T with its 95 % interval."""
    made = _worlds()[world]
    features = {} if made.phi is None else {"phi": made.phi}
    room = Room("scaled", "exploration", "optimistic-actor-critic")
    gaps = curves(room, "Nora", made, episodes, runs, eta=4.0, **features, **REGRET_KINDS[kind]).gaps
    total, (rate, width) = gaps.cumsum(0), slope(gaps, z=Z)
    at = np.unique(np.geomspace(1, episodes, 60).round().astype(int))
    low, high = np.quantile(total, [0.1, 0.9], axis=1)
    return {
        "slope": [round(rate, 3), round(width, 3)], "at": at.tolist(), "mean": total.mean(1)[at - 1].round(3).tolist(),
        "low": low[at - 1].round(3).tolist(), "high": high[at - 1].round(3).tolist(),
    }  # fmt: skip


def draw_regret(done: dict[str, Any], path: Path) -> None:
    """One panel a world: mean regret, band from 10 % to 90 % of the runs, slopes in the legend."""
    plt = _pyplot()
    worlds = list(dict.fromkeys(key.split("/")[1] for key in done))
    figure, panels = plt.subplots(1, len(worlds), figsize=(3.3 * len(worlds), 3.4), layout="constrained", squeeze=False)
    for axes, world in zip(panels[0], worlds, strict=True):
        for kind in REGRET_KINDS:
            x = done[f"{kind}/{world}"]
            label = f"{kind}: slope {x['slope'][0]:.2f} ± {x['slope'][1]:.2f}"
            axes.plot(x["at"], x["mean"], color=COLOURS[kind], label=label)
            axes.fill_between(x["at"], x["low"], x["high"], color=COLOURS[kind], alpha=0.15, linewidth=0)
        axes.set(xlabel="episodes T", xscale="log", yscale="log")
        axes.set_title(world, fontsize=9)
        axes.legend(fontsize=7, loc="lower right")
    panels[0, 0].set_ylabel("regret")
    figure.savefig(path, metadata={"Date": None})


# ---- MountainCar ---------------------------------------------------------------------------------------------------


def mountain_car(kind: str, seed: int, steps: int) -> dict[str, Any]:
    """Mean return of each batch of four episodes, how many of them reached the flag, and switches so far, as played."""
    import torch

    from polytheory.access.gymnasium import VectorEnvs
    from polytheory.scaled.exploration.bonus import bonus_scales
    from polytheory.scaled.exploration.deep import DeepNora
    from polytheory.scaled.exploration.torsos import FourierTorso

    access, values = VectorEnvs("MountainCar-v0", BATCH), (-100.0, 0.0)
    low, high = torch.tensor([-1.2, -0.07]), torch.tensor([0.6, 0.07])
    settings = bonus_scales(100, values, directions=2.0) | {"eta": 20.0, "sweeps": 100} | KINDS[kind]
    learner = DeepNora(
        FourierTorso(2, 300, 5.0, seed=seed), 200, values, lambda h, s: 2 * (s.float() - low) / (high - low) - 1,
        gamma=0.99, batch=BATCH, **settings,
    )  # fmt: skip
    state, infos, ends = learner.init(access, seed), [], []
    for _ in range(steps):
        state, info = learner.step(state, access)
        infos.append(info)
        ends.append(int((~state.goes_on).sum()))
    return {
        "episodes": BATCH * steps, "returns": [x["return"] for x in infos], "reached": np.diff(ends, prepend=0).tolist(),
        "switches": [int(x["switches"]) for x in infos],
    }  # fmt: skip


def draw_mountain_car(done: dict[str, Any], path: Path) -> None:
    """Return against episodes: every seed thin, the mean over seeds bold."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    for kind in KINDS:
        runs = np.array([x["returns"] for key, x in done.items() if key.startswith(kind)])
        at = BATCH * np.arange(1, runs.shape[1] + 1)
        axes.plot(at, runs.T, color=COLOURS[kind], linewidth=0.6, alpha=0.6)
        axes.plot(at, runs.mean(0), color=COLOURS[kind], linewidth=2, label=LABELS[kind])
    axes.axhline(-110, color="0.4", linewidth=0.8, linestyle="--")
    axes.set(xlabel="episodes", ylabel=f"return, mean of {BATCH} episodes", ylim=(-205, -65))
    axes.set_title("MountainCar-v0: every seed and the mean; dashed: -110", fontsize=9)
    axes.legend(fontsize=8, loc="upper left")
    figure.savefig(path, metadata={"Date": None})


# ---- all -----------------------------------------------------------------------------------------------------------


def _pyplot() -> Any:
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none"})
    return require("matplotlib.pyplot", "lab")


def main() -> None:
    """Run what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("deep_sea", "regret", "mountain_car"), help="one alone")
    parser.add_argument("--depths", type=int, nargs="+", default=[10, 15, 20, 25, 30])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=600, help="episodes of DeepSea at most")
    parser.add_argument("--episodes", type=int, default=1000, help="T of the regret")
    parser.add_argument("--runs", type=int, default=32, help="replicas of the regret")
    parser.add_argument("--steps", type=int, default=50, help="batches of episodes of MountainCar")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, for a test of the command")
    parser.add_argument("--fresh", action="store_true", help="run everything again")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    options = parser.parse_args()
    if options.quick:
        options.depths, options.seeds, options.limit, options.episodes, options.runs = [3, 4], 2, 60, 20, 4
        options.steps = 1
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only in (None, "deep_sea"):
        jobs = {
            f"{kind}/{depth}/{seed}": (kind, depth, seed, options.limit)
            for seed in range(options.seeds) for depth in options.depths for kind in KINDS
        }  # fmt: skip
        about = {"limit": options.limit, "window": WINDOW, "unseen": UNSEEN, "new_cells": NEW_CELLS, "batch": BATCH}
        path = options.out / "deep_sea.json"
        done = complete(episodes_to_solve, jobs, path, about, options.jobs, options.fresh)
        draw_deep_sea(done, options.limit, path.with_suffix(".svg"))
    if options.only in (None, "regret"):
        jobs = {
            f"{kind}/{world}": (kind, world, options.episodes, options.runs)
            for world in _worlds() for kind in REGRET_KINDS
        }  # fmt: skip
        path, about = options.out / "oac_regret.json", {"episodes": options.episodes, "runs": options.runs}
        draw_regret(complete(regret, jobs, path, about, options.jobs, options.fresh), path.with_suffix(".svg"))
    if options.only in (None, "mountain_car"):
        jobs = {f"{kind}/{seed}": (kind, seed, options.steps) for seed in range(options.seeds) for kind in KINDS}
        path, about = options.out / "mountain_car.json", {"steps": options.steps}
        done = complete(mountain_car, jobs, path, about, options.jobs, options.fresh)
        draw_mountain_car(done, path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
