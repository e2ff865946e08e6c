"""Policy iteration with exact evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.bellman import greedy_actions, q_values, restrict, sweep_rounding
from polytheory.reference.planning.certificate import (
    PlanningState,
    certified,
    check_settings,
    facts,
    greedy_policy,
    info,
    residual_certificate,
    start,
)
from polytheory.reference.planning.evaluation import solve_linear


@dataclass(frozen=True, eq=False)
class PolicyState(PlanningState):
    """`PlanningState`, and the deterministic policy of which ``v`` is the value.

    Fields: ``actions`` [S] int64; ``settled`` True when the last improvement changed no action: nothing more will happen.
    """

    actions: Int[np.ndarray, " S"]
    settled: bool


@dataclass(frozen=True)
class PolicyIteration:
    """Evaluate the policy exactly, improve it greedily, repeat.

    Setting: finite discounted MDP.
    Guarantee: values never fall, and a policy that no improvement changes is optimal; as there are finitely many
    policies the method ends [howard1960; puterman2005, Thm. 6.4.2]. An action is replaced only where the gain exceeds
    what rounding could feign, so that the argument holds in floating point as well.

    Fields:
        tol: wanted ``max |v - V*|``, >= 0, in units of the value.
    """

    tol: float = 1e-6

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> PolicyState:
        """Zero values, no policy yet (action 0 everywhere)."""
        zero = start(access, "PolicyIteration")
        return PolicyState(**vars(zero), actions=np.zeros(zero.v.size, dtype=np.int64), settled=False)

    def step(self, state: PolicyState, access: Any) -> tuple[PolicyState, Info]:
        """Improve the policy by the last ``q`` (the first one is greedy in r), then evaluate it exactly."""
        model = access.model
        if state.sweeps:
            actions = improve(state.q, state.actions, gain=feigned_gain(model, state))
        else:
            actions = greedy_actions(model.r_at())
        P_pi, r_pi = restrict(model.P_at(), model.r_at(), actions)
        v = solve_linear(P_pi, r_pi, gamma=model.gamma)
        q = q_values(model.P_at(), model.r_at(), v, gamma=model.gamma)
        bound, rounding = residual_certificate(model, v, q)
        access.meter.add("backups", model.S * model.A)
        settled = bool(state.sweeps) and np.array_equal(actions, state.actions)
        after = PolicyState(v, q, bound, rounding, state.sweeps + 1, actions, settled)
        return after, info(after) | {"switches": float(np.sum(actions != state.actions))}

    def policy(self, state: PolicyState) -> TabularPolicy:
        """Greedy in the last ``q``: at least as good as ``state.actions``, loses at most ``2 * state.bound``."""
        return greedy_policy(state.q)

    def done(self, state: PolicyState) -> bool:
        """True when ``bound <= tol``; `NotSolvedError` when float64 can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol, final=state.settled)


def improve(q: Float[np.ndarray, "S A"], actions: Int[np.ndarray, " S"], *, gain: float) -> Int[np.ndarray, " S"]:
    """The greedy policy of q, which keeps an action unless another one is better by more than ``gain``."""
    kept = q[np.arange(actions.size), actions]
    return np.where(np.max(q, axis=-1) > kept + gain, greedy_actions(q), actions)


def feigned_gain(model: Any, state: PolicyState) -> float:
    """The largest advantage of an action that rounding alone could produce in ``state.q``.

    Two entries of q are compared, each off by one sweep's rounding and by ``gamma`` times the error of v, which is at
    most the residual of its own policy over ``1 - gamma``.
    """
    known = facts(model)
    size = float(np.max(np.abs(state.v)))
    local = sweep_rounding(size, known.reward, gamma=model.gamma, terms=known.terms)
    own = state.q[np.arange(state.v.size), state.actions]
    residual = float(np.max(np.abs(own - state.v))) + local
    return 2 * local + 2 * model.gamma * residual / (1 - model.gamma)
