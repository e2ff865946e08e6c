"""Figures of the robust pages: `python docs/make_robust_figures.py [--episodes 500] [--replicas 10] [--out FOLDER]`.

DR-RPO and its peers in the simulated linear MDP (return after a collapse, suboptimality by episodes) and on the American put
(return by the chance of a rise); robust values and what ignorance of nature costs by radius. Writes pictures and numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytheory import models
from polytheory.access import Key, KnownModel, Online, Requests
from polytheory.errors import require
from polytheory.models.robust_problems import american_put, put_features, put_prices, simulated_linear
from polytheory.policies import TabularPolicy
from polytheory.reference.exploration.regret import value
from polytheory.reference.robust.dr_rpo import RobustLsvi, plan, worst_value
from polytheory.reference.robust.robust_dp import RobustValueIteration, robust_evaluate
from polytheory.run import run
from polytheory.scaled.exploration.optimistic_actor_critic import LsviUcb
from polytheory.scaled.robust.dr_rpo import DrRpo
from polytheory.streams import row_ids

COLOURS = ("#5b5b5b", "#b08d00", "#0072b2", "#c04a00", "#2e8b57")
COLLAPSES = [round(0.1 * i, 1) for i in range(11)]
RISES = [round(0.2 + 0.1 * i, 1) for i in range(9)]
PUT_RADII = (0.0, 0.05, 0.2)
RADII = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)


def learners() -> dict[str, Any]:
    """Learners of the simulated linear MDP; nature may change what follows the paying state, at the first stage."""
    model, radius = simulated_linear(), np.zeros((3, 4))
    radius[0, 3] = 0.5
    price = np.where(radius > 0, 1.0, np.inf)
    shared = {"phi": model.phi, "fail_state": 3, "bonus_scale": 0.5}
    return {
        "LSVI-UCB (not robust)": LsviUcb(phi=model.phi, bonus_scale=3.0),  # with 1 it never tries the larger pulls
        "DR-RPO, TV 0 (not robust), eta 0.05": DrRpo(**shared, radius=0.0, eta=0.05),
        "DR-RPO, TV 0.5, eta 0.05": DrRpo(**shared, radius=radius, eta=0.05),
        "robust LSVI, TV 0.5 (eta 0)": DrRpo(**shared, radius=radius, eta=0.0),
        "DR-RPO, penalised TV 1, eta 0.05": DrRpo(**shared, kind="penalised-tv", radius=price, eta=0.05),
    }


def simulated(episodes: int, replicas: int) -> dict[str, Any]:
    """Returns after a collapse, and mean suboptimality by episodes for each learner's own problem."""
    model, marks = simulated_linear(), np.unique(np.geomspace(10, episodes, 12).astype(int))
    returns, losses = {}, {}
    for name, learner in learners().items():
        access = Online(model.to_tabular(), known_rewards=True).replicate(replicas)
        own = {"kind": "tv", "radius": 0.0, "eta": 0.0}
        if isinstance(learner, DrRpo):
            own = {"kind": learner.kind, "radius": learner.radius, "eta": learner.eta}
        best = float(model.mu @ plan(model, **own).v[0])
        state, lost = learner.init(access, 0), []
        for _ in range(episodes):
            tables = learner.policy(state).table().numpy()
            lost.append(np.mean([best - float(model.mu @ worst_value(model, pi, **own).v[0]) for pi in tables]))
            state, _ = learner.step(state, access)
        tables = learner.policy(state).table().numpy()
        worlds = [simulated_linear(collapse=q).to_tabular() for q in COLLAPSES]
        returns[name] = [float(np.mean([value(world, pi) for pi in tables])) for world in worlds]
        losses[name] = [float(np.mean(lost[:k])) for k in marks]
        if not any(lost):
            del losses[name]  # optimal from the first episode on: nothing to draw on a logarithmic axis
        print(name, [round(x, 3) for x in returns[name]], f"{np.mean(lost):.4f}", flush=True)
    return {"collapse": COLLAPSES, "returns": returns, "episodes": marks.tolist(), "suboptimality": losses}


