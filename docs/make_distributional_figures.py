"""Figures of the distributional page:
`python docs/make_distributional_figures.py [--steps 70] [--seeds 3] [--small] [--out FOLDER]`.

1. Return laws of the risk-neutral policy, the best policy of stage and state, and the stock-augmented one, side by side.
2. One stock-conditioned quantile network, deployed for several tau: the exact CVaR of what it does against the optimum, on two
   tables and on FrozenLake played through Gymnasium; and the estimated CVaR of two agents on CartPole, with intervals.

Writes pictures and their numbers. ``--small`` takes a few steps and is what continuous integration runs.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytheory import models
from polytheory.access import Online
from polytheory.access.gymnasium import VectorEnvs
from polytheory.errors import require
from polytheory.lab.estimates import held_out_returns, judged
from polytheory.models.gymnasium_tables import from_gymnasium
from polytheory.models.objectives import CVaR, objective
from polytheory.models.return_law import return_law
from polytheory.models.stock import stock_problem
from polytheory.policies import TabularPolicy
from polytheory.reference.distributional.plan import plan
from polytheory.scaled.distributional.deep import StockQuantileAgent

PROBLEMS = (("wager", "cvar:0.25"), ("toll-road", "cvar:0.25"), ("wager", "threshold:6"))
KINDS = ("risk-neutral", "best of stage and state", "with a stock")
COLOURS = ("#0072b2", "#c04a00", "#00785a")
TAUS = (0.1, 0.25, 0.5, 1.0)


def best_markov(model: Any, judge: Any) -> Any:
    """The law of the best deterministic policy of stage and state, by enumeration.

    On the toll road the stage is the state, and crossings are alike: it only matters how many are driven around.
    """
    if model.name == "toll-road":
        tables = [np.arange(model.S) < k for k in range(model.S)]
    else:
        tables = [
            np.reshape(x, (model.horizon, model.S)) for x in product(range(model.A), repeat=model.horizon * model.S)
        ]
    laws = [return_law(model, TabularPolicy.deterministic(np.asarray(x, dtype=np.int64), model.A)) for x in tables]
    return max(laws, key=lambda law: judge.of_return(law.atoms, law.probs))


def laws_of(name: str, text: str) -> dict[str, Any]:
    """The three laws of a problem, and what the objective says of each."""
    model, judge = models.make(name), objective(text)
    laws = (plan(model, "mean").law, best_markov(model, judge), plan(model, judge).law)
    return {
        kind: {
            "atoms": law.atoms.tolist(), "probs": law.probs.tolist(), "mean": float(law.mean),
            "value": float(judge.of_return(law.atoms, law.probs)),
        }
        for kind, law in zip(KINDS, laws, strict=True)
    }  # fmt: skip


LAKE: dict[str, Any] = {
    "reward_schedule": (10, -10, -1),
    "success_rate": 0.6,
}  # goal, hole, ice; how often a step goes as meant
LAKE_STEPS, POLE_STEPS, HELD_OUT, PLAYED = 20, 100, 400, 200


def world(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """The model, what the agent plays, and the settings that are not its defaults: a stock node for each whole number."""
    if name == "FrozenLake":
        model = from_gymnasium("FrozenLake-v1", gamma=1.0, horizon=LAKE_STEPS, **LAKE)
        played = VectorEnvs("FrozenLake-v1", 32, gamma=1.0, horizon=LAKE_STEPS, **LAKE)
        return model, played, {"stock_range": (-10.0, 30.0), "bins": 41}
    model = models.make(name)
    low, high = stock_problem(model).returns
    return model, Online(model).replicate(1), {"stock_range": (-high, -low), "bins": round(high - low) + 1}


def train(name: str, seed: int, steps: int, points: int, played: int) -> dict[str, Any]:
    """Exact CVaR of what one network does for each tau, while it learns."""
    model, access, settings = world(name)
    agent = StockQuantileAgent("cvar:0.25", **settings)
    state = agent.init(access, seed)
    rows: dict[str, Any] = {
        "seed": seed,
        "episodes": [],
        "optimum": {t: float(plan(model, CVaR(t)).value) for t in TAUS},
    }
    neutral = plan(model, "mean").law
    rows["risk-neutral"] = {t: float(CVaR(t).of_return(neutral.atoms, neutral.probs)) for t in TAUS}
    rows["deployed"] = {t: [] for t in TAUS}
    for k in range(steps):
        state, _ = agent.step(state, access)
        if (k + 1) % max(steps // points, 1) == 0:
            rows["episodes"].append((k + 1) * agent.batch)
            for t in TAUS:
                law = return_law(model, agent.deploy(state, CVaR(t), access, episodes=played).on_arrays())
                rows["deployed"][t].append(float(CVaR(t).of_return(law.atoms, law.probs)))
            print(
                name, seed, rows["episodes"][-1], {t: round(x[-1], 3) for t, x in rows["deployed"].items()}, flush=True
            )
    return rows


def train_pole(steps: int, points: int, held_out: int, played: int) -> dict[str, Any]:
    """CVaR at 1/4 of held-out returns on CartPole, with intervals, of agents that are trained for it and for the mean."""
    access, judge = VectorEnvs("CartPole-v1", 32, gamma=1.0, horizon=POLE_STEPS), CVaR(0.25)
    rows: dict[str, Any] = {}
    for text in ("cvar:0.25", "mean"):
        agent = StockQuantileAgent(text, (-float(POLE_STEPS), 0.0), bins=26, copy_every=40, decay=25)
        state, found = agent.init(access, 0), {"episodes": [], "value": [], "low": [], "high": [], "mean": []}
        for k in range(steps):
            state, _ = agent.step(state, access)
            if (k + 1) % max(steps // points, 1) == 0:
                policy = agent.deploy(state, text, access, episodes=played)
                returns = held_out_returns(access, policy, held_out, POLE_STEPS)
                entry = {
                    "episodes": (k + 1) * agent.batch,
                    **judged(judge, returns)._asdict(),
                    "mean": float(returns.mean()),
                }
                for name, x in entry.items():
                    found[name].append(x)
                print("CartPole", text, entry, flush=True)
        rows[text] = found
    return rows


def draw_laws(found: list[dict[str, Any]], path: Path) -> None:
    """One row a problem, one panel a policy."""
    plt = _pyplot()
    figure, axes = plt.subplots(len(found), 3, figsize=(8.4, 2.1 * len(found)), layout="constrained", sharey="row")
    for row, (name, text), laws in zip(axes, PROBLEMS, found, strict=True):
        ends = [x for law in laws.values() for x in (law["atoms"][0], law["atoms"][-1])]
        for axis, (kind, law), colour in zip(row, laws.items(), COLOURS, strict=True):
            axis.bar(law["atoms"], law["probs"], width=0.8, color=colour)
            axis.axvline(law["mean"], color="#1b1f24", linewidth=1, linestyle=":")
            axis.set_title(f"{kind}: {law['value']:.3f}", fontsize=9)
            axis.set_xlim(min(ends) - 1, max(ends) + 1)
        row[0].set_ylabel(f"{name}\n{text}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("return (dotted: mean)", fontsize=9)
    figure.savefig(path, metadata={"Date": None})


def draw_training(found: dict[str, list[dict[str, Any]]], pole: dict[str, Any], path: Path) -> None:
    """Deployed CVaR against episodes: the middle seed with the others around it, optima dashed."""
    plt = _pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(8.4, 6.0), layout="constrained")
    for axis, (name, runs) in zip(axes.flat, found.items(), strict=False):
        for t, colour in zip(TAUS, (*COLOURS, "#9c4a7d"), strict=True):
            values = np.sort([run["deployed"][t] for run in runs], axis=0)
            axis.plot(runs[0]["episodes"], values[len(values) // 2], color=colour, label=f"tau = {t:g}")
            axis.fill_between(runs[0]["episodes"], values[0], values[-1], color=colour, alpha=0.15, linewidth=0)
            axis.axhline(runs[0]["optimum"][t], color=colour, linestyle="--", linewidth=1)
        axis.set(xlabel="episodes", title=name)
        axis.set_ylabel("exact CVaR of the deployed policy")
    axes[0][0].legend(fontsize=8, loc="center right")
    axis = axes[1][1]
    for (text, x), colour in zip(pole.items(), COLOURS, strict=False):
        axis.plot(x["episodes"], x["value"], color=colour, label=f"trained for {text}")
        axis.fill_between(x["episodes"], x["low"], x["high"], color=colour, alpha=0.2, linewidth=0)
    axis.axhline(POLE_STEPS, color="#1b1f24", linestyle="--", linewidth=1)
    axis.set(xlabel="episodes", title="CartPole, 100 steps", ylabel="CVaR at 1/4 of held-out returns")
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, metadata={"Date": None})


def _pyplot() -> Any:
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none", "font.size": 9})
    return require("matplotlib.pyplot", "lab")


def main(argv: list[str] | None = None) -> None:
    """Write ``distributional_laws`` and ``distributional_agent`` as .json and .svg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=70)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    laws = [laws_of(*problem) for problem in PROBLEMS]
    draw_laws(laws, options.out / "distributional_laws.svg")
    steps, seeds, points = (1, 1, 1) if options.small else (options.steps, options.seeds, 4)
    held_out, played = (5, 2) if options.small else (HELD_OUT, PLAYED)
    trained = {
        name: [train(name, seed, steps, points, played) for seed in range(seeds)]
        for name in ("wager", "toll-road", "FrozenLake")
    }
    pole = train_pole(steps, points, held_out, played)
    draw_training(trained, pole, options.out / "distributional_agent.svg")
    numbers = {"laws": [[*p, x] for p, x in zip(PROBLEMS, laws, strict=True)], "agent": {**trained, "CartPole": pole}}
    for key, x in numbers.items():
        (options.out / f"distributional_{key}.json").write_text(json.dumps(x, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
