"""Solve a demonstration with the reference, and keep what a figure needs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.catalog import find
from polytheory.lab.exact import policy_tables
from polytheory.lab.records import Curve, DemoRecord, GridValues, Level, Lockstep, Series
from polytheory.lab.summary import ORACLE_TOL
from polytheory.models import GridLayout, TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.claims import Demo, Room
from polytheory.proofs_check.runner import access_for, lockstep

REPLICAS = 8  # of the scaled runs that give a learner's band
POINTS = 40  # of a learning curve: each is an exact evaluation of the policy
FEW = 8  # states that are shown in a row when the model has no grid
SHOWN = 160  # points of any other curve


def solve_demo(method: str, demo: Demo) -> DemoRecord:
    """Run a demonstration in the reference and compare the rooms step by step.

    A method that certifies shows its error bound over sweeps; a learner shows the exact return of its policy over
    episodes, with a band over replicas that the scaled version runs on other random numbers.
    """
    from polytheory.reference.planning.planning import evaluate, return_of, solve

    start = time.perf_counter()
    access = access_for(demo)
    model = access._model
    best = solve(model, tol=ORACLE_TOL)
    optimum = float(model.mu @ (best.v if model.horizon is None else best.v[0]))
    room = Room("reference", find(method).family, method)
    settings = demo.settings_for(room, model)
    seen = _Recorder(room.make(demo.algorithm, **settings), model, demo.steps)
    end = seen.run(access)
    if hasattr(end.policy, "mean_returns"):  # a policy with memory is no table over states: it has no grid of values
        value, grid = end.policy.mean_returns(model)[0], None
        bound = None  # its certificate speaks of its own objective, not of the mean return
    else:
        policy = TabularPolicy(policy_tables(end.policy, model, 1)[0])
        v = evaluate(model, policy).v
        value, grid = return_of(model, policy), grid_values(model, v if v.ndim == 1 else v[0], policy)
        bound = float(end.state.bound) if hasattr(end.state, "bound") else None
    if "bound" in end.history.names:
        own = find(method).family != "planning"  # another problem: the nominal optimum is no oracle of its values
        curve = _certified_curve(end.history, seen, model, None if own else best)
    else:
        curve = _learning_curve(method, demo, seen, model, optimum)
    return DemoRecord(
        environment=demo.environment, model=model.name, S=model.S, A=model.A, gamma=model.gamma, horizon=model.horizon,
        algorithm=demo.algorithm, access=demo.access, settings=_settings(seen.made), steps=end.steps,
        status=str(end.status), value=value, optimum=optimum,
        bound=bound,
        **{name: end.meter.total(name) for name in ("episodes", "transitions", "backups")},
        curve=curve, grid=grid, lockstep=compare(method, demo),
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def compare(method: str, demo: Demo) -> Lockstep:
    """`lockstep` as a record."""
    r = lockstep(method, demo)
    error = r.error if np.isfinite(r.error) else None
    return Lockstep(error, r.tolerance, r.steps, r.replicas, list(r.fields), r.worst, r.holds)


def grid_values(model: TabularMDP, v: Float[np.ndarray, " S"], policy: TabularPolicy) -> GridValues | None:
    """Values ``v`` and the policy on the model's grid, a few states in one row, or None for a larger model without grid."""
    if model.grid is None and model.S > FEW:
        return None
    grid = model.grid or GridLayout(1, model.S, tuple(f"a{i}" for i in range(model.A)))
    cells = grid.rows * grid.columns
    table = model.successors
    into = np.zeros(model.S, dtype=bool)
    into[table.next_state[table.reward > 0]] = True
    return GridValues(
        rows=grid.rows, columns=grid.columns, values=v[:cells].tolist(),
        policy=policy.at(0)[:cells].tolist(), arrows=list(grid.arrows), ends=model.terminal[:cells].tolist(),
        goals=(model.terminal & into)[:cells].tolist(), starts=(model.mu > 0)[:cells].tolist(),
    )  # fmt: skip


