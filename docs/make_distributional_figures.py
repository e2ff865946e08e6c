"""Figures of the distributional page: `python docs/make_distributional_figures.py [--small] [--out FOLDER]`.

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


# rewards of goal, hole and ice; how often a step goes as meant
LAKE: dict[str, Any] = {"reward_schedule": (10, -10, -1), "success_rate": 0.6}
LAKE_STEPS, POLE_STEPS = 20, 50
RUNS = {"wager": (20, 3), "toll-road": (70, 3), "FrozenLake": (100, 3)}  # steps of training, seeds
POLE_RUN = 40
HELD_OUT, PLAYED = 400, 400  # episodes of the estimate; of each initial stock that is tried


def world(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """The model, what the agent plays, and the settings that are not its defaults: a stock node for each whole number."""
    if name == "FrozenLake":
        model = from_gymnasium("FrozenLake-v1", gamma=1.0, horizon=LAKE_STEPS, **LAKE)
        played = VectorEnvs("FrozenLake-v1", 32, gamma=1.0, horizon=LAKE_STEPS, **LAKE)
        return model, played, {"stock_range": (-10.0, 30.0), "bins": 41}
    model = models.make(name)
    low, high = stock_problem(model).returns
    return model, Online(model).replicate(1), {"stock_range": (-high, -low), "bins": round(high - low) + 1}


def train(name: str, seed: int, steps: int, played: int) -> dict[str, Any]:
    """Exact CVaR of what one network does for each tau, beside the optimum and the risk-neutral policy."""
    model, access, settings = world(name)
    agent = StockQuantileAgent("cvar:0.25", **settings)
    state = agent.init(access, seed)
    for _ in range(steps):
        state, _ = agent.step(state, access)
    neutral = plan(model, "mean").law
    policies = {t: agent.deploy(state, CVaR(t), access, episodes=played) for t in TAUS}
    laws = {t: return_law(model, policy.on_arrays()) for t, policy in policies.items()}
    rows: dict[str, Any] = {
        "seed": seed, "episodes": steps * agent.batch,
        "stock": {t: float(policy.initial[0]) for t, policy in policies.items()},
        "deployed": {t: round(float(CVaR(t).of_return(law.atoms, law.probs)), 3) for t, law in laws.items()},
        "optimum": {t: round(float(plan(model, CVaR(t)).value), 3) for t in TAUS},
        "risk-neutral": {t: round(float(CVaR(t).of_return(neutral.atoms, neutral.probs)), 3) for t in TAUS},
    }  # fmt: skip
    print(name, rows, flush=True)
    return rows


def train_pole(text: str, steps: int, held_out: int, played: int) -> dict[str, Any]:
    """CVaR at 1/4 of held-out returns on CartPole, with its interval, of an agent that is trained for an objective."""
    access = VectorEnvs("CartPole-v1", 32, gamma=1.0, horizon=POLE_STEPS)
    agent = StockQuantileAgent(text, (-float(POLE_STEPS), 0.0), bins=26, copy_every=40, decay=20)
    state = agent.init(access, 0)
    for _ in range(steps):
        state, _ = agent.step(state, access)
    returns = held_out_returns(access, agent.deploy(state, text, access, episodes=played), held_out, POLE_STEPS)
    found = {"episodes": steps * agent.batch, **judged(CVaR(0.25), returns)._asdict(), "mean": float(returns.mean())}
    print("CartPole", text, found, flush=True)
    return found


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
    """What agents deploy, one dot a seed, between the risk-neutral policy and the optimum."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 4, figsize=(10.2, 3.2), layout="constrained")
    places = np.arange(len(TAUS))
    for axis, (name, runs) in zip(axes, found.items(), strict=False):
        for kind, marker, size, colour in (("optimum", "_", 180, "#1b1f24"), ("risk-neutral", "x", 36, COLOURS[1])):
            axis.scatter(places, list(runs[0][kind].values()), marker=marker, s=size, color=colour, label=kind)
        for i, run in enumerate(runs):
            aside, label = places + 0.16 * (i - (len(runs) - 1) / 2), None if i else "agent, one seed"
            axis.scatter(aside, list(run["deployed"].values()), s=22, color=COLOURS[0], label=label)
        axis.set_xticks(places, [f"{t:g}" for t in TAUS])
        axis.set(xlabel="tau", title=f"{name}, {runs[0]['episodes']} episodes")
    axes[0].set_ylabel("exact CVaR of the policy")
    axes[0].legend(fontsize=8, loc="upper left")
    axis = axes[3]
    for place, (x, colour) in enumerate(zip(pole.values(), COLOURS, strict=False)):
        error = [[x["value"] - x["low"]], [x["high"] - x["value"]]]
        axis.errorbar([place], [x["value"]], yerr=error, fmt="o", color=colour, capsize=5)
    axis.axhline(POLE_STEPS, color="#1b1f24", linestyle="--", linewidth=1)
    axis.set_xticks(range(len(pole)), [f"for {text}" for text in pole])
    axis.set(
        xlim=(-0.6, 1.6),
        ylim=(0, 1.08 * POLE_STEPS),
        title="CartPole, 50 steps",
        xlabel="trained",
        ylabel="CVaR at 1/4, held-out episodes",
    )
    figure.savefig(path, metadata={"Date": None})


def _pyplot() -> Any:
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none", "font.size": 9})
    return require("matplotlib.pyplot", "lab")


def main(argv: list[str] | None = None) -> None:
    """Write ``distributional_laws`` and ``distributional_agent`` as .json and .svg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    options = parser.parse_args(argv)
    small = options.small
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    laws = [laws_of(*problem) for problem in PROBLEMS]
    draw_laws(laws, options.out / "distributional_laws.svg")
    trained = {
        name: [
            train(name, seed, 1 if small else steps, 2 if small else PLAYED) for seed in range(1 if small else seeds)
        ]
        for name, (steps, seeds) in RUNS.items()
    }
    few = (1, 5, 2) if small else (POLE_RUN, HELD_OUT, PLAYED)
    pole = {text: train_pole(text, *few) for text in ("cvar:0.25", "mean")}
    draw_training(trained, pole, options.out / "distributional_agent.svg")
    numbers = {"laws": [[*p, x] for p, x in zip(PROBLEMS, laws, strict=True)], "agent": {**trained, "CartPole": pole}}
    for key, x in numbers.items():
        (options.out / f"distributional_{key}.json").write_text(json.dumps(x, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
