"""Distributional policy iteration on a grid of stocks, in torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from polytheory.algorithm import Info
from polytheory.models.stock_grid import carried
from polytheory.scaled.distributional.representations import TIE, best_actions
from polytheory.scaled.distributional.sweeps import StockState, info, look_ahead, replicated, settle, start_value
from polytheory.scaled.distributional.value_iteration import DistributionalValueIteration, setup

STILL = 0.1  # share of tol to which the laws of a policy are swept


@dataclass(frozen=True)
class DistributionalPolicyIteration(DistributionalValueIteration):
    """Find the laws of a policy, act greedily one step ahead of them, and so on; see the reference for the theorem."""

    def step(self, state: StockState, access: Any) -> tuple[StockState, Info]:
        """Evaluate and improve; `done` after an improvement that changed no value."""
        problem, judge, grid = setup(self, access)
        eta, v, taken = state.eta[0].clone(), state.v[0].clone(), state.actions[0]
        improved = taken.clone()
        left = 0.0 if state.has_horizon else float(state.contraction[0])
        while left > STILL * self.tol:
            ahead = look_ahead(problem, judge, grid, eta[0], 0, self.clock)
            eta[0], v[0] = settle(problem, grid, ahead, taken[0])
            access.meter.add("backups", v[0].numel() * problem.A)
            left *= float(problem.gamma)
        gain = bound = 0.0
        for h in reversed(range(problem.horizon or 1)):
            ahead = look_ahead(problem, judge, grid, eta[h + state.has_horizon], h, self.clock)
            improved[h] = best_actions(ahead[2])
            eta[h], v[h] = settle(problem, grid, ahead, taken[h])
            best = ahead[2].amax(-1)
            gain = max(gain, float(((best - v[h]) / (1 + best.abs())).max()))
            bound = carried(problem, judge, grid, bound, h, float(best.abs().max()), self.clock)
            access.meter.add("backups", v[h].numel() * problem.A)
        # grid errors may let policies of one value follow each other for ever
        risen = float((v - state.v[0]).max()) > self.tol or not state.sweeps
        stands = gain <= (2 * TIE if state.has_horizon else self.tol) or not (risen or state.has_horizon)
        put = lambda x: replicated(access.replicas, x, access.device)  # noqa: E731
        initial, value = start_value(problem, judge, grid, eta[0], v[0])
        after = replace(
            state, eta=put(eta), v=put(v), actions=state.actions if stands else put(improved), sweeps=state.sweeps + 1,
            initial=put(initial), value=put(value),
        )  # fmt: skip
        if stands:
            total = bound if state.has_horizon else (gain + 2 * bound + left) / (1 - float(problem.gamma))
            after = replace(after, bound=put(total), stage=0, contraction=put(0.0))
        return after, {**info(after), "gain": gain}
