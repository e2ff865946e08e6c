"""What a study records of a run, and when.

Rows are recorded after 1, 2, 3, ... steps on a grid that is the same for every budget, and at the last step; exact measures
also before the first. A row holds what the step reported and the exact measures of the policy (or state) after it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.history import History
from polytheory.lab.exact import Oracle, policy_tables

COUNTS = ("episodes", "transitions", "backups")  # of the meter, in every row
IN_EVERY_ROW = ("study", "method", "algorithm", "environment", "budget", "room", "seed", "step", *COUNTS)


@dataclass(eq=False)
class Look:
    """A run at one moment, for a measure to look at.

    Fields: ``oracle`` knows the model; ``algorithm`` and its ``state``; ``replicas`` n; ``scaled`` True where the state holds
    tensors with a leading replica axis.
    """

    oracle: Oracle
    algorithm: Any
    state: Any
    replicas: int
    scaled: bool

    @cached_property
    def tables(self) -> Float[np.ndarray, "n *H S A"]:
        """Action probabilities of each replica's policy."""
        policy = self.algorithm.policy(self.state)
        return policy_tables(policy, self.oracle.model, self.replicas, torch=self.scaled)

    @cached_property
    def returns(self) -> Float[np.ndarray, " n"]:
        """Exact return of each replica's policy."""
        return self.oracle.returns(self.tables)

    @property
    def suboptimality(self) -> Float[np.ndarray, " n"]:
        """``J* - J(pi)``; below zero by rounding at most."""
        return self.oracle.optimum - self.returns

    def field(self, name: str) -> np.ndarray:
        """A field of the state as [n, ...]."""
        x = getattr(self.state, name)
        return x.numpy(force=True) if self.scaled else np.asarray(x)[None]


def value_error(look: Look) -> Float[np.ndarray, " n"]:
    """``max |v - V*|`` of the values ``v`` in the state."""
    v = look.field("v")
    return np.abs(v - look.oracle.v_star).reshape(look.replicas, -1).max(-1)


EXACT: Mapping[str, Callable[[Look], np.ndarray]] = {
    "suboptimality": lambda look: look.suboptimality,
    "value": lambda look: look.returns,
    "value_error": value_error,
}
REGRET = "regret"  # sum over the episodes so far of the suboptimality of the policy before their step


def measure_named(name: str) -> Callable[[Look], np.ndarray] | None:
    """The exact measure of a name, or of ``package.module:function``; None for something that the steps report.

    Raises `SettingError` for a function that does not exist, and for a name that every row has.
    """
    if name in IN_EVERY_ROW:
        raise SettingError(f"measure {name!r}: every row says it; leave it out")
    if ":" not in name:
        return EXACT.get(name)
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingError(f"measure {name!r}: {error}; write package.module:function") from error


class Recorder:
    """A callback of `polytheory.run.run` that keeps the rows of a study.

    Args:
        measure: names of what to record.
        density: rows for a tenfold of steps.
        look: the run before its first step.
        access: whose meter is read.
    """

    def __init__(self, measure: Sequence[str], density: int, look: Look, access: Any):
        self.exact = {name: f for name in measure if (f := measure_named(name)) is not None}
        self.reported = [name for name in measure if name not in self.exact and name != REGRET]
        self.look, self.meter, self.grid = look, access.meter, Grid(density)
        self.history = History(look.replicas)
        self.steps: list[int] = []
        self.sums = REGRET in measure
        self.regret, self.gap = np.zeros(look.replicas), look.suboptimality if self.sums else None
        self.episodes = self.meter.episodes.copy()
        self.last: Mapping[str, Any] = {}
        if self.exact or self.sums:
            self._record(0, {})

    def __call__(self, state: Any, info: Mapping[str, Any], step: int) -> None:
        """See a step, counted from 0, that has been made.

        Raises `UnknownNameError` at the first one for a measure that the method does not report.
        """
        self.look = Look(self.look.oracle, self.look.algorithm, state, self.look.replicas, self.look.scaled)
        self.last = info
        if self.sums:
            now = self.meter.episodes.copy()
            self.regret = self.regret + self.gap * (now - self.episodes)
            self.episodes, self.gap = now, self.look.suboptimality
        if self.grid.holds(step + 1):
            self._record(step + 1, info)
        if step == 0:
            reports = [name for name in self.history.names if not name.startswith("meter/")]
            for name in self.reported:
                if name not in reports:
                    raise UnknownNameError("measure", name, {*reports, *EXACT, REGRET})

    def columns(self, steps: int) -> dict[str, np.ndarray]:
        """Everything recorded by the end of a run of that many steps: arrays [rows, n], NaN where a row lacks a value."""
        if not self.steps or self.steps[-1] != steps:
            self._record(steps, self.last)
        return {name: self._column(name) for name in (*self.exact, *([REGRET] * self.sums), *self.reported)} | {
            name: self._column(f"meter/{name}").astype(np.int64) for name in COUNTS
        }

    def _column(self, name: str) -> np.ndarray:
        out = np.full((len(self.steps), self.look.replicas), np.nan)
        if name in self.history.names:
            out[np.searchsorted(self.steps, self.history.steps(name))] = self.history.column(name)
        return out

    def _record(self, step: int, info: Mapping[str, Any]) -> None:
        exact = {name: f(self.look) for name, f in self.exact.items()}
        sums = {REGRET: self.regret} if self.sums else {}
        counts = {f"meter/{name}": getattr(self.meter, name) for name in COUNTS}
        self.steps.append(step)
        self.history.log(step, {**info, **exact, **sums, **counts})


class Grid:
    """Step counts 1, 2, 3, ... that grow by the factor ``10^(1/density)``, rounded: which rows are kept."""

    def __init__(self, density: int):
        self.density, self.i, self.next = density, 0, 1

    def holds(self, step: int) -> bool:
        """Whether a step is kept; asked in ascending order."""
        if step < self.next:
            return False
        while self.next <= step:
            self.i += 1
            self.next = round(10 ** (self.i / self.density))
        return True
