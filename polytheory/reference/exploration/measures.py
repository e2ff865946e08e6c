"""All complexity measures of a policy class on a layered model, for a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.models.layered import layers_of, tables_of
from polytheory.models.tabular import TabularMDP
from polytheory.policy_classes import PolicyClass
from polytheory.reference.exploration.coverage import (
    best_reset,
    class_values,
    completeness_error,
    concentrability,
    coverability,
    largest_occupancy,
    largest_occupancy_of_all,
    largest_pair_occupancy,
    occupancies,
    pushforward_concentrability,
    pushforward_coverability,
)
from polytheory.reference.exploration.spanning import spanning_bounds, spanning_capacity
from polytheory.reference.exploration.sunflower import layer_core, sunflower_number


class Measure(NamedTuple):
    """One number: what it is called, its value (None where it is too large to compute), and what it means."""

    name: str
    value: Any
    meaning: str


def measures(
    model: TabularMDP, policies: PolicyClass, *, mu: Float[np.ndarray, "H n"] | None = None
) -> tuple[Measure, ...]:
    """Values, coverage coefficients, spanning capacity, sunflower number and completeness error, all exact.

    Args:
        model: a layered model. policies: a class of its sizes.
        mu: reset law by layer of the concentrability coefficients; default uniform.

    Raises `SettingError` for a model that is not layered, `PolicyError` for a class of other sizes.
    """
    H, n, A = layers_of(model)
    P, r, start = tables_of(model)
    actions = policies.fits((H, n, A)).actions
    mu = np.full((H, n), 1.0 / n) if mu is None else mu
    v, d = class_values(P, r, start, actions), occupancies(P, start, actions)
    states, pairs = largest_occupancy(d), largest_pair_occupancy(d, actions, A)
    spanning, bracket = _spanning(policies)
    return (
        Measure("policies", len(policies), "size of the class"),
        Measure("best value", float(v.max()), "largest expected return in the class"),
        Measure("best policy", int(v.argmax()), "the member that has it"),
        Measure("optimal value", _optimum(P, r, start), "largest expected return of any policy"),
        Measure("spanning capacity", spanning, "most pairs of one layer that the class tells apart, over deterministic MDPs"),
        Measure("spanning capacity, bracket", bracket, "random deterministic MDPs, and min(A^h, policies, n A)"),
        Measure("sunflower number", _sunflower(policies), f"least D with the core of {H * (A - 1) + 1} layer policies"),
        Measure("coverability", coverability(states), "max_h sum_x max_pi d_h(x)"),
        Measure("coverability of pairs", coverability(pairs), "max_h sum_(x,a) max_pi d_h(x, a), at most spanning capacity"),
        Measure("coverability, all policies", coverability(largest_occupancy_of_all(P, start)), "the same for every policy"),
        Measure("concentrability", concentrability(states, mu), "max d_h(x) / mu_h(x)"),
        Measure("concentrability of pairs", concentrability(pairs, np.repeat(mu[..., None] / A, A, axis=2)),
                "max d_h(x, a) / (mu_h(x) / A)"),
        Measure("least concentrability", concentrability(states, best_reset(states)), "of the best reset law: coverability"),
        Measure("pushforward concentrability", pushforward_concentrability(P, start, mu), "max P(x' | x, a) / mu(x')"),
        Measure("pushforward coverability", pushforward_coverability(P), "max_h sum_x' max P(x' | x, a)"),
        Measure("completeness error", float(completeness_error(P, r, actions).max()),
                "worst loss of a greedy improvement that the class lacks"),
    )  # fmt: skip


def _spanning(policies: PolicyClass) -> tuple[int | None, str]:
    bounds = spanning_bounds(policies.actions, policies.A)
    bracket = f"{max(low for low, _ in bounds)} to {max(high for _, high in bounds)}"
    try:
        return spanning_capacity(policies.actions, policies.A).value, bracket
    except SettingError:  # too many assignments: the bracket has to do
        return None, bracket


def _sunflower(policies: PolicyClass) -> int | None:
    try:
        return sunflower_number(policies.actions, layer_core(policies.H, policies.n, policies.A))
    except SettingError:
        return None


def _optimum(P: np.ndarray, r: np.ndarray, start: np.ndarray) -> float:
    v = np.zeros(len(start))
    for h in reversed(range(len(P))):
        v = (r[h] + P[h] @ v).max(axis=1)
    return float(start @ v)
