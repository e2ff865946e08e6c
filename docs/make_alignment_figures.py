"""Figures of the alignment page: `python docs/make_alignment_figures.py [--small] [--out FOLDER]`.

1. The error of the hypergradient after K steps of the lower level, by route (exact, worked instance).
2. The worked bandit from sampled labels: true return against labels for the full hypergradient, without the distribution term,
   and offline labels of the reference policy.
3. Networks on a grid with a scripted teacher: true return against labels, with and without the distribution term.

Writes `parl_inexact.svg`, `parl_bandit.svg`, `parl_grid.svg` and their numbers, `parl.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from polytheory import models
from polytheory.access import KnownModel, Online
from polytheory.errors import require
from polytheory.models import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.alignment.instances import two_prompts
from polytheory.reference.alignment.language import pair_covariance, pair_direct, tilted_law
from polytheory.reference.alignment.parl import Parl
from polytheory.reference.alignment.upper import label_likelihood
from polytheory.reference.planning.planning import return_of
from polytheory.scaled.alignment.deep import CoordinateNetwork, DeepParl, StateNetwork

COLOURS = {"full": "#0072b2", "no response": "#c04a00", "offline": "#009e73"}
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


def grid_run(term: str, steps: int, seed: int) -> tuple[list[float], list[int]]:
    """True return of the policy network before every upper step, and the labels used."""
    grid = models.make("gridworld", rows=4, columns=4, gamma=0.9, terminal_goal=False)
    model = TabularMDP(grid.P, grid.r, np.full(grid.S, 1 / grid.S), gamma=grid.gamma, name="grid, started anywhere")
    access = Online(model).replicate(1)
    cells = np.array([divmod(s, 4) for s in range(model.S)]) / 1.5 - 1
    policy, reward = (StateNetwork(CoordinateNetwork(cells, model.A, seed=2 * seed + i), model.S) for i in (0, 1))
    learner = DeepParl(policy, reward, term=term, tau=0.2, truncation=10, lower_rate=0.02, alpha=0.01)
    state, values, labels = learner.init(access, seed), [], []
    while state.t < steps:
        if state.k == learner.lower_steps:
            table = policy.with_theta(state.theta).table()[0].numpy()
            values.append(return_of(model, TabularPolicy(table)))
            labels.append(state.labels)
        state, _ = learner.step(state, access)
    return values, labels


def draw(path: Path, lines: dict[str, tuple[list, np.ndarray]], *, each: bool = False, **options: str) -> None:
    """Means over runs [runs, points] with bands of two standard errors; ``each``: every run, and the median."""
    matplotlib = require("matplotlib", "lab")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "polytheory", "svg.fonttype": "none"})
    plt = require("matplotlib.pyplot", "lab")
    figure, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    for i, (name, (x, y)) in enumerate(lines.items()):
        colour = COLOURS.get(name, f"C{i}")
        mean = np.median(y, axis=0) if each else y.mean(axis=0)
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
    parser.add_argument("--small", action="store_true", help="a few steps of everything, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    small = options.small
    numbers: dict[str, dict[str, list[float]]] = {}

    steps = [1, 5, 10] if small else [1, 2, 5, 10, 20, 50, 100, 200]
    routes = {"implicit": "Hessian where the policy is", "fisher": "Fisher matrix there", "identity": "identity"}
    errors = {label: (steps, np.array([inexact(route, steps)])) for route, label in routes.items()}
    draw(options.out / "parl_inexact.svg", errors, xlabel="gradient steps of the lower level", xscale="log",
         ylabel="error of the hypergradient", yscale="log")  # fmt: skip
    numbers["inexact"] = {name: y[0].tolist() for name, (_, y) in errors.items()}

    count, seeds = (5, 2) if small else (500, 20)
    labels = [2 * GROUPS * SIZE * (SIZE - 1) // 2 * t for t in range(count)]
    runs = {kind: (labels, np.array([bandit_run(kind, count, s) for s in range(seeds)])) for kind in COLOURS}
    thinned = {kind: (x[::10], y[:, ::10]) for kind, (x, y) in runs.items()}
    draw(
        options.out / "parl_bandit.svg",
        thinned,
        xlabel="labels",
        ylabel="true return of the best policy for the reward",
    )
    numbers["bandit"] = {name: [float(y[:, -1].mean()), _error(y[:, -1])] for name, (_, y) in runs.items()}

    count, seeds = (2, 1) if small else (40, 8)
    runs = {}
    for name, term in (("full", "implicit"), ("no response", "none")):
        found = [grid_run(term, count, s) for s in range(seeds)]
        runs[name] = (found[0][1], np.array([values for values, _ in found]))
        print(name, runs[name][1][:, -1], flush=True)
    draw(options.out / "parl_grid.svg", runs, each=True, xlabel="labels", ylabel="true return of the policy network")
    numbers["grid"] = {name: np.round(y[:, -1], 4).tolist() for name, (_, y) in runs.items()}
    numbers["grid median"] = {name: np.round(np.median(y, axis=0), 4).tolist() for name, (_, y) in runs.items()}
    (options.out / "parl.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


_error: Callable[[np.ndarray], float] = lambda y: float(y.std(ddof=1) / len(y) ** 0.5) if len(y) > 1 else 0.0  # noqa: E731


if __name__ == "__main__":
    main()
