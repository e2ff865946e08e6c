"""Draw the figures of docs/methods/agnostic-policy-learning.md (python docs/make_agnostic.py; ``--quick`` for a smoke test).

Everything is computed by the library; seeds are fixed, so that the numbers come out the same again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from polytheory.access import GenerativeModel, Online
from polytheory.access.defaults import default_access
from polytheory.errors import require
from polytheory.models import make
from polytheory.models.layered import layers_of, tables_of
from polytheory.policy_classes import PolicyClass, make_class, random_policies, tons
from polytheory.reference.exploration.agnostic_policy_learning import class_values, population_psdp, tree_returns

HERE = Path(__file__).parent / "methods"


def selection(quick: bool) -> dict[str, Any]:
    """How often the best 1-ton is missed, at equal transitions: trees against importance weights."""
    from polytheory.run import run
    from polytheory.scaled.exploration.agnostic_policy_learning import ImportanceSampling, TrajectoryTree

    model, replicas = make("layered-two-state"), 40 if quick else 400
    P, r, start = tables_of(model)
    policies = tons(3, 2, 2)
    best = int(class_values(P, r, start, policies.actions).argmax())
    out: dict[str, Any] = {"transitions": [], "trees": [], "importance weights": []}
    for trees in (50, 200, 800):
        seen = run(
            TrajectoryTree(policies, batch=trees), GenerativeModel(model).replicate(replicas), steps=1, progress=False
        )
        budget = seen.meter.total("transitions") / replicas
        episodes = round(budget / 3)
        other = run(
            ImportanceSampling(policies, batch=episodes),
            Online(model).replicate(replicas),
            steps=1,
            seed=1,
            progress=False,
        )
        out["transitions"].append(budget)
        for name, found in (("trees", seen), ("importance weights", other)):
            picked = found.state.totals.argmax(1).numpy()
            out[name].append(float((picked != best).mean()))
    return out


def cost(quick: bool) -> dict[str, Any]:
    """Transitions of one tree where nothing merges (action a of state i leads to state 2 i + a), by horizon."""
    rows: dict[str, Any] = {"H": list(range(1, 5 if quick else 8)), "1-tons": [], "2-tons": [], "open-loop": []}
    for H in rows["H"]:
        sizes = (H, 2 ** (H - 1), 2)
        for name, policies in (("1-tons", tons(*sizes)), ("open-loop", make_class("open-loop", sizes))):
            rows[name].append(_calls(policies))
        rows["2-tons"].append(_calls(tons(*sizes, most=2)) if H <= 5 else float("nan"))  # 10^4 members and more beyond
    return rows


def _calls(policies: PolicyClass) -> float:
    n = policies.n
    _, calls = tree_returns(
        lambda h, tree, s, a: (0.0 * s, (2 * s + a) % (n + 1)), np.zeros(1, dtype=np.int64), policies.actions, 2
    )
    return float(calls.sum())


def amplification(quick: bool) -> dict[str, Any]:
    """Loss of PSDP after one slip of 0.005 in the last layer, by horizon, and the bound for complete classes."""
    rows: dict[str, Any] = {"H": list(range(2, 9)), "loss": [], "H C eps": []}
    for H in rows["H"]:
        P, r, start = tables_of(make("error-amplification", horizon=H, last=0.01))
        policies = make_class("open-loop", (H, 2, 2))
        errors = np.zeros_like(r)
        errors[-1, :, 1] = 0.00251
        taken, _ = population_psdp(P, r, np.full((H, 2), 0.5), policies.actions, errors)
        rows["loss"].append(1.0 - float(class_values(P, r, start, taken[None])[0]))
        rows["H C eps"].append(H * 2 * 0.005)
    return rows


def online(quick: bool) -> dict[str, Any]:
    """Largest error over the 2-tons, POPLER against importance weights at equal episodes, by horizon."""
    from polytheory.run import run
    from polytheory.scaled.exploration.agnostic_policy_learning import ImportanceSampling, Popler

    rows: dict[str, Any] = {"H": [3, 4] if quick else [3, 5, 7, 9, 11], "POPLER": [], "importance weights": []}
    replicas = 2 if quick else 6
    for H in rows["H"]:
        model = make("layered-two-state", horizon=H)
        P, r, start = tables_of(model)
        policies = tons(H, 2, 2, most=2)
        truth = class_values(P, r, start, policies.actions)
        learner = Popler(policies, batch=800)
        end = run(learner, Online(model).replicate(replicas), steps=2 * H, progress=False)
        episodes = end.meter.total("episodes") // replicas
        other = run(
            ImportanceSampling(policies, batch=episodes), Online(model).replicate(replicas), steps=1, progress=False
        )
        found = (learner.values(end.state).numpy(), other.state.totals.numpy() / episodes)
        for name, values in zip(("POPLER", "importance weights"), found, strict=True):
            rows[name].append(float(np.abs(values - truth).max(axis=1).mean()))
    return rows


def emulator(quick: bool) -> dict[str, Any]:
    """Root mean square error of PLHR's emulator by transitions, with a tolerance that works and one that merges blocks."""
    from polytheory.run import run
    from polytheory.scaled.exploration.agnostic_policy_learning import Plhr

    model = make("block-two-state")
    P, r, start = tables_of(model)
    policies = random_policies(*layers_of(model))
    truth = class_values(P, r, start, policies.actions)
    rows: dict[str, Any] = {
        "transitions": [25, 100] if quick else [25, 100, 400, 1600],
        "tolerance 0.15": [],
        "tolerance 1": [],
    }
    for m in rows["transitions"]:
        for tolerance in (0.15, 1.0):
            learner = Plhr(policies, rollouts=100, tolerance=tolerance, transitions=m, draws=m)
            access = default_access("HybridResets", model).replicate(2 if quick else 10)
            end = run(learner, access, steps=2 * 3, progress=False)
            error = learner.values(end.state).numpy() - truth
            rows[f"tolerance {tolerance:g}"].append(float(np.sqrt((error**2).mean())))
    return rows


PANELS = (
    ("selection", selection, "transitions", "share of runs that miss the best", "log"),
    ("cost", cost, "H", "transitions of one tree", "log"),
    ("amplification", amplification, "H", "V* - V", "log"),
    ("online", online, "H", "largest error of a value", "log"),
    ("emulator", emulator, "transitions", "error of the emulator", "log"),
)


def draw(name: str, rows: dict[str, Any], x: str, y: str, scale: str, folder: Path) -> Path:
    """One figure as SVG."""
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "polytheory"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for label, values in rows.items():
        if label != x:
            axes.plot(rows[x], values, "--" if label == "H C eps" else "o-", label=label)
    axes.set(xlabel=x, ylabel=y, yscale="linear" if name == "selection" else scale)
    if x == "transitions":
        axes.set_xscale("log")
    axes.legend(frameon=False)
    path = folder / f"agnostic-{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def main() -> None:
    """Compute, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few replicas: a smoke test, not the figures of the page")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the figures")
    chosen = parser.parse_args()
    require("torch", "scaled").set_num_threads(1)
    for name, compute, x, y, scale in PANELS:
        rows = compute(chosen.quick)
        print(f"{name}:")
        for label, values in rows.items():
            print(f"  {label:20} " + " ".join(f"{v:.4g}" for v in values))
        draw(name, rows, x, y, scale, chosen.out)


if __name__ == "__main__":
    main()
