"""What a learner may ask of a world."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from polytheory._typing import Array, Float, Int
from polytheory.errors import AccessError


class Grant(Enum):
    """One thing that may be asked."""

    MODEL = "read the model itself"
    SAMPLE = "sample a transition from any state and action"
    LOCAL_RESET = "start an episode from a state visited before"
    MU_RESET = "start an episode from an exploratory reset distribution"
    EPISODE = "run an episode from the start distribution"
    DATA = "read a fixed data set"


@dataclass(frozen=True, eq=False)
class Spec:
    """What every learner may know: sizes, horizon, discount, reward range, and the rewards when they are public.

    ``S`` and ``A`` are None where states or actions cannot be counted.
    """

    S: int | None
    A: int | None
    horizon: int | None
    gamma: float
    reward_range: tuple[float, float]
    r: Float[np.ndarray, "*H S A"] | None = None
    name: str = ""


class Key(NamedTuple):
    """Names a stream of random numbers: seed of the run, purpose, iteration (see `polytheory.streams`)."""

    seed: int
    purpose: str
    step: int


@dataclass(frozen=True, eq=False)
class Requests:
    """Which episodes to sample.

    Fields:
        row_id: int64 [n], the identity that each row's random numbers hang on (`streams.row_ids`). With several replicas
            rows are ordered replica-major and n is a multiple of the number of replicas.
        truncation: cut an episode after this many steps (a sampling cut-off, not the horizon of the model).
        start: start states [n]; None draws them from the start distribution.
        group: [n] group ids carried into the trajectories, or None.
        replica: [n] which replica asks, where replicas ask for different numbers of episodes; None: equal shares in order.
    """

    row_id: Int[Array, " n"]
    truncation: int
    start: Int[Array, " n"] | None = None
    group: Int[Array, " n"] | None = None
    replica: Int[Array, " n"] | None = None


class Meter:
    """Counts what was asked: int64 arrays of shape [replicas] for episodes, transitions, resets, backups."""

    NAMES = ("episodes", "transitions", "resets", "backups")

    def __init__(self, replicas: int = 1):
        self.replicas = replicas
        self.counts = {name: np.zeros(replicas, dtype=np.int64) for name in self.NAMES}

    def __repr__(self) -> str:
        return "Meter(" + ", ".join(f"{name}={self.total(name)}" for name in self.NAMES) + ")"

    def add(self, name: str, amount: int | Int[np.ndarray, " replicas"]) -> None:
        """Add ``amount`` (one number for all replicas, or one each) to a counter."""
        self.counts[name] += np.asarray(amount, dtype=np.int64)

    def __getattr__(self, name: str) -> Int[np.ndarray, " replicas"]:
        if name in Meter.NAMES:
            return self.counts[name]
        raise AttributeError(name)

    def total(self, name: str) -> int:
        """Sum over replicas."""
        return int(self.counts[name].sum())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the counters, for checkpoints."""
        return {name: x.copy() for name, x in self.counts.items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore counters saved by `state_dict`."""
        self.counts = {name: np.asarray(state[name], dtype=np.int64).copy() for name in self.NAMES}


def check_grants(requires: Iterable[Grant], grants: frozenset[Grant], who: str, access: str) -> None:
    """Raise `AccessError` naming what is missing unless ``requires`` is within ``grants``."""
    missing = [g for g in Grant if g in frozenset(requires) and g not in grants]
    if missing:
        what = "; ".join(f"{g.name} ({g.value})" for g in missing)
        from polytheory.access import NAMED

        fits = [name for name, cls in NAMED.items() if frozenset(requires) <= cls.grants]
        raise AccessError(
            f"{who} requires {what}, which {access} does not grant; use one of: {', '.join(fits) or 'none'}"
        )
