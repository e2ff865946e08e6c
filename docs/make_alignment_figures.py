"""Figures of the alignment page: `python docs/make_alignment_figures.py [--quick] [--jobs 2] [--out FOLDER]`.

1. The error of the hypergradient after K steps of the lower level, by route (exact, worked instance).
2. The worked bandit from sampled labels: true return against labels for the full hypergradient, without the distribution term,
   and offline labels of the reference policy.
3. A model with two sides of which the reward sees only one picture: where the term pays and where it costs, exactly against the
   entropy weight, and with networks from labels.
4. Networks on a grid, where the exact answer is that the term makes no difference: with the Fisher matrix, with the sampled
   Hessian, without the term.

Writes `parl_inexact.svg`, `parl_bandit.svg`, `parl_sides.svg`, `parl_grid.svg`, and numbers to `parl.json`. The runs with
networks are kept in `parl_networks.json`, each as soon as it is done; what is there is not run again unless `--fresh` is given.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytheory import models
from polytheory.access import KnownModel, Online
from polytheory.errors import require
from polytheory.lab.estimates import compare, interquartile_mean
from polytheory.lab.pool import complete
from polytheory.models import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.alignment.instances import SIDES, Case, two_prompts, two_sides
from polytheory.reference.alignment.language import pair_covariance, pair_direct, tilted_law
from polytheory.reference.alignment.parl import Parl
from polytheory.reference.alignment.upper import label_likelihood, preference_upper
from polytheory.reference.planning.planning import return_of
from polytheory.reward_design import paths_of
from polytheory.scaled.alignment.deep import CoordinateNetwork, DeepParl, DeepState, StateNetwork
from polytheory.trajectories import Trajectories

COLOURS = {"full": "#0072b2", "no response": "#c04a00", "offline": "#009e73", "sampled Hessian": "#cc79a7",
           "best reward of the class": "#000000"}  # fmt: skip
KINDS = ("full", "no response", "offline")
EXACT = np.array([-0.8697429992210, 0.9818468324152])  # the worked hypergradient
GROUPS, SIZE = 4, 4  # groups a prompt and completions a group: 6 labelled pairs each


def inexact(route: str, steps: list[int]) -> list[float]:
    """Error of the hypergradient after K gradient steps below."""
    errors = []
    for K in steps:
        made = Parl("three-state", nu0=[0.6, -0.4], route=route, lower="gradient", lower_steps=K)
        access = KnownModel(models.make("three-state"))
        state = made.init(access)
        while not state.t:
            state, _ = made.step(state, access)
        errors.append(float(np.linalg.norm(state.gradient - EXACT)))
    return errors


def bandit_run(kind: str, steps: int, seed: int, rate: float = 0.5) -> list[float]:
    """True return of the best policy for the reward, after every step of 48 labels."""
    bandit, rng = two_prompts(), np.random.default_rng(seed)
    nu, out = np.zeros(2), []
    for _ in range(steps):
        law = tilted_law(np.log(bandit.pi_ref), bandit.features @ nu, bandit.beta)
        out.append(float(np.einsum("x,xk,xk->", bandit.rho, law, bandit.r)))
        slope = np.zeros(2)
        for x, weight in enumerate(bandit.rho):
            chosen = rng.choice(3, size=(GROUPS, SIZE), p=bandit.pi_ref[x] if kind == "offline" else law[x])
            pairs = (x, chosen[:, :, None], chosen[:, None, :])
            upper = np.triu(rng.uniform(size=(GROUPS, SIZE, SIZE)) < bandit.labels[pairs], 1).astype(float)
            y = upper + np.tril(1 - np.swapaxes(upper, 1, 2), -1)  # one label a pair, read from both sides
            g, R = bandit.features[x][chosen], (bandit.features @ nu)[x][chosen]
            slope += weight * pair_direct(y, R, g).mean(axis=0)
            if kind == "full":
                ell = label_likelihood(y, R[:, :, None] - R[:, None, :]) + np.log(2)
                slope += weight * pair_covariance(ell, g, bandit.beta).mean(axis=0)
        nu = nu + rate * slope
    return out


# ---- networks ------------------------------------------------------------------------------------------------------

GRID_TERMS = {"full": "fisher", "sampled Hessian": "implicit", "no response": "none"}
AT = (0.4, 1.2)  # entropy weights of the runs with two sides
SIDES_SETTINGS: dict[str, Any] = {
    "truncation": 3, "alpha": 0.04, "lower_rate": 0.04, "lower_steps": 5, "upper_batch": 32, "ridge": 0.01,
}  # fmt: skip
GRID_SETTINGS: dict[str, Any] = {"tau": 0.2, "truncation": 10, "alpha": 0.01, "lower_rate": 0.02}


class Picture(torch.nn.Module):
    """Rewards [n, A] of six numbers: for each stage and action, whatever the side."""

    def __init__(self) -> None:
        super().__init__()
        self.values = torch.nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.values[torch.tensor(SIDES)[states]]


class Offline(DeepParl):
    """The same with segments of the uniform policy: labels that were collected before there was anything to look at."""

    def sample(self, state: DeepState, access: Any, use: str, batch: int) -> Trajectories:
        """All weights 0 make a uniform policy."""
        return super().sample(replace(state, theta=0 * state.theta) if use == "upper" else state, access, use, batch)


def grid() -> TabularMDP:
    """Every step off the goal costs 1; started anywhere."""
    made = models.make("gridworld", rows=4, columns=4, gamma=0.9, terminal_goal=False)
    return TabularMDP(made.P, made.r, np.full(made.S, 1 / made.S), gamma=made.gamma, name="grid, started anywhere")


def grid_run(kind: str, steps: int, seed: int) -> dict[str, Any]:
    """True return of the policy network before every upper step, labels used, and the largest hypergradient."""
    model = grid()
    cells = np.array([divmod(s, 4) for s in range(model.S)]) / 1.5 - 1
    policy, reward = (StateNetwork(CoordinateNetwork(cells, model.A, seed=2 * seed + i), model.S) for i in (0, 1))
    return network_run(DeepParl(policy, reward, term=GRID_TERMS[kind], **GRID_SETTINGS), model, steps, seed)


def sides_run(kind: str, tau: float, steps: int, seed: int) -> dict[str, Any]:
    """The same on the model with two sides; the policy sees the side."""
    model = two_sides().model
    places = np.array([[-1, 0], [0, -1], [1, -1], [0, 1], [1, 1], [0, 0]], dtype=float)
    policy = StateNetwork(CoordinateNetwork(places, model.A, seed=seed), model.S)
    made = Offline if kind == "offline" else DeepParl
    term = "fisher" if kind == "full" else "none"
    return network_run(
        made(policy, StateNetwork(Picture(), model.S), term=term, tau=tau, **SIDES_SETTINGS), model, steps, seed
    )


def network_run(learner: DeepParl, model: TabularMDP, steps: int, seed: int) -> dict[str, Any]:
    """See `grid_run`."""
    access = Online(model).replicate(1)
    state, values, labels, largest = learner.init(access, seed), [], [], 0.0
    while True:
        if state.k == learner.lower_steps:
            probs: Any = learner.policy.with_theta(state.theta)
            values.append(round(return_of(model, TabularPolicy(probs.table()[0].numpy())), 4))
            labels.append(state.labels)
            if state.t == steps:
                return {"return": values, "labels": labels, "largest": round(largest, 2)}
        state, _ = learner.step(state, access)
        largest = max(largest, float(torch.linalg.vector_norm(state.gradient)))


def network(task: str, *job: Any) -> dict[str, Any]:
    """A run by the name of its task."""
    return grid_run(*job) if task == "grid" else sides_run(*job)


def ascend(case: Case, kind: str, *, segment: int, steps: int, alpha: float, ridge: float = 0.01) -> float:
    """True return of the best policy for the reward where exact ascent from 0 ends."""
    model, features = case.model, case.features
    upper = "utility" if kind == "best reward of the class" else "preference"
    options = {"features": features, "tau": case.tau, "alpha": alpha, "ridge": ridge, "segment": segment}
    access, nu = KnownModel(model), case.nu
    if kind == "offline":
        found, uniform = paths_of(model, segment), np.full((model.S, model.A), -np.log(model.A))
        where = (found.states, found.actions, found.mask, found.dynamics)
        for _ in range(steps):
            fit = preference_upper(*where, uniform, case.world.r, features, nu, gamma=model.gamma, scale=1.0)
            nu = nu + alpha * (fit.direct - 2 * ridge * nu)
        steps = 0
    design = Parl(upper=upper, route="none" if kind == "no response" else "closed", nu0=nu, **options)
    state = design.init(access)
    while state.t < steps or not design.solved(state):
        state, _ = design.step(state, access)
    return return_of(model, design.policy(state))


def draw_sides(exact: dict[str, list[float]], taus: list[float], runs: dict[str, Any], path: Path) -> dict[str, Any]:
    """Left: exact ends against tau, and where the networks ended. Right: the networks on their way. Returns the ends."""
    plt = pyplot()
    figure, panels = plt.subplots(1, 3, figsize=(10.4, 3.4), layout="constrained")
    for kind, values in exact.items():
        panels[0].plot(taus, values, color=COLOURS[kind], label=kind, linestyle=":" if kind not in KINDS else None)
    ends: dict[str, Any] = {}
    for axes, tau in zip(panels[1:], AT, strict=True):
        last = {}
        for kind in KINDS:
            own = [runs[key] for key in runs if key.startswith(f"sides {tau}/{kind}/")]
            y, x = np.array([run["return"] for run in own]), own[0]["labels"]
            axes.plot(x, y.T, color=COLOURS[kind], alpha=0.3, linewidth=0.6)
            axes.plot(x, interquartile_mean(y.T), color=COLOURS[kind], label=kind)
            last[kind] = y[:, -1]
            panels[0].plot(tau, interquartile_mean(last[kind]), "o", color=COLOURS[kind], markersize=5)
        axes.set(xlabel="labels")
        axes.set_title(f"networks, tau = {tau}", fontsize=9)
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ends[f"sides, tau = {tau}"] = ends_of(last)
    panels[0].set(xlabel="entropy weight tau", ylabel="true return")
    panels[0].set_title("exact ascent from 0; dots: networks", fontsize=9)
    panels[0].legend(fontsize=7, loc="center right", bbox_to_anchor=(1.0, 0.66))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return ends


def ends_of(last: dict[str, np.ndarray]) -> dict[str, Any]:
    """Interquartile means of the last returns, and how far the first kind is ahead of each other one, with 95 % intervals."""
    found: dict[str, Any] = {kind: round(float(interquartile_mean(y)), 4) for kind, y in last.items()}
    first, *others = last
    for kind in others if len(last[first]) >= 5 else ():
        ahead = compare(last[first][:, None], last[kind][:, None]).difference
        found[f"{first} less {kind}"] = [round(x, 4) for x in (ahead.value, ahead.low, ahead.high)]
    return found


def pyplot() -> Any:
    """matplotlib, for files that are the same each time."""
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none"})
    return require("matplotlib.pyplot", "lab")


def draw(path: Path, lines: dict[str, tuple[list, np.ndarray]], *, each: bool = False, **options: str) -> None:
    """Means over runs [runs, points] with bands of two standard errors; ``each``: every run, and the interquartile mean."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    for i, (name, (x, y)) in enumerate(lines.items()):
        colour = COLOURS.get(name, f"C{i}")
        mean = interquartile_mean(y.T) if each else y.mean(axis=0)
        axes.plot(x, mean, color=colour, label=name, marker="o" if len(x) < 12 else None)
        if each:
            axes.plot(x, y.T, color=colour, alpha=0.3, linewidth=0.7)
        elif len(y) > 1:
            error = 2 * y.std(axis=0, ddof=1) / len(y) ** 0.5
            axes.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    axes.set(**options)
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Run everything, write pictures and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="run the networks again")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes for the networks")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    small = options.quick
    numbers: dict[str, Any] = {}

    steps = [1, 5, 10] if small else [1, 2, 5, 10, 20, 50, 100, 200]
    routes = {"implicit": "Hessian where the policy is", "fisher": "Fisher matrix there", "identity": "identity"}
    errors = {label: (steps, np.array([inexact(route, steps)])) for route, label in routes.items()}
    draw(options.out / "parl_inexact.svg", errors, xlabel="gradient steps of the lower level", xscale="log",
         ylabel="error of the hypergradient", yscale="log")  # fmt: skip
    numbers["inexact"] = {name: y[0].tolist() for name, (_, y) in errors.items()}

    count, seeds = (5, 2) if small else (500, 20)
    labels = [2 * GROUPS * SIZE * (SIZE - 1) // 2 * t for t in range(count)]
    runs = {kind: (labels, np.array([bandit_run(kind, count, s) for s in range(seeds)])) for kind in KINDS}
    thinned = {kind: (x[::10], y[:, ::10]) for kind, (x, y) in runs.items()}
    best = "true return of the best policy for the reward"
    draw(options.out / "parl_bandit.svg", thinned, xlabel="labels", ylabel=best)
    last = {name: y[:, -1] for name, (_, y) in runs.items()}
    numbers["bandit"] = {name: [float(y.mean()), float(y.std(ddof=1) / len(y) ** 0.5)] for name, y in last.items()}

    taus = [0.4, 1.2] if small else [round(0.3 + 0.1 * i, 1) for i in range(16)]
    long = 60 if small else 400
    lines = (*KINDS, "best reward of the class")
    exact = {kind: [round(ascend(two_sides(tau), kind, segment=3, steps=long, alpha=1.0), 4) for tau in taus]
             for kind in lines}  # fmt: skip
    numbers["sides, exact"] = {"tau": taus, **exact}
    wide = Case(grid(), np.eye(64).reshape(16, 4, 64), np.zeros(64), GRID_SETTINGS["tau"])
    sizes: dict[str, int] = {"segment": 1, "steps": 2} if small else {"segment": 3, "steps": 60}
    numbers["grid, exact"] = {kind: ascend(wide, kind, alpha=5.0, ridge=0.001, **sizes) for kind in KINDS[:2]}

    seeds, count, many = (1, 2, 2) if small else (8, 40, 80)
    jobs: dict[str, tuple] = {f"sides {tau}/{kind}/{seed}": ("sides", kind, tau, many, seed)
                              for tau in AT for kind in KINDS for seed in range(seeds)}  # fmt: skip
    jobs |= {f"grid/{kind}/{seed}": ("grid", kind, count, seed) for kind in GRID_TERMS for seed in range(seeds)}
    about = {"sides": SIDES_SETTINGS, "grid": GRID_SETTINGS}
    runs = complete(network, jobs, options.out / "parl_networks.json", about, options.jobs, fresh=options.fresh)
    numbers |= draw_sides(exact, taus, runs, options.out / "parl_sides.svg")
    own = {kind: [runs[f"grid/{kind}/{seed}"] for seed in range(seeds)] for kind in GRID_TERMS}
    paths = {kind: (x[0]["labels"], np.array([run["return"] for run in x])) for kind, x in own.items()}
    draw(options.out / "parl_grid.svg", paths, each=True, xlabel="labels", ylabel="true return of the policy network")
    numbers["grid"] = ends_of({kind: y[:, -1] for kind, (_, y) in paths.items()})
    numbers["grid, largest hypergradient"] = {kind: [run["largest"] for run in x] for kind, x in own.items()}
    (options.out / "parl.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
