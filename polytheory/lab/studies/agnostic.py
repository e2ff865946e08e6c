"""Numbers of agnostic policy learning that are not those of one run a cell: equal budgets, populations, whole classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polytheory.access import GenerativeModel, Online
from polytheory.access.defaults import default_access
from polytheory.models import make
from polytheory.models.layered import layers_of, tables_of
from polytheory.policy_classes import PolicyClass, everything, make_class, random_policies, tons
from polytheory.reference.exploration.agnostic_policy_learning import (
    class_gains,
    class_values,
    mixed,
    population_psdp,
    q_values,
    reset_occupancy,
    tree_returns,
)

Rows = list[dict[str, Any]]


def selection(trees: Sequence[int] = (50, 200, 800), replicas: int = 400) -> Rows:
    """Whether the best 1-ton is missed (0 or 1), at equal transitions: trees against importance weights."""
    from polytheory.run import run
    from polytheory.scaled.exploration.agnostic_policy_learning import ImportanceSampling, TrajectoryTree

    model = make("layered-two-state")
    P, r, start = tables_of(model)
    policies = tons(3, 2, 2)
    best = int(class_values(P, r, start, policies.actions).argmax())
    rows: Rows = []
    for batch in trees:
        learner, access = TrajectoryTree(policies, batch=batch), GenerativeModel(model).replicate(replicas)
        seen = run(learner, access, steps=1, progress=False)
        budget = seen.meter.total("transitions") / replicas
        weights, online = ImportanceSampling(policies, batch=round(budget / 3)), Online(model).replicate(replicas)
        other = run(weights, online, steps=1, seed=1, progress=False)
        for name, found in (("trees", seen), ("importance weights", other)):
            missed = found.state.totals.argmax(1).numpy() != best
            rows += [{"algorithm": name, "budget": budget, "seed": i, "missed": float(x)} for i, x in enumerate(missed)]
    return rows


def cost(horizons: Sequence[int] = (1, 2, 3, 4, 5, 6, 7)) -> Rows:
    """Transitions of one tree where nothing merges (action a of state i leads to state 2 i + a), by horizon, and the spanning
    capacity of each class: the most state-action pairs of one layer that its members reach, which no deterministic model
    raises."""
    rows: Rows = []
    for H in horizons:
        sizes = (H, 2 ** (H - 1), 2)
        classes = {"1-tons": tons(*sizes), "open-loop": make_class("open-loop", sizes)}
        if H <= 5:  # 10^4 members and more beyond
            classes["2-tons"] = tons(*sizes, most=2)
        for name, policies in classes.items():
            rows.append(
                {
                    "algorithm": name,
                    "env.H": H,
                    "transitions of a tree": _calls(policies),
                    "capacity": _reached(policies),
                }
            )
    return rows


def _calls(policies: PolicyClass) -> float:
    n = policies.n
    _, calls = tree_returns(
        lambda h, tree, s, a: (0.0 * s, (2 * s + a) % (n + 1)), np.zeros(1, dtype=np.int64), policies.actions, 2
    )
    return float(calls.sum())


def _reached(policies: PolicyClass) -> float:
    """Largest number of state-action pairs of one layer that some member walks through, by walking all of them."""
    at, most = np.zeros(len(policies), dtype=np.int64), 0
    for h in range(policies.H):
        a = policies.actions[np.arange(len(policies)), h, at]
        most = max(most, len(np.unique(2 * at + a)))
        at = 2 * at + a
    return float(most)


def amplification(horizons: Sequence[int] = (2, 3, 4, 5, 6, 7, 8), slip: float = 0.005) -> Rows:
    """Loss of PSDP and of CPI after one slip in the last layer: of a class that is not complete, of one that is, and the bound
    ``H C eps`` for complete classes. CPI starts from the uniform policy, and once more from what PSDP has found."""
    rows: Rows = []
    for H in horizons:
        model = make("error-amplification", horizon=H, last=2 * slip)
        P, r, start = tables_of(model)
        mu, errors = np.full((H, 2), 0.5), np.zeros_like(r)
        # just enough to turn the decision in B, where it costs 2 slip: slip on average
        errors[-1, 0, 1] = 2 * slip + 1e-5
        found = {}
        for name, policies in (("not complete", make_class("open-loop", (H, 2, 2))), ("complete", everything(H, 2, 2))):
            taken, _ = population_psdp(P, r, mu, policies.actions, errors)
            found[f"PSDP, {name}"] = np.eye(2)[taken]
            found[f"CPI, {name}"] = _cpi(P, r, mu, policies, errors, np.full((H, 2, 2), 0.5))
            if name == "not complete":
                found["CPI from PSDP's answer, not complete"] = _cpi(P, r, mu, policies, errors, np.eye(2)[taken])
        for name, probs in found.items():
            value = float(start @ (probs[0] * q_values(P, r, probs)[0]).sum(axis=1))
            rows.append(
                {"algorithm": name, "env.H": H, "loss": 1.0 - value}
            )  # both classes hold an optimal policy, worth 1
        rows.append({"algorithm": "H C eps", "env.H": H, "loss": H * 2 * slip})
    return rows


def _cpi(P: Any, r: Any, mu: Any, policies: PolicyClass, errors: Any, probs: Any, tol: float = 1e-4) -> Any:
    """CPI with exact expectations plus ``errors`` on every cell, until no member is estimated to gain more than ``tol``.

    Steps of 0.1: those of the guarantee end in the same place, after thousands of them."""
    while True:
        cells = reset_occupancy(P, mu, probs)[..., None] * q_values(P, r, probs) + errors
        gains = class_gains(cells, probs, policies.actions)
        if gains.max() <= tol:
            return probs
        probs = mixed(probs, np.eye(r.shape[2])[policies.actions[gains.argmax()]], 0.1)


def online(horizons: Sequence[int] = (3, 5, 7, 9, 11), batch: int = 800, replicas: int = 6) -> Rows:
    """Largest error of a value over the 2-tons, POPLER against importance weights at equal episodes, by horizon."""
    from polytheory.run import run
    from polytheory.scaled.exploration.agnostic_policy_learning import ImportanceSampling, Popler

    rows: Rows = []
    for H in horizons:
        model = make("layered-two-state", horizon=H)
        P, r, start = tables_of(model)
        policies = tons(H, 2, 2, most=2)
        truth = class_values(P, r, start, policies.actions)
        learner = Popler(policies, batch=batch)
        end = run(learner, Online(model).replicate(replicas), steps=2 * H, progress=False)
        episodes = end.meter.total("episodes") // replicas
        weights = ImportanceSampling(policies, batch=episodes)
        other = run(weights, Online(model).replicate(replicas), steps=1, progress=False)
        found = {
            "POPLER": learner.values(end.state).numpy(),
            "importance weights": other.state.totals.numpy() / episodes,
        }
        for name, values in found.items():
            worst = np.abs(values - truth).max(axis=1)
            rows += [{"algorithm": name, "env.H": H, "seed": i, "error": float(x)} for i, x in enumerate(worst)]
    return rows


def emulator(
    transitions: Sequence[int] = (25, 100, 400, 1600), tolerances: Sequence[float] = (0.15, 1.0), replicas: int = 10
) -> Rows:
    """Mean square error of PLHR's emulator by transitions, with a tolerance that works and one that merges blocks."""
    from polytheory.run import run
    from polytheory.scaled.exploration.agnostic_policy_learning import Plhr

    model = make("block-two-state")
    P, r, start = tables_of(model)
    policies = random_policies(*layers_of(model))
    truth = class_values(P, r, start, policies.actions)
    rows: Rows = []
    for m in transitions:
        for tolerance in tolerances:
            learner = Plhr(policies, rollouts=100, tolerance=tolerance, transitions=m, draws=m)
            end = run(learner, default_access("HybridResets", model).replicate(replicas), steps=2 * 3, progress=False)
            error = ((learner.values(end.state).numpy() - truth) ** 2).mean(axis=1)
            rows += [
                {"algorithm": "Plhr", "algo.tolerance": tolerance, "budget": m, "seed": i, "square error": float(x)}
                for i, x in enumerate(error)
            ]
    return rows
