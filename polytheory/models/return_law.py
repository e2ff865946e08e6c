"""The exact law of the return of a policy, by following every outcome forward."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.errors import DiscountError, SettingError
from polytheory.models.laws import Law, law
from polytheory.models.stock import StockProblem, stock_problem
from polytheory.models.tabular import TabularMDP

LIMIT = 1_000_000  # (state, memory, return) that are kept at one stage


def return_law(
    model: TabularMDP | StockProblem, policy: Any, *, depth: int | None = None, resolution: float | None = None
) -> Law:
    """The law of the return, numbers or vectors, of a policy whose memory is a number or a vector a row (a `StockPolicy`, or
    memoryless), by following every outcome forward: nothing of the method's recursion is used.

    Args:
        depth: steps that are followed; default the horizon, or as many as leave at most ``resolution`` of the return to come.
        resolution: outcomes that agree in state and to this in return and memory are one, which moves the law by at most that
            in each step. Default: 1e-12 of the largest return with a horizon, 1e-5 of it without.

    Raises `SettingError` where more than a million outcomes would have to be kept.
    """
    problem = model if isinstance(model, StockProblem) else stock_problem(model)
    gamma, size = float(problem.gamma), max(1e-300, problem.farthest)
    step = resolution or size * (1e-5 if problem.horizon is None else 1e-12)
    s = np.flatnonzero(problem.mu > 0)
    got, p = np.zeros((len(s), *problem.reward.shape[4:])), problem.mu[s].astype(float)
    memory = policy.start(len(s))
    ended: list[tuple[Any, Any]] = []
    for h in range(_steps(problem, size, step) if depth is None else depth):
        over = problem.terminal[s]
        ended.append((got[over], p[over]))
        s, got, p = s[~over], got[~over], p[~over]
        memory = None if memory is None else memory[~over]
        if not len(s):
            break
        i = problem.stage(h)
        weight = p[:, None, None] * np.asarray(policy.probs(memory, h, s))[..., None] * problem.prob[i, s].astype(float)
        row, a, k = np.nonzero(weight > 0)
        r, s2 = problem.reward[i, s[row], a, k].astype(float), problem.next_state[i, s[row], a, k]
        if memory is not None:
            memory = policy.update(memory[row], h, s[row], a, r, s2)
        s, got, p, memory = _merge(s2, got[row] + gamma**h * r, weight[row, a, k], memory, gamma ** (h + 1), step)
        if len(s) > LIMIT:
            raise SettingError(
                f"more than {LIMIT} outcomes after {h + 1} steps; take a larger resolution than {step:.1g}"
            )
    x, mass = (np.concatenate(parts) for parts in zip(*ended, (got, p), strict=True))
    return law(x, mass / mass.sum())


def _steps(problem: StockProblem, size: float, left: float) -> int:
    if problem.horizon is not None:
        return problem.horizon
    gamma = float(problem.gamma)
    if not 0 <= gamma < 1:
        raise DiscountError(f"gamma = {gamma}; an episode without horizon needs gamma in [0, 1)")
    return 1 if gamma == 0 else int(np.ceil(np.log(left / size) / np.log(gamma))) + 1


def _merge(s: Any, got: Any, p: Any, memory: Any, discount: float, step: float) -> tuple[Any, Any, Any, Any]:
    """Outcomes that agree, as one; a memory is compared in the units of the start."""
    columns = [s[:, None], np.rint(got / step).reshape(len(s), -1)]
    if memory is not None:
        columns.append(np.rint(discount * memory.astype(float) / step).reshape(len(s), -1))
    _, first, group = np.unique(np.concatenate(columns, -1), axis=0, return_index=True, return_inverse=True)
    mass = np.bincount(group.ravel(), p)
    return s[first], got[first], mass, None if memory is None else memory[first]
