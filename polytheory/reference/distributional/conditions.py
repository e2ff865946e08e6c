"""The conditions on an objective as searches for a counterexample.

Declared properties say what theory knows; these searches try to break them on random laws. Finding nothing proves nothing,
a counterexample is exact up to rounding and can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.models.laws import Law, law, mix, push, wasserstein
from polytheory.models.objectives import Objective, objective

SLACK = 1e-9  # differences of K below this, relative to 1 + its size, are rounding
SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, eq=False)
class Counterexample:
    """Laws on which an objective breaks a condition.

    Fields: ``condition`` "mixtures", "gamma" or "lipschitz"; ``laws`` ``(nu, nu')`` (mixtures: nu_1, nu'_1, nu_2, nu'_2 with
    ``K nu_i >= K nu'_i``); ``values`` K of the laws that contradict it; ``text`` one sentence.
    """

    condition: str
    laws: tuple[Law, ...]
    values: tuple[float, ...]
    text: str


def check_objective(
    given: Objective | str, *, gamma: float = 1.0, trials: int = 2000, seed: int = 0, span: float = 4.0
) -> dict[str, Counterexample | None]:
    """Search for laws on which an objective is not indifferent to mixtures, not indifferent to gamma, or not Lipschitz with the
    constant that it declares (searched only where it declares one).

    Args:
        trials: random cases of each condition; laws have 1 to 4 atoms, whole and half numbers in [-span, span].

    Returns the first counterexample of each condition, None where none was found.
    """
    judge, rng = objective(given), np.random.default_rng(seed)
    searches = {
        "mixtures": lambda: _mixtures(judge, rng, span), "gamma": lambda: _gamma(judge, rng, span, gamma),
        "lipschitz": lambda: _lipschitz(judge, rng, span),
    }  # fmt: skip
    found: dict[str, Counterexample | None] = {}
    for name, search in searches.items():
        found[name] = next((x for x in (search() for _ in range(trials)) if x is not None), None)
    return found


def random_law(rng: np.random.Generator, span: float) -> Law:
    """Between 1 and 4 atoms at halves, probabilities in eighths."""
    n = int(rng.integers(1, 5))
    cuts, halves = np.sort(rng.integers(0, 9, n - 1)), int(2 * span)
    return law(rng.integers(-halves, halves + 1, n) / 2, np.diff([0, *cuts, 8]) / 8)


def _k(judge: Objective, of: Law) -> float:
    return float(judge.value(of.atoms, of.probs))


def _below(x: float, y: float) -> bool:
    return x < y - SLACK * (1 + abs(x) + abs(y))


def _ordered(judge: Objective, rng: np.random.Generator, span: float) -> tuple[Law, Law]:
    """Two laws, the better one first; a third of the time one that is as good as a sure amount."""
    a, b = random_law(rng, span), random_law(rng, span)
    if rng.random() < 1 / 3:
        b = law([_k(judge, a)], [1.0]) if judge.degree == 1 else b
    return (a, b) if not _below(_k(judge, a), _k(judge, b)) else (b, a)


def _mixtures(judge: Objective, rng: np.random.Generator, span: float) -> Counterexample | None:
    (a, a2), (b, b2) = _ordered(judge, rng, span), _ordered(judge, rng, span)
    if _below(_k(judge, a), _k(judge, a2)) or _below(_k(judge, b), _k(judge, b2)):
        return None
    p = float(rng.choice(SHARES))
    good, bad = _k(judge, mix([p, 1 - p], [a, b])), _k(judge, mix([p, 1 - p], [a2, b2]))
    if not _below(good, bad):
        return None
    text = f"each part is at least as good, the mixture with weight {p:g} is worse: {good:.6g} < {bad:.6g}"
    return Counterexample("mixtures", (a, a2, b, b2), (good, bad), text)


def _gamma(judge: Objective, rng: np.random.Generator, span: float, gamma: float) -> Counterexample | None:
    a, b = _ordered(judge, rng, span)
    if _below(_k(judge, a), _k(judge, b)):
        return None
    good, bad = (_k(judge, push(x, 0.0, gamma)) for x in (a, b))
    if not _below(good, bad):
        return None
    text = f"the first is at least as good, but not after scaling by gamma = {gamma:g}: {good:.6g} < {bad:.6g}"
    return Counterexample("gamma", (a, b), (good, bad), text)


def _lipschitz(judge: Objective, rng: np.random.Generator, span: float) -> Counterexample | None:
    if judge.lipschitz is None:
        return None
    a, b = random_law(rng, span), random_law(rng, span)
    gap, allowed = abs(_k(judge, a) - _k(judge, b)), judge.lipschitz * float(wasserstein(a, b))
    if not _below(allowed, gap):
        return None
    return Counterexample("lipschitz", (a, b), (gap, allowed), f"K moves by {gap:.6g}, more than L W1 = {allowed:.6g}")


def conditions(
    given: Objective | str, *, gamma: float, horizon: int | None, **search: Any
) -> list[tuple[str, str, str]]:
    """A table of (condition, what is declared, what the search found), for people."""
    judge = objective(given)
    found = check_objective(judge, gamma=gamma, **search)
    scaled = gamma == 1 or judge.degree is not None
    declared = {
        "mixtures": "yes" if judge.mixtures else "no", "gamma": "yes" if scaled else "no",
        "lipschitz": "no constant" + ("" if horizon is None else " (not needed)")
        if judge.lipschitz is None else f"L = {judge.lipschitz:g}",
    }  # fmt: skip
    return [(name, declared[name], x.text if x is not None else "no counterexample") for name, x in found.items()]
