"""The order of the steps of distributional value and policy iteration on a grid; each room brings its arrays.

``sweeps`` is the room's module of that name: `start`, `look_ahead`, `settle`, `best_actions` and `start_value` are the
method's parts, `opened` and `closed` lead into a state and out of it.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from polytheory.algorithm import Info
from polytheory.distributional.constants import TIE
from polytheory.distributional.settings import StockSettings
from polytheory.models.stock_grid import carried

STILL = 0.1  # share of tol to which the laws of a policy are swept


class ValueIteration(StockSettings):
    """One sweep a step: of the stage before the one swept last, or of the only one."""

    sweeps: ClassVar[Any]

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> Any:
        """Returns of 0 everywhere."""
        problem, judge, grid = self.setup(access)
        return self.sweeps.start(problem, judge, grid, access, self.clock)

    def step(self, state: Any, access: Any) -> tuple[Any, Info]:
        """Sweep; nothing is left to do after stage 0."""
        if state.has_horizon and state.stage == 0:
            return state, info(state)
        parts, (problem, judge, grid) = self.sweeps, self.setup(access)
        h = max(state.stage - 1, 0)
        eta, v, actions, bound, contraction = parts.opened(state)
        ahead = parts.look_ahead(problem, judge, grid, eta[h + state.has_horizon], h, self.clock)
        actions[h] = parts.best_actions(ahead[2])
        eta[h], v[h] = parts.settle(problem, grid, ahead, actions[h])
        access.meter.add("backups", math.prod(v[h].shape) * problem.A)
        initial, value = parts.start_value(problem, judge, grid, eta[0], v[0])
        after = parts.closed(
            state, access, eta=eta, v=v, actions=actions, sweeps=state.sweeps + 1, stage=h,
            bound=carried(problem, judge, grid, bound, h, float(abs(v[h]).max()), self.clock),
            contraction=float(problem.gamma) * contraction, initial=initial, value=value,
        )  # fmt: skip
        return after, info(after)

    def policy(self, state: Any) -> Any:
        """The greedy policy, which remembers its stock, from the best initial stock."""
        return self.sweeps.policy_of(state, self.rewards)

    def done(self, state: Any) -> bool:
        """True when all stages are swept, or more sweeps would change no value by more than ``tol``."""
        return self.sweeps.finished(state, self.tol)


class PolicyIteration(ValueIteration):
    """One evaluation and one improvement a step."""

    def step(self, state: Any, access: Any) -> tuple[Any, Info]:
        """Evaluate and improve; `done` after an improvement that changed no value."""
        parts, (problem, judge, grid) = self.sweeps, self.setup(access)
        eta, v, taken, _, left = parts.opened(state)
        start, improved = parts.opened(state)[1:3]
        left = 0.0 if state.has_horizon else left
        while left > STILL * self.tol:
            ahead = parts.look_ahead(problem, judge, grid, eta[0], 0, self.clock)
            eta[0], v[0] = parts.settle(problem, grid, ahead, taken[0])
            access.meter.add("backups", math.prod(v[0].shape) * problem.A)
            left *= float(problem.gamma)
        gain = bound = 0.0
        for h in reversed(range(problem.horizon or 1)):
            ahead = parts.look_ahead(problem, judge, grid, eta[h + state.has_horizon], h, self.clock)
            improved[h] = parts.best_actions(ahead[2])
            eta[h], v[h] = parts.settle(problem, grid, ahead, taken[h])
            best = parts.best_values(ahead[2])
            gain = max(gain, float(((best - v[h]) / (1 + abs(best))).max()))
            bound = carried(problem, judge, grid, bound, h, float(abs(best).max()), self.clock)
            access.meter.add("backups", math.prod(v[h].shape) * problem.A)
        # grid errors may let policies of one value follow each other for ever
        risen = float((v - start).max()) > self.tol or not state.sweeps
        stands = gain <= (2 * TIE if state.has_horizon else self.tol) or not (risen or state.has_horizon)
        initial, value = parts.start_value(problem, judge, grid, eta[0], v[0])
        after = parts.closed(
            state, access, eta=eta, v=v, actions=taken if stands else improved, sweeps=state.sweeps + 1, initial=initial,
            value=value,
        )  # fmt: skip
        if stands:
            total = bound if state.has_horizon else (gain + 2 * bound + left) / (1 - float(problem.gamma))
            after = parts.closed(after, access, bound=total, stage=0, contraction=0.0)
        return after, {**info(after), "gain": gain}


def info(state: Any) -> dict[str, Any]:
    """What a step logs, numbers or arrays over replicas: ``value``, ``initial`` (where it is one number), ``bound``,
    ``contraction``, ``sweeps``."""
    names = ("value", "initial", "bound", "contraction", "sweeps")
    return {name: getattr(state, name) for name in names if name != "initial" or state.stocks_are_numbers}
