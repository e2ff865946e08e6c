"""Distributional policy iteration on a grid of stocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polytheory.algorithm import Info
from polytheory.models.stock_grid import carried
from polytheory.reference.distributional.representations import TIE, best_actions
from polytheory.reference.distributional.sweeps import StockState, info, look_ahead, settle, start_value
from polytheory.reference.distributional.value_iteration import DistributionalValueIteration, setup

STILL = 0.1  # share of tol to which the laws of a policy are swept


@dataclass(frozen=True)
class DistributionalPolicyIteration(DistributionalValueIteration):
    """Find the laws of a policy, act greedily one step ahead of them, and so on [pires2025].

    One step evaluates the policy (all stages, or sweeps until ``tol / 10``) and improves it. Guarantee: values never fall;
    with horizon H the policy is optimal after at most H improvements. A discounted problem ends when no value could gain, or
    has gained, more than ``tol``. Fields as in `DistributionalValueIteration`; the first policy takes action 0.
    """

    def step(self, state: StockState, access: Any) -> tuple[StockState, Info]:
        """Evaluate and improve; `done` after an improvement that changed no value."""
        problem, judge, grid = setup(self, access)
        stages = range(problem.horizon or 1)
        eta, v, improved = state.eta.copy(), state.v.copy(), state.actions.copy()
        left = 0.0 if state.has_horizon else state.contraction
        while left > STILL * self.tol:
            ahead = look_ahead(problem, judge, grid, eta[0], 0, self.clock)
            eta[0], v[0] = settle(problem, grid, ahead, state.actions[0])
            access.meter.add("backups", v[0].size * problem.A)
            left *= float(problem.gamma)
        gain = bound = 0.0
        for h in reversed(stages):
            ahead = look_ahead(problem, judge, grid, eta[h + state.has_horizon], h, self.clock)
            improved[h] = best_actions(ahead[2])
            eta[h], v[h] = settle(problem, grid, ahead, state.actions[h])
            best = ahead[2].max(-1)
            gain = max(gain, float(np.max((best - v[h]) / (1 + np.abs(best)))))
            bound = carried(problem, judge, grid, bound, h, float(np.max(np.abs(best))), self.clock)
            access.meter.add("backups", v[h].size * problem.A)
        # grid errors may let policies of one value follow each other for ever
        risen = float(np.max(v - state.v)) > self.tol or not state.sweeps
        stands = gain <= (2 * TIE if state.has_horizon else self.tol) or not (risen or state.has_horizon)
        initial, value = start_value(problem, judge, grid, eta[0], v[0])
        after = replace(
            state, eta=eta, v=v, actions=state.actions if stands else improved, sweeps=state.sweeps + 1,
            initial=initial, value=value,
        )  # fmt: skip
        if stands:
            total = bound if state.has_horizon else (gain + 2 * bound + left) / (1 - float(problem.gamma))
            after = replace(after, bound=total, stage=0, contraction=0.0)
        return after, {**info(after), "gain": gain}