def put(replicas: int, episodes: int = 100) -> dict[str, Any]:
    """Returns of exercise rules that robust LSVI learns from episodes without exercise, when the chance of a rise changes."""
    model, phi = american_put(), put_features(put_prices())
    world = Online(model, known_rewards=True)
    hold = TabularPolicy(np.tile([1.0, 0.0], (20, model.S, 1)))
    worlds, returns = [american_put(up=p) for p in RISES], {}
    optimal = [float(plan_of(w)) for w in worlds]
    for radius in PUT_RADII:
        rows = []
        for replica in range(replicas):
            data = world.rollouts(hold, Requests(row_ids(replica, np.arange(episodes)), 20), Key(0, "put/data", 0))
            learner = RobustLsvi(phi=phi, radius=radius, offline=data, pessimistic=True, fail_state=model.S - 1)
            policy = learner.policy(learner.init(world, 0)).table()
            rows.append([value(w, policy) for w in worlds])
        name = f"robust LSVI, TV {radius:g}" if radius else "LSVI (not robust)"
        returns[name] = np.mean(rows, axis=0).tolist()
        print(name, [round(x, 3) for x in returns[name]], flush=True)
    return {"rise": RISES, "returns": returns, "optimal": optimal}


def plan_of(model: Any) -> float:
    """The largest return of a tabular model."""
    from polytheory.reference.exploration.regret import stage_q_values

    return float(model.mu @ stage_q_values(model)[0].max(-1))


def by_radius() -> dict[str, Any]:
    """River swim: the robust value of the start by radius, and the worst-case value of the policy planned nominally."""
    model = models.make("riverswim", horizon=None, gamma=0.95)
    careless = run(RobustValueIteration("tv:0", tol=1e-6), KnownModel(model), progress=False).policy
    best, ignorant = {}, {}
    for name in ("tv", "kl", "chi2"):
        texts = [f"{name}:{x}" for x in RADII]
        best[name] = [
            float(run(RobustValueIteration(t, tol=1e-6), KnownModel(model), progress=False).state.v @ model.mu)
            for t in texts
        ]
        ignorant[name] = [float(robust_evaluate(model, careless, t).v @ model.mu) for t in texts]
        print(name, [round(x, 4) for x in best[name]], [round(x, 4) for x in ignorant[name]], flush=True)
    return {"radius": list(RADII), "robust": best, "nominal policy": ignorant}


def lines(path: Path, x: Any, rows: dict[str, Any], labels: tuple[str, str], *, dashed: dict[str, Any] | None = None,
          scales: tuple[str, str] = ("linear", "linear"), order: Any = None) -> None:  # fmt: skip
    """One picture: a line for each row, dashed ones in grey or in the colour of the row of the same name; colours go by
    ``order`` (None: the rows), and a logarithmic axis shows positive numbers only."""
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none"})
    plt = require("matplotlib.pyplot", "lab")
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    colours = dict(zip(order or rows, COLOURS, strict=False))

    def shown(y: Any) -> np.ndarray:
        return np.where(np.array(y) > 0, y, np.nan) if scales[1] == "log" else np.array(y)

    for name, y in rows.items():
        axes.plot(x, shown(y), marker="o", ms=3.5, color=colours[name], label=name)
    for name, y in (dashed or {}).items():
        axes.plot(x, shown(y), ls="--", color=colours.get(name.split(",")[0], "#999999"), label=name)
    axes.set(xlabel=labels[0], ylabel=labels[1], xscale=scales[0], yscale=scales[1])
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw(numbers: dict[str, Any], out: Path) -> None:
    """The four pictures."""
    linear, option, radii = (numbers[name] for name in ("simulated linear MDP", "american put", "river swim"))
    lines(out / "dr_rpo_collapse.svg", linear["collapse"], linear["returns"],
          ("probability q of a collapse in the test environment", "average return"))  # fmt: skip
    lines(out / "dr_rpo_suboptimality.svg", linear["episodes"], linear["suboptimality"],
          ("episodes K", "average suboptimality, own problem"), scales=("log", "log"),
          order=linear["returns"])  # fmt: skip
    lines(out / "dr_rpo_put.svg", option["rise"], option["returns"],
          ("chance of a rise in the test environment (0.5 in training)", "average return"),
          dashed={"best for that chance": option["optimal"]}, scales=("linear", "log"))  # fmt: skip
    lines(out / "robust_dp_radius.svg", radii["radius"], radii["robust"], ("radius", "value of the start (river swim)"),
          dashed={f"{k}, nominal policy at its worst": v for k, v in radii["nominal policy"].items()},
          scales=("linear", "log"))  # fmt: skip


def main() -> None:
    """Everything, then ``robust.json`` and four pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    linear, option, radii = simulated(options.episodes, options.replicas), put(options.replicas), by_radius()
    numbers = {
        "replicas": options.replicas,
        "simulated linear MDP": linear,
        "american put": option,
        "river swim": radii,
    }
    (out / "robust.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    draw(numbers, out)


if __name__ == "__main__":
    main()