class _Recorder:
    """Runs an algorithm and looks at it: values at every step for planners, returns at some steps for learners."""

    def __init__(self, made: Any, model: TabularMDP, steps: int | None, replicas: int = 1, torch: bool = False):
        self.made, self.model, self.steps, self.replicas, self.torch = made, model, steps, replicas, torch
        self.marks = set() if steps is None else {int(x) - 1 for x in np.geomspace(1, steps, POINTS).round()}
        self.values: list[np.ndarray] = []
        self.samples: list[float] = []
        self.returns: list[np.ndarray] = []
        self.unit = "steps"

    def run(self, access: Any) -> Any:
        from polytheory.run import run

        self.access = access
        return run(self.made, access, steps=self.steps, callbacks=[self.look], progress=False)

    def look(self, state: Any, info: Any, step: int) -> None:
        if "bound" in info:
            self.values.append(np.asarray(state.v))
        elif step in self.marks:
            from polytheory.reference.planning.planning import return_of

            tables = policy_tables(self.made.policy(state), self.model, self.replicas, torch=self.torch)
            self.returns.append(np.array([return_of(self.model, TabularPolicy(x)) for x in tables]))
            meter = self.access.meter
            self.unit = next((name for name in ("episodes", "transitions") if meter.total(name)), "steps")
            counts = getattr(meter, self.unit) if self.unit != "steps" else np.array([step + 1])
            self.samples.append(float(np.mean(counts)))


def _certified_curve(history: Any, seen: _Recorder, model: TabularMDP, best: Any) -> Curve:
    bound = history.column("bound")[:, 0]
    sweeps = history.column("sweeps")[:, 0] if "sweeps" in history.names else np.arange(1, len(bound) + 1)
    keep = np.unique(np.linspace(0, len(bound) - 1, SHOWN).round().astype(int))
    k = sweeps[keep]
    series = [Series("certified bound", k.tolist(), _numbers(bound[keep]))]
    right, off = (seen.values[-1], bound[-1]) if best is None else (best.v, best.bound)
    if seen.values[0].shape == right.shape:
        error = np.array([np.max(np.abs(seen.values[i] - right)) for i in keep])
        told = error > off  # below that it is not the method's error but may be the oracle's
        label = "distance to the last value" if best is None else "true error"
        series.append(Series(label, k.tolist(), _numbers(np.where(told, error, np.nan))))
    rate = bound[0] * model.gamma ** (k - k[0])
    series.append(Series("γᵏ times the first bound", k.tolist(), _numbers(rate), dashed=True))
    return Curve(
        title="Certified error against sweeps", x_label="Bellman sweeps k", y_label="max |v − V*|", series=series,
        log_y=True,
        caption="The bound is what the method itself can promise at sweep k, rounding included; the true error never "
        "exceeds it. Dashed: the rate at which the contraction theorem makes value iteration's bound fall at least.",
    )  # fmt: skip


def _learning_curve(method: str, demo: Demo, seen: _Recorder, model: TabularMDP, optimum: float) -> Curve:
    room = Room("scaled", find(method).family, method)
    made = room.make(demo.algorithm, **demo.settings_for(room, model))
    many = _Recorder(made, model, demo.steps, REPLICAS, torch=True)
    many.run(access_for(demo).replicate(REPLICAS))
    returns = np.stack(many.returns)
    low, middle, high = np.quantile(returns, [0.1, 0.5, 0.9], axis=1)
    return Curve(
        title=f"Exact return against {seen.unit}", x_label=f"{seen.unit} per replica", y_label="return J(π)",
        series=[
            Series(f"median of {REPLICAS} replicas (scaled), band: 10 % to 90 %", many.samples, _numbers(middle),
                   _numbers(low), _numbers(high)),
            Series("the reference's run (replica 0)", seen.samples, _numbers(np.stack(seen.returns)[:, 0]), dashed=True),
        ],
        levels=[Level("optimum J*", optimum)], log_x=True,
        caption="Every point is the exact expected return of the policy at that moment, from the model and not from "
        "samples: the spread comes from learning alone.",
    )  # fmt: skip


def _numbers(x: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in x]


def _settings(made: Any) -> dict[str, str]:
    import dataclasses

    return {f.name: _short(getattr(made, f.name)) for f in dataclasses.fields(made)}


def _short(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"array {list(x.shape)}"
    if isinstance(x, float):
        return f"{x:.6g}"
    return str(x) if x is None or isinstance(x, bool | int | str) else type(x).__name__
